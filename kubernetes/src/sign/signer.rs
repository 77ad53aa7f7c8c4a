//! Requests of one kind: watched, and handed out to a few at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use tokio::task::JoinSet;

use super::kind::Kind;
use super::request::Signed;
use super::work::{Desk, Outcome, Place, Scope};
use crate::api::{self, ApiError};
use crate::board::Part;
use crate::world::World;

/// Requests at a time.
const AT_A_TIME: usize = 8;
/// Requests that are known at a time: further ones are listed again when these are done.
const KNOWN_MAX: usize = 10_000;
/// Pauses after what failed for now, and after what somebody has to mend.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
const RETRY_WHEN_MENDED: Duration = Duration::from_secs(60);
/// Pause before it is looked again whether the cluster has the kind.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What signs requests of one kind.
pub(crate) struct Signer {
    world: World,
    kind: Kind,
    scope: Arc<Scope>,
    part: Part,
    signed: u64,
}

/// Requests that are open, by UID.
#[derive(Default)]
struct Open {
    known: BTreeMap<String, Entry>,
    /// Those whose turn it is.
    queue: VecDeque<String>,
    /// There were more than are kept.
    more: bool,
}

struct Entry {
    place: Place,
    tries: u32,
    kept: Option<Signed>,
    trouble: Option<String>,
}

impl Signer {
    pub(crate) fn new(world: World, kind: Kind, scope: Scope) -> Self {
        let part = world.board.part(kind.part());
        Self { world, kind, scope: Arc::new(scope), part, signed: 0 }
    }

    pub(crate) async fn run(mut self) {
        let stop = self.world.stop.clone();
        Box::pin(stop.run_until_cancelled(self.work())).await;
    }

    async fn work(&mut self) {
        let mut leading = self.world.leading.clone();
        loop {
            if !leading.works() {
                self.part.ready(leading.waiting());
                leading.changed().await;
                continue;
            }
            let (plural, versions) = self.kind.resource();
            let names = [self.kind.group(), self.kind.name(), plural];
            match api::best(&self.world.client, names, versions).await {
                Ok(Some(resource)) => self.session(resource).await,
                Ok(None) => {
                    self.part.stuck(format!(
                        "this cluster has no {}: {}, or remove [{}]",
                        self.kind.name(),
                        self.kind.advice(),
                        self.kind.section()
                    ));
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => {
                    self.part.stuck(error.to_string());
                    tokio::time::sleep(RETRY_FIRST).await;
                }
            }
        }
    }

    /// Signs until another process does.
    async fn session(&mut self, resource: ApiResource) {
        let objects = Api::<DynamicObject>::all_with(self.world.client.clone(), &resource);
        let mut news = watch(objects, watcher::Config::default()).default_backoff().boxed();
        let (world, kind, scope) = (self.world.clone(), self.kind, Arc::clone(&self.scope));
        let desk = Arc::new(Desk { world, kind, scope, resource });
        let mut leading = self.world.leading.clone();
        let mut open = Open::default();
        // Both end with the session.
        let (mut busy, mut pauses) = (JoinSet::new(), JoinSet::new());
        while leading.works() {
            while busy.len() < AT_A_TIME
                && let Some((uid, place, kept)) = open.next()
            {
                let desk = Arc::clone(&desk);
                busy.spawn(async move { (uid, desk.attempt(&place, kept).await) });
            }
            tokio::select! {
                Some(event) = news.next() => self.heard(event, &mut open),
                Some(done) = busy.join_next() => {
                    // It ended with a panic, which was told: a new list brings its request again.
                    let Ok((uid, outcome)) = done else { return };
                    if let Some(pause) = self.concluded(&uid, outcome, &mut open) {
                        pauses.spawn(async move {
                            tokio::time::sleep(pause).await;
                            uid
                        });
                    }
                    self.say(&open);
                }
                Some(Ok(uid)) = pauses.join_next() => open.queue.push_back(uid),
                () = leading.changed() => {}
            }
            if open.more && open.known.is_empty() {
                return;
            }
        }
    }

    fn heard(&self, event: Result<Event<DynamicObject>, watcher::Error>, open: &mut Open) {
        match event {
            Ok(Event::Init) => {}
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                if self.kind.is_open(&object, &self.scope.signers) {
                    open.add(&object);
                }
            }
            Ok(Event::InitDone) => self.say(open),
            // Whoever has it in hand finds that it is gone.
            Ok(Event::Delete(_)) => {}
            Err(
                watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error),
            ) => self.part.stuck(ApiError::from(error).to_string()),
            Err(other) => tracing::info!(%other, kind = self.kind.name(), "a watch was lost"),
        }
    }

    /// Answers with the pause before it is tried again, if it is.
    fn concluded(&mut self, uid: &str, outcome: Outcome, open: &mut Open) -> Option<Duration> {
        let kind = self.kind.name();
        let (why, passing, kept) = match outcome {
            Outcome::Later { why, passing, kept } => (why, passing, kept),
            over => {
                let entry = open.known.remove(uid)?;
                let Place { namespace, name, .. } = &entry.place;
                match over {
                    Outcome::Signed => {
                        self.signed += 1;
                        self.world.metrics.signed(kind, "signed");
                        tracing::debug!(kind, namespace, name, "signed");
                    }
                    Outcome::Refused(why) => {
                        self.world.metrics.signed(kind, "refused");
                        tracing::info!(kind, namespace, name, why, "a request was refused");
                    }
                    Outcome::Nothing | Outcome::Later { .. } => {}
                }
                return None;
            }
        };
        self.world.metrics.signed(kind, "later");
        let entry = open.known.get_mut(uid)?;
        entry.trouble = Some(why);
        entry.kept = kept;
        let pause = match passing {
            true => RETRY_FIRST.saturating_mul(1 << entry.tries.min(5)).min(RETRY_MAX),
            false => RETRY_WHEN_MENDED,
        };
        entry.tries = entry.tries.saturating_add(1);
        Some(pause)
    }

    fn say(&self, open: &Open) {
        let troubled = open.known.values().find_map(|entry| {
            entry.trouble.as_ref().map(|trouble| format!("{}: {trouble}", entry.place.name))
        });
        match troubled {
            Some(trouble) => self.part.stuck(trouble),
            None => {
                let requests =
                    trust::plain::counted(open.known.len(), "request is", "requests are");
                self.part.ready(format!("{requests} open, {} signed since the start", self.signed));
            }
        }
    }
}

impl Open {
    fn add(&mut self, object: &DynamicObject) {
        let Some(uid) = object.uid().filter(|uid| !self.known.contains_key(uid)) else { return };
        if self.known.len() >= KNOWN_MAX {
            self.more = true;
            return;
        }
        let (namespace, name) = (object.namespace(), object.name_any());
        let place = Place { namespace, name, uid: uid.clone() };
        self.known.insert(uid.clone(), Entry { place, tries: 0, kept: None, trouble: None });
        self.queue.push_back(uid);
    }

    /// The next one whose turn it is. It has no other turn until it is put into the queue again.
    fn next(&mut self) -> Option<(String, Place, Option<Signed>)> {
        loop {
            let uid = self.queue.pop_front()?;
            if let Some(entry) = self.known.get_mut(&uid) {
                return Some((uid, entry.place.clone(), entry.kept.take()));
            }
        }
    }
}
