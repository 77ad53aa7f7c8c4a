//! What issuers of cert-manager's certificates show: whether the CA that signs for them answers. What they allow is read with each
//! request, by what signs them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::issuer::{BanyanClusterIssuer, BanyanIssuer, IssuerStatus};
use super::progress::{Told, put};
use crate::api::{ApiError, asked};
use crate::board::Part;
use crate::ca::Known;
use crate::world::World;

/// How soon what was not written is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// A kind of issuer.
pub(crate) trait Issuer:
    Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static
{
    /// Its objects in the namespace of one of them.
    fn beside(&self, world: &World) -> Api<Self>;
    fn status(&mut self) -> &mut Option<IssuerStatus>;
}

impl Issuer for BanyanIssuer {
    fn beside(&self, world: &World) -> Api<Self> {
        Api::namespaced(world.client.clone(), &self.namespace().unwrap_or_default())
    }

    fn status(&mut self) -> &mut Option<IssuerStatus> {
        &mut self.status
    }
}

impl Issuer for BanyanClusterIssuer {
    fn beside(&self, world: &World) -> Api<Self> {
        Api::all(world.client.clone())
    }

    fn status(&mut self) -> &mut Option<IssuerStatus> {
        &mut self.status
    }
}

/// What shows the issuers of one kind.
pub(crate) struct Issuers<K> {
    world: World,
    part: Part,
    /// By UID.
    known: BTreeMap<String, K>,
    /// Whether these are all.
    listed: bool,
}

impl<K: Issuer> Issuers<K> {
    pub(crate) fn new(world: World) -> Self {
        let part = world.board.part(format!("sign/{}", K::plural(&())));
        Self { world, part, known: BTreeMap::new(), listed: false }
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
            self.session().await;
        }
    }

    async fn session(&mut self) {
        let objects = Api::<K>::all(self.world.client.clone());
        let mut news = watch(objects, watcher::Config::default()).default_backoff().boxed();
        let (mut ca, mut leading) = (self.world.ca.known(), self.world.leading.clone());
        self.known.clear();
        self.listed = false;
        while leading.works() {
            tokio::select! {
                Some(event) = news.next() => self.hear(event),
                changed = ca.changed() => if changed.is_err() { return },
                () = leading.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
            if !self.listed {
                continue;
            }
            let known = ca.borrow_and_update().clone();
            match self.show(&known).await {
                Ok(()) => {
                    let issuers = trust::plain::counted(self.known.len(), "issuer", "issuers");
                    self.part.ready(issuers);
                }
                Err(error) => self.part.stuck(error.to_string()),
            }
        }
    }

    fn hear(&mut self, event: Result<Event<K>, watcher::Error>) {
        match event {
            Ok(Event::Init) => {
                self.known.clear();
                self.listed = false;
            }
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                self.known.insert(object.uid().unwrap_or_default(), object);
            }
            Ok(Event::InitDone) => self.listed = true,
            Ok(Event::Delete(object)) => {
                self.known.remove(&object.uid().unwrap_or_default());
            }
            Err(
                watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error),
            ) => self.part.stuck(match ApiError::from(error) {
                ApiError::Gone(_) => format!(
                    "the cluster does not know {}: apply deploy/crds of this version, or remove [sign.cert_manager]",
                    K::kind(&())
                ),
                other => other.to_string(),
            }),
            Err(other) => tracing::info!(%other, kind = %K::kind(&()), "a watch was lost"),
        }
    }

    /// Writes what is not shown yet. An object that changed meanwhile comes again by the watch.
    async fn show(&mut self, known: &Known) -> Result<(), ApiError> {
        let now = self.world.clock.now().to_string();
        for object in self.known.values_mut() {
            let told =
                Told { generation: object.meta().generation.unwrap_or_default(), now: now.clone() };
            let before = object.status().clone().unwrap_or_default();
            let after = shown(&before, known, &told);
            if after == before {
                continue;
            }
            let mut changed = object.clone();
            *changed.status() = Some(after);
            let (objects, name) = (object.beside(&self.world), object.name_any());
            match asked(objects.replace_status(&name, &PostParams::default(), &changed)).await {
                Ok(written) => *object = written,
                Err(ApiError::Changed(_) | ApiError::Gone(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn shown(before: &IssuerStatus, known: &Known, told: &Told) -> IssuerStatus {
    let mut status = before.clone();
    let waits = "the CA has not answered yet";
    let ready = match (&known.away, &known.trust) {
        (Some(away), _) => ["Ready", "False", "CAAway", away],
        (None, None) => ["Ready", "False", "CAAway", waits],
        (None, Some(trust)) => {
            status.trust_domain.clone_from(&trust.trust_domain);
            ["Ready", "True", "CAAnswers", ""]
        }
    };
    put(&mut status.conditions, told, ready);
    status
}
