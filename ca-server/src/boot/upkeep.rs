//! Keeps authorities and the record in step: tells an authority which of its roots signs, follows one whose signing root was
//! replaced elsewhere, and has keys of roots destroyed that are out of use, where the configuration wants that.
//!
//! Everything is a level that is tested again: a step that failed or was lost in a crash is taken later, and each step may
//! be taken twice. A tier above is followed elsewhere (`crate::tier`).

use std::sync::Arc;
use std::time::Duration;

use plugins::{CallContext, PluginError, RequestId, RootAuthority, RootSet};
use rotation::{AuthorityName, Effect, Event, Mode, Phase, RootEntry, RootState, State};
use rotation_driver::DriverHandle;
use trust::RootId;

use super::instances::Authorities;

/// How often each authority is asked for its roots, if it does not tell by itself that they changed.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the task works with.
pub(super) struct Upkeep {
    pub(super) authorities: Authorities,
    pub(super) driver: DriverHandle,
    /// Who lets a root sign that was followed.
    pub(super) mode: Mode,
    pub(super) wishes: Wishes,
}

/// What the configuration wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Begin a rotation when the authority of the signing root names another one.
    pub(super) follow: bool,
    /// Destroy keys of roots that are out of use.
    pub(super) destroy: bool,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Tell the authority that this root signs.
    Activate(RootId),
    /// Begin a rotation to this root, which the authority signs with now.
    Follow(RootId),
    /// Have the key of this root destroyed.
    Retire(RootId),
}

impl Upkeep {
    /// Works until it is dropped.
    pub(super) async fn run(self) {
        let mut changes = self.driver.changes();
        loop {
            let state = changes.borrow_and_update().clone();
            let mut signer = None;
            for (name, authority) in &self.authorities {
                if authority.tier().is_some() || !has_roots(&state, name) {
                    continue;
                }
                let set = self.look(&state, (name, authority.as_ref())).await;
                if signs(&state, name) {
                    signer = Some((authority, set.map(|set| set.generation)));
                }
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = told(signer) => {}
            }
        }
    }

    /// Takes the steps that are due at one authority; answers with its roots, if it told them.
    async fn look(&self, state: &State, (name, authority): (&str, &dyn RootAuthority)) -> Option<RootSet> {
        let asked = tokio::time::timeout(ANSWER_WITHIN, authority.roots(&context("upkeep")?)).await.ok()?;
        // That it is away is told by its health.
        let set = asked.ok()?;
        for step in self.due(state, name, authority, &set) {
            if let Err(error) = self.take(step, name, authority).await {
                tracing::warn!(authority = name, ?step, error, "a step is not taken yet; it is tried again");
            }
        }
        Some(set)
    }

    fn due(&self, state: &State, name: &str, authority: &dyn RootAuthority, set: &RootSet) -> Vec<Step> {
        let announced = |id: &RootId| set.roots.iter().any(|der| RootId::of(der) == *id);
        let mut steps = Vec::new();
        if let Some(root) =
            to_activate(state, name).filter(|root| announced(root) && set.signing != Some(*root))
            && authority.staging().is_some()
        {
            steps.push(Step::Activate(root));
        }
        if self.wishes.follow
            && let Some(root) = set.signing.filter(|root| to_follow(state, name, root))
        {
            steps.push(Step::Follow(root));
        }
        if self.wishes.destroy && authority.retiring().is_some() {
            let unused = to_retire(state, name).into_iter().filter(announced);
            steps.extend(unused.map(Step::Retire));
        }
        steps
    }

    async fn take(&self, step: Step, name: &str, authority: &dyn RootAuthority) -> Result<(), String> {
        let late = || format!("no answer within {} s", ANSWER_WITHIN.as_secs());
        match step {
            Step::Activate(root) => {
                let (Some(staging), Some(context)) = (authority.staging(), context("activate")) else {
                    return Ok(());
                };
                let done = tokio::time::timeout(ANSWER_WITHIN, staging.activate(&context, &root)).await;
                done.map_err(|_| late())?.map_err(|error: PluginError| error.to_string())
            }
            Step::Follow(root) => self.follow(root, name).await,
            Step::Retire(root) => {
                let (Some(retiring), Some(context)) = (authority.retiring(), context("retire")) else {
                    return Ok(());
                };
                let done = tokio::time::timeout(ANSWER_WITHIN, retiring.retire(&context, &root)).await;
                done.map_err(|_| late())?.map_err(|error: PluginError| error.to_string())?;
                tracing::info!(authority = name, root = %root.short(), "the key of a root out of use is destroyed");
                Ok(())
            }
        }
    }

    /// The request is named after the root: one that was given up is not begun again by itself.
    async fn follow(&self, root: RootId, name: &str) -> Result<(), String> {
        let request_id = rotation::RequestId::parse(&format!("notice-{}", root.short()));
        let request_id = request_id.map_err(|error| error.to_string())?;
        let state = self.driver.state();
        // While agents hold what this record never published it would be refused, until an operator has decided.
        if state.done.contains(&request_id) || state.seen.highest().is_some() {
            return Ok(());
        }
        let authority = AuthorityName::parse(name).map_err(|error| error.to_string())?;
        tracing::info!(authority = name, root = %root.short(), "the authority signs with a new root: rotating to it");
        let asked = Event::RotationRequested { request_id, authority, mode: self.mode };
        self.driver
            .submit_by(asked, &format!("authority {name}"))
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// Waits until the authority of the signing root says that its roots changed, or it is time to ask again.
async fn told(signer: Option<(&Arc<dyn RootAuthority>, Option<u64>)>) {
    let changed = async {
        match signer.and_then(|(authority, seen)| Some((authority.watching()?, seen?))) {
            // An error is waited out like silence: the watch is opened anew after the next look.
            Some((watching, seen)) if watching.changed(seen).await.is_ok() => {}
            _ => std::future::pending().await,
        }
    };
    let _ = tokio::time::timeout(ASK_EVERY, changed).await;
}

fn has_roots(state: &State, name: &str) -> bool {
    state.roots.values().any(|root| root.authority.as_str() == name)
}

/// Whether the root that signs is of this authority.
fn signs(state: &State, name: &str) -> bool {
    let root = state.signer().and_then(|signer| state.roots.get(&signer.root));
    root.is_some_and(|root| root.authority.as_str() == name)
}

/// The root of this authority that signs, once that is in force.
fn to_activate(state: &State, name: &str) -> Option<RootId> {
    let switching = |effect: &Effect| matches!(effect, Effect::SwitchSigner { .. });
    let in_force = !state.pending.iter().any(|pending| switching(&pending.effect));
    (in_force && signs(state, name)).then(|| state.signer().map(|signer| signer.root)).flatten()
}

/// Whether the authority of the signing root signs with one that was never heard of, and nothing else is under way.
fn to_follow(state: &State, name: &str, root: &RootId) -> bool {
    matches!(state.phase, Phase::Steady(_)) && signs(state, name) && !state.roots.contains_key(root)
}

/// Roots of this authority that are out of use, unless others issue under them too. A root is retired by the leaf gate,
/// or before it ever signed, and nobody comes back from that; the rotation that retired it is over.
fn to_retire(state: &State, name: &str) -> Vec<RootId> {
    if !matches!(state.phase, Phase::Steady(_)) {
        return Vec::new();
    }
    let unused = |root: &RootEntry| {
        root.state == RootState::Retired && root.exclusive && root.authority.as_str() == name
    };
    state.roots.iter().filter(|(_, root)| unused(root)).map(|(id, _)| *id).collect()
}

fn context(call: &str) -> Option<CallContext> {
    Some(CallContext::new(RequestId::parse(call).ok()?, ANSWER_WITHIN))
}
