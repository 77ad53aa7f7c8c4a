//! The controller of RootRotation: each object is one rotation, and its UID the request id of it at the CA.
//!
//! What the CA is told may be told twice: starts and actions have request ids that are kept, so a process that died between a word
//! and its status repeats it without harm.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, PostParams};
use kube::core::DeserializeGuard;
use kube::runtime::events::EventType;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Resource as _, ResourceExt as _};
use proto::banyan::admin::v1::{DecideRotationRequest, StartRotationRequest, Verb};
use tonic::Code;

use super::notes::Notes;
use super::progress::{Standing, Told, is_final, passed, standing};
use super::types::{Mode, PassedPhase, RootRotation, RootRotationStatus, RotationAction};
use crate::api::{ApiError, asked};
use crate::board::Part;
use crate::ca::{self, Known};
use crate::config::ResourcesConfig;
use crate::world::World;

/// How often what was refused for now is asked again.
const AGAIN: Duration = Duration::from_secs(30);
/// Shortest time between two writes of one status that tell of the same phase.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// An object as it was read, or why it cannot be.
type Read = DeserializeGuard<RootRotation>;

/// The controller.
pub(crate) struct Rotations {
    world: World,
    part: Part,
    namespace: String,
    objects: Api<RootRotation>,
    notes: Notes,
    /// What is there, by UID; and why some of it cannot be read, as what an older version of the kind let pass.
    known: BTreeMap<String, RootRotation>,
    unreadable: BTreeMap<String, String>,
    /// When the CA was asked last to start what it refused for now, and when a status was written, in uptime, by UID.
    asked_at: BTreeMap<String, Duration>,
    written_at: BTreeMap<String, Duration>,
    /// The phases that were written, by UID: a cluster with an older version of the kind keeps none.
    phases: BTreeMap<String, Vec<PassedPhase>>,
}

impl Rotations {
    pub(crate) fn new(world: World, config: &ResourcesConfig) -> Self {
        let part = world.board.part("resources/rotations");
        let objects = Api::namespaced(world.client.clone(), &config.namespace);
        let notes = Notes::of(&world);
        Self {
            world,
            part,
            namespace: config.namespace.clone(),
            objects,
            notes,
            known: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            asked_at: BTreeMap::new(),
            written_at: BTreeMap::new(),
            phases: BTreeMap::new(),
        }
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

    /// Works until another process does.
    async fn session(&mut self) {
        let objects: Api<Read> = Api::namespaced(self.world.client.clone(), &self.namespace);
        let mut news = watch(objects, watcher::Config::default()).default_backoff().boxed();
        let mut ca = self.world.ca.known();
        let mut leading = self.world.leading.clone();
        self.known.clear();
        let (mut listing, mut complete) = (BTreeMap::new(), false);
        while leading.works() {
            tokio::select! {
                Some(event) = news.next() => match event {
                    Ok(Event::Init) => {
                        listing = BTreeMap::new();
                        self.unreadable.clear();
                    }
                    Ok(Event::InitApply(read)) => {
                        listing.extend(self.read(read).map(|object| (uid(&object), object)));
                    }
                    Ok(Event::InitDone) => {
                        self.known = std::mem::take(&mut listing);
                        complete = true;
                    }
                    Ok(Event::Apply(read)) => {
                        let read = self.read(read).map(|object| (uid(&object), object));
                        self.known.extend(read);
                    }
                    Ok(Event::Delete(DeserializeGuard(Ok(object)))) => self.deleted(&object).await,
                    Ok(Event::Delete(DeserializeGuard(Err(invalid)))) => {
                        self.unreadable.remove(&invalid.metadata.uid.unwrap_or_default());
                    }
                    Err(error) => self.lost(error),
                },
                changed = ca.changed() => if changed.is_err() { return },
                () = leading.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
            if complete {
                let known = ca.borrow_and_update().clone();
                self.reconcile_all(&known).await;
            }
        }
    }

    /// One that cannot be read keeps nobody from the others.
    fn read(&mut self, read: Read) -> Option<RootRotation> {
        let (uid, name) = (read.meta().uid.clone().unwrap_or_default(), read.name_any());
        self.unreadable.remove(&uid);
        match read.0 {
            Ok(object) => Some(object),
            Err(invalid) => {
                self.known.remove(&uid);
                let text = format!(
                    "{name} cannot be read, as it was stored before this version of the kind: {invalid}: `kubectl delete rootrotation -n {} {name}`, and create another",
                    self.namespace
                );
                self.unreadable.insert(uid, text);
                None
            }
        }
    }

    fn lost(&self, error: watcher::Error) {
        let error = match error {
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
                ApiError::from(error)
            }
            other => {
                tracing::info!(%other, "the watch of RootRotations was lost");
                return;
            }
        };
        self.part.stuck(match error {
            ApiError::Gone(_) => {
                "the cluster does not know RootRotation: apply deploy/crds of this version, or remove [resources]".to_owned()
            }
            other => other.to_string(),
        });
    }

    /// It goes on: a rotation that ends in the middle because somebody tidied up is worse than one that nobody watches.
    async fn deleted(&mut self, object: &RootRotation) {
        let uid = uid(object);
        self.known.remove(&uid);
        self.phases.remove(&uid);
        let trust = self.world.ca.trust();
        if trust.is_some_and(|trust| standing(&trust.rotation, &uid) == Standing::UnderWay) {
            let text = "the object was deleted, and the rotation goes on: `banyan rotate watch` shows it, `banyan rotate abort` gives it up";
            tracing::warn!(rotation = object.name_any(), "{text}");
            self.notes.note(object, EventType::Warning, "GoesOn", text).await;
        }
    }

    async fn reconcile_all(&mut self, known: &Known) {
        let mut wrong = self.unreadable.values().next().cloned();
        for object in self.known.values().cloned().collect::<Vec<_>>() {
            match self.reconcile(&object, known).await {
                // Another write came first, and the watch tells of it.
                Ok(()) | Err(ApiError::Changed(_) | ApiError::Gone(_)) => {}
                Err(error) => wrong = Some(format!("{}: {error}", object.name_any())),
            }
        }
        match wrong {
            Some(wrong) => self.part.stuck(wrong),
            None => {
                let open = self
                    .known
                    .values()
                    .filter(|object| !object.status.as_ref().is_some_and(is_final));
                let counted = trust::plain::counted(open.count(), "rotation", "rotations");
                self.part.ready(format!("{counted} not over, of {}", self.known.len()));
            }
        }
    }

    async fn reconcile(&mut self, object: &RootRotation, known: &Known) -> Result<(), ApiError> {
        let mut before = object.status.clone().unwrap_or_default();
        if before.phases.is_empty()
            && let Some(written) = self.phases.get(&uid(object))
        {
            before.phases.clone_from(written);
        }
        let generation = object.meta().generation.unwrap_or_default();
        if object.meta().deletion_timestamp.is_some()
            || (is_final(&before) && before.observed_generation == generation)
        {
            return Ok(());
        }
        let told = Told { generation, now: self.world.clock.now().to_string() };
        let mut after = match (&known.away, &known.trust) {
            _ if is_final(&before) => self.too_late(object, &told, before.clone()),
            (Some(away), _) => told.unknown(&before, "CAAway", away),
            (None, None) => return Ok(()),
            (None, Some(trust)) => match standing(&trust.rotation, &uid(object)) {
                Standing::Over(ending) => told.over(&before, &trust.rotation, &ending),
                Standing::UnderWay => {
                    let status = told.under_way(&before, &trust.rotation);
                    self.act(object, &told, status).await
                }
                Standing::Unknown => self.start(object, &told, &before).await,
            },
        };
        if !is_final(&before) {
            after.phases = passed(&before.phases, known.phases(&uid(object)), &after, &told.now);
        }
        self.write(object, &before, after).await
    }

    /// An action about what is over.
    fn too_late(
        &self,
        object: &RootRotation,
        told: &Told,
        mut status: RootRotationStatus,
    ) -> RootRotationStatus {
        status.observed_generation = told.generation;
        if let Some(action) =
            object.spec.action.filter(|action| status.last_action != Some(*action))
        {
            status.last_action = Some(action);
            told.condition(
                &mut status,
                [
                    "ActionTaken",
                    "False",
                    "Over",
                    "the rotation is over: create another RootRotation to start one",
                ],
            );
        }
        status
    }

    async fn start(
        &mut self,
        object: &RootRotation,
        told: &Told,
        before: &RootRotationStatus,
    ) -> RootRotationStatus {
        let accepted = |condition: &&super::types::Condition| {
            condition.type_ == "Accepted" && condition.status == "True"
        };
        if before.conditions.iter().any(|condition| accepted(&condition)) {
            // To start it again would be a second rotation that nobody asked for.
            return told.unknown(before, "Forgotten", "the CA took this rotation once and no longer knows it, as after its state was restored from a backup: see `banyan journal show`, and create another RootRotation to start one");
        }
        if object.spec.action == Some(RotationAction::Abort) {
            return told.given_up(before);
        }
        let (uid, now) = (uid(object), self.world.clock.uptime());
        if self.asked_at.get(&uid).is_some_and(|at| now.saturating_sub(*at) < AGAIN) {
            return before.clone();
        }
        let mode = object.spec.mode.map(|mode| match mode {
            Mode::Auto => "auto",
            Mode::Manual => "manual",
        });
        let request = StartRotationRequest {
            request_id: uid.clone(),
            authority: object.spec.authority.clone().unwrap_or_default(),
            mode: mode.unwrap_or_default().to_owned(),
            canary: object.spec.canary.clone().unwrap_or_default(),
            by: by(object),
            reason: object.spec.reason.clone().unwrap_or_default(),
            ..StartRotationRequest::default()
        };
        match self.world.ca.rotations().start_rotation(request).await {
            Ok(answer) => {
                self.asked_at.remove(&uid);
                let rotation = answer.into_inner().rotation.unwrap_or_default();
                let mut status = told.under_way(before, &rotation);
                status.request_id.clone_from(&uid);
                if object.spec.action.is_none() {
                    status.observed_generation = told.generation;
                }
                status
            }
            Err(refusal) => {
                self.asked_at.insert(uid, now);
                match refusal.code() {
                    Code::FailedPrecondition | Code::ResourceExhausted | Code::Aborted => {
                        let message = format!(
                            "the CA does not start it now, and is asked again: {}",
                            refusal.message()
                        );
                        told.waits(before, "Pending", &message)
                    }
                    Code::InvalidArgument | Code::NotFound | Code::OutOfRange => {
                        let mut status = told.waits(before, "Refused", refusal.message());
                        status.observed_generation = told.generation;
                        status
                    }
                    _ => told.unknown(before, "CAAway", &ca::told(&refusal)),
                }
            }
        }
    }

    /// Gives the word of a new generation.
    async fn act(
        &mut self,
        object: &RootRotation,
        told: &Told,
        mut status: RootRotationStatus,
    ) -> RootRotationStatus {
        if status.observed_generation == told.generation {
            return status;
        }
        let Some(action) = object.spec.action else {
            status.observed_generation = told.generation;
            status.last_action = None;
            return status;
        };
        let request = DecideRotationRequest {
            request_id: format!("{}.{}", uid(object), told.generation),
            verb: verb(action).into(),
            by: by(object),
            reason: object.spec.reason.clone().unwrap_or_default(),
            cohort: object.spec.canary.clone().unwrap_or_default(),
        };
        let said = format!("{action:?}").to_ascii_lowercase();
        match self.world.ca.rotations().decide_rotation(request).await {
            Ok(rotation) => {
                status = told.under_way(&status, &rotation.into_inner());
                told.condition(
                    &mut status,
                    ["ActionTaken", "True", "Taken", &format!("the CA took {said}")],
                );
            }
            Err(refusal)
                if matches!(refusal.code(), Code::FailedPrecondition | Code::InvalidArgument) =>
            {
                let text = format!("the CA refused {said}: {}", refusal.message());
                told.condition(&mut status, ["ActionTaken", "False", "Refused", &text]);
                self.notes.note(object, EventType::Warning, "Refused", &text).await;
            }
            Err(failed) => {
                // It is told again: with the same request id nothing is done twice.
                told.condition(
                    &mut status,
                    ["ActionTaken", "Unknown", "CAAway", &ca::told(&failed)],
                );
                return status;
            }
        }
        status.last_action = Some(action);
        status.observed_generation = told.generation;
        status
    }

    /// Writes the status if it is another.
    async fn write(
        &mut self,
        object: &RootRotation,
        before: &RootRotationStatus,
        after: RootRotationStatus,
    ) -> Result<(), ApiError> {
        let (uid, now) = (uid(object), self.world.clock.uptime());
        let phase = before.phase != after.phase;
        let news = phase
            || before.phases != after.phases
            || before.observed_generation != after.observed_generation;
        let just =
            self.written_at.get(&uid).is_some_and(|at| now.saturating_sub(*at) < WRITE_EVERY);
        if *before == after || (just && !news) {
            return Ok(());
        }
        let (message, named) = (after.message.clone(), after.phase.clone());
        let missed = after.phases.iter().filter(|one| !before.phases.contains(one));
        let missed: Vec<_> = missed.filter(|one| one.phase != named).cloned().collect();
        let phases = after.phases.clone();
        let changed = RootRotation { status: Some(after), ..object.clone() };
        let name = object.name_any();
        let written =
            asked(self.objects.replace_status(&name, &PostParams::default(), &changed)).await?;
        self.known.insert(uid.clone(), written);
        self.phases.insert(uid.clone(), phases);
        self.written_at.insert(uid, now);
        for PassedPhase { phase, since } in missed {
            let text =
                format!("it was in this phase since {since}, and went on before that was written");
            self.notes.note(object, EventType::Normal, &phase, &text).await;
        }
        if phase {
            let kind = match named.as_str() {
                "Aborted" | "RolledBack" | "Refused" | "Pending" | "Over" => EventType::Warning,
                _ => EventType::Normal,
            };
            self.notes.note(object, kind, &named, &message).await;
        }
        Ok(())
    }
}

fn uid(object: &RootRotation) -> String {
    object.uid().unwrap_or_default()
}

fn by(object: &RootRotation) -> String {
    format!("RootRotation {}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

const fn verb(action: RotationAction) -> Verb {
    match action {
        RotationAction::Hold => Verb::Hold,
        RotationAction::Resume => Verb::Resume,
        RotationAction::Abort => Verb::Abort,
        RotationAction::Rollback => Verb::Rollback,
        RotationAction::Activate => Verb::Activate,
        RotationAction::Widen => Verb::Widen,
    }
}
