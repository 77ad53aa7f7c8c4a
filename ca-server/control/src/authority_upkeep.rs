//! Keeps authorities and the record in step: tells an authority which of its roots signs, follows one whose signing root was
//! replaced elsewhere, and has keys of roots destroyed that are out of use, where the configuration wants that.
//!
//! Everything is a level that is tested again: a step that failed or was lost in a crash is taken later, and each step may
//! be taken twice. An upstream CA is followed elsewhere (`crate::hierarchy`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use plugins::{CallContext, PluginError, RequestId, RootAuthority, RootSet};
use rotation::{AuthorityName, Effect, Event, Mode, ReplicaName, RootEntry, State};
use rotation_driver::DriverHandle;
use stores::SharedStore;
use tokio::sync::watch;
use trust::{Cohort, RootId};

use crate::cross_net;
use crate::drift::{self, Whose};
use crate::further_roots::FurtherRoots;
use crate::metered::Authorities;
use crate::requests::Requests;

/// How often each authority is asked for its roots, if it does not tell by itself that they changed.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the task works with.
pub struct AuthorityUpkeep {
    /// The name of this replica.
    pub replica: ReplicaName,
    /// Whom it looks at.
    pub authorities: Authorities,
    /// The record.
    pub driver: DriverHandle,
    /// Who lets a root sign that was followed.
    pub mode: Mode,
    /// For whom it signs first then, if not for everybody at once.
    pub canary: Option<Cohort>,
    /// What it may do by itself.
    pub allowed: Allowed,
    /// Where requests are that were sent to authorities.
    pub store: Arc<dyn SharedStore>,
    /// Where it is told what authorities would give now that is not what signs.
    pub drift: watch::Sender<Drifts>,
    /// Brings further roots about.
    pub further: FurtherRoots,
}

/// What authorities would give now that is not what signs or is trusted, by their names.
pub type Drifts = BTreeMap<String, Drift>;

/// What one authority would give now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// In the place of what signs.
    pub signing: Option<String>,
    /// Beside it, one sentence for each thing that is not so yet.
    pub further: Vec<String>,
}

impl Drift {
    /// One sentence each.
    pub fn sentences(&self) -> impl Iterator<Item = &String> {
        self.signing.iter().chain(&self.further)
    }
}

/// What the configuration lets it do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Begin a rotation when the authority of the signing root names another one.
    pub follow: bool,
    /// Destroy keys of roots that are out of use.
    pub destroy: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Tell the authority that this root signs.
    Activate(RootId),
    /// Begin a rotation to this root, which the authority signs with now; a renewed certificate of the root that signs is
    /// named for it.
    Follow(RootId, Option<RootId>),
    /// Get an issuer below what stands above issuers at the authority now.
    Renew(RootId, rotation::RequestId),
    /// Have the key of this root destroyed.
    Retire(RootId),
}

impl AuthorityUpkeep {
    /// Works until it is dropped.
    pub async fn run(self) {
        let mut changes = self.driver.changes();
        loop {
            let state = changes.borrow_and_update().clone();
            let mut signer = None;
            for (name, authority) in &self.authorities {
                self.withdraw(name, authority.as_ref()).await;
                if !has_roots(&state, name) {
                    continue;
                }
                let set = self.look(&state, name, authority.as_ref()).await;
                if signs(&state, name) {
                    signer = Some((authority, set.map(|set| set.generation)));
                }
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = told(signer, self.further.pause()) => {}
            }
        }
    }

    /// Takes the steps that are due at one authority; answers with its roots, if it told them.
    async fn look(
        &self,
        state: &State,
        name: &str,
        authority: &dyn RootAuthority,
    ) -> Option<RootSet> {
        let asked =
            tokio::time::timeout(ANSWER_WITHIN, authority.roots(&context("upkeep")?)).await.ok()?;
        // That it is away is told by its health.
        let set = asked.ok()?;
        // An upstream CA is followed elsewhere, but for its further roots.
        let steps = if authority.upstream().is_some() {
            Vec::new()
        } else {
            self.due(state, name, authority, &set)
        };
        for step in steps {
            if let Err(error) = self.take(step.clone(), name, authority).await {
                tracing::warn!(
                    authority = name,
                    ?step,
                    error,
                    "a step is not taken yet; it is tried again"
                );
            }
        }
        let whose = Whose { name, place: &authority.describe().place };
        let further = self.further.keep(&whose, &set).await;
        self.tell(&whose, authority, further, &set);
        Some(set)
    }

    /// Tells what the authority would give now that is not what signs.
    fn tell(
        &self,
        whose: &Whose<'_>,
        authority: &dyn RootAuthority,
        further: Vec<String>,
        set: &RootSet,
    ) {
        let state = self.driver.state();
        // Where roots are staged, which one signs is told to the authority from here.
        let mine = authority.staging().is_some() && set.signing != state.signing_root();
        let drifts = !mine && authority.upstream().is_none();
        let signing = drifts
            .then(|| drift::of(&state, whose, &self.replica, set, self.allowed.follow))
            .flatten();
        let told = Drift { signing, further };
        self.drift.send_if_modified(|drifts| {
            let known = drifts.get(whose.name).cloned().unwrap_or_default();
            if known == told {
                return false;
            }
            let news = told.sentences().filter(|one| !known.sentences().any(|known| known == *one));
            news.for_each(|one| tracing::warn!(authority = whose.name, "{one}"));
            if told == Drift::default() {
                drifts.remove(whose.name);
            } else {
                drifts.insert(whose.name.to_owned(), told);
            }
            true
        });
    }

    /// Takes back what people are asked for and nobody wants any more.
    async fn withdraw(&self, name: &str, authority: &dyn RootAuthority) {
        let (Some(withdrawing), Some(context)) = (authority.withdrawing(), context("withdraw"))
        else {
            return;
        };
        let open = tokio::time::timeout(ANSWER_WITHIN, withdrawing.open_requests(&context)).await;
        let Ok(Ok(open)) = open else { return };
        // Read after them: whatever was asked for by then, and is still wanted, is owed in this state.
        let Some(wanted) = self.wanted(name).await else { return };
        // What downstream CAs asked for is theirs.
        let state = self.driver.state();
        let crosses = cross_net::pair(&state).is_some();
        let ours = open.iter().filter(|id| {
            let of_net = id.as_str().starts_with(cross_net::REQUESTS);
            !(id.as_str().starts_with("tier.") || of_net && crosses)
        });
        for id in ours.filter(|id| !wanted.contains(id.as_str())) {
            match tokio::time::timeout(ANSWER_WITHIN, withdrawing.withdraw(&context, id)).await {
                Ok(Ok(())) => {
                    tracing::info!(authority = name, request = %id, "a request that nobody wants any more is taken back")
                }
                Ok(Err(error)) => {
                    tracing::warn!(authority = name, request = %id, %error, "a request is not taken back yet")
                }
                Err(_) => {
                    tracing::warn!(authority = name, request = %id, "a request is not taken back yet")
                }
            }
        }
    }

    /// The ids under which this authority is asked for something now; none if that cannot be told.
    async fn wanted(&self, name: &str) -> Option<BTreeSet<String>> {
        let requests = Requests { store: self.store.as_ref() };
        let state = self.driver.state();
        let mut wanted = BTreeSet::new();
        for pending in &state.pending {
            let asked = match &pending.effect {
                Effect::StageRoot { authority, .. } | Effect::RequestIssuer { authority, .. } => {
                    authority
                }
                Effect::PublishBundle { .. } | Effect::SwitchSigner { .. } => continue,
            };
            if asked.as_str() == name {
                let key = pending.effect.idempotence_key();
                wanted.insert(requests.current(&key).await.ok()?.id(&key));
            }
        }
        Some(wanted)
    }

    fn due(
        &self,
        state: &State,
        name: &str,
        authority: &dyn RootAuthority,
        set: &RootSet,
    ) -> Vec<Step> {
        let announced = |id: &RootId| set.roots.iter().any(|der| RootId::of(der) == *id);
        let mut steps = Vec::new();
        if let Some(root) =
            to_activate(state, name).filter(|root| announced(root) && set.signing != Some(*root))
            && authority.staging().is_some()
        {
            steps.push(Step::Activate(root));
        }
        if self.allowed.follow
            && let Some(root) = set.signing.filter(|root| to_follow(state, name, root))
        {
            let der = set.roots.iter().find(|der| RootId::of(der) == root);
            let renewed = der.is_some_and(|der| drift::renews_signer(state, der));
            steps.push(Step::Follow(root, renewed.then_some(root)));
        }
        if self.allowed.follow
            && let Some((root, id)) = to_renew(state, name, &self.replica, set)
        {
            steps.push(Step::Renew(root, id));
        }
        if self.allowed.destroy && authority.retiring().is_some() {
            let unused = to_retire(state, name).into_iter().filter(announced);
            steps.extend(unused.map(Step::Retire));
        }
        steps
    }

    async fn take(
        &self,
        step: Step,
        name: &str,
        authority: &dyn RootAuthority,
    ) -> Result<(), String> {
        let late = || format!("no answer within {} s", ANSWER_WITHIN.as_secs());
        match step {
            Step::Activate(root) => {
                let (Some(staging), Some(context)) = (authority.staging(), context("activate"))
                else {
                    return Ok(());
                };
                let done =
                    tokio::time::timeout(ANSWER_WITHIN, staging.activate(&context, &root)).await;
                done.map_err(|_| late())?.map_err(|error: PluginError| error.to_string())
            }
            Step::Follow(root, renewed) => self.follow(root, renewed, name).await,
            Step::Renew(root, request_id) => {
                tracing::info!(authority = name, root = %root.short(), "the authority signs issuers below another certificate: asking for a new one");
                let asked = Event::IssuerRenewalRequested {
                    request_id,
                    root,
                    replica: Some(self.replica.clone()),
                    replaces: false,
                };
                let submitted = self.driver.submit_by(asked, &format!("authority {name}")).await;
                submitted.map(drop).map_err(|error| error.to_string())
            }
            Step::Retire(root) => {
                let (Some(retiring), Some(context)) = (authority.retiring(), context("retire"))
                else {
                    return Ok(());
                };
                let done =
                    tokio::time::timeout(ANSWER_WITHIN, retiring.retire(&context, &root)).await;
                done.map_err(|_| late())?.map_err(|error: PluginError| error.to_string())?;
                tracing::info!(authority = name, root = %root.short(), "the key of a root out of use is destroyed");
                Ok(())
            }
        }
    }

    /// The request is named after the root: one that was given up is not begun again by itself.
    async fn follow(
        &self,
        root: RootId,
        stage_again: Option<RootId>,
        name: &str,
    ) -> Result<(), String> {
        let Some(request_id) = drift::follow_request(&root) else { return Ok(()) };
        let state = self.driver.state();
        // While agents hold what this record never published it would be refused, until an operator has decided.
        if state.done.contains(&request_id) || state.seen.highest().is_some() {
            return Ok(());
        }
        let authority = AuthorityName::parse(name).map_err(|error| error.to_string())?;
        tracing::info!(authority = name, root = %root.short(), "the authority signs with a new root: rotating to it");
        let asked = Event::RotationRequested {
            request_id,
            authority,
            mode: self.mode,
            stage_again,
            canary: self.canary.clone(),
        };
        self.driver
            .submit_by(asked, &format!("authority {name}"))
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// Waits until the authority of the signing root says that its roots changed, or it is time to ask again.
async fn told(signer: Option<(&Arc<dyn RootAuthority>, Option<u64>)>, pause: Duration) {
    let changed = async {
        match signer.and_then(|(authority, seen)| Some((authority.watching()?, seen?))) {
            // An error is waited out like silence: the watch is opened anew after the next look.
            Some((watching, seen)) if watching.changed(seen).await.is_ok() => {}
            _ => std::future::pending().await,
        }
    };
    let _ = tokio::time::timeout(ASK_EVERY.min(pause), changed).await;
}

fn has_roots(state: &State, name: &str) -> bool {
    state.roots.values().any(|root| root.authority.as_str() == name)
        || state.further.values().any(|root| root.by.iter().any(|by| by.as_str() == name))
}

/// Whether the root that signs is of this authority.
fn signs(state: &State, name: &str) -> bool {
    let root = state.signing_root().and_then(|root| state.roots.get(&root));
    root.is_some_and(|root| root.authority.as_str() == name)
}

/// The root of this authority that signs, once that is in force.
fn to_activate(state: &State, name: &str) -> Option<RootId> {
    let switching = |effect: &Effect| matches!(effect, Effect::SwitchSigner { .. });
    let in_force = !state.pending.iter().any(|pending| switching(&pending.effect));
    (in_force && signs(state, name)).then(|| state.signing_root()).flatten()
}

/// Whether the authority of the signing root signs with one that was never heard of, and nothing else is under way.
fn to_follow(state: &State, name: &str, root: &RootId) -> bool {
    let is_new = state.roots.get(root).is_none_or(|entry| entry.may_return(false));
    state.phase.is_steady() && signs(state, name) && is_new
}

/// The signing root, if its authority puts issuers below another certificate than the one above the issuer that signs;
/// and the name of that request, which is not carried out twice.
fn to_renew(
    state: &State,
    name: &str,
    replica: &ReplicaName,
    set: &RootSet,
) -> Option<(RootId, rotation::RequestId)> {
    let root = state.signing_root().filter(|_| signs(state, name))?;
    let entry = state.roots.get(&root).filter(|_| set.signing == Some(root))?;
    let id = drift::chain_request(entry, replica, set)?;
    let rests = entry.renewal_for(replica).is_none() && !state.done.contains(&id);
    rests.then_some((root, id))
}

/// Roots of this authority that are out of use, unless others issue under them too. A root is retired by the leaf gate,
/// or before it ever signed, and nobody comes back from that; the rotation that retired it is over.
fn to_retire(state: &State, name: &str) -> Vec<RootId> {
    if !state.phase.is_steady() {
        return Vec::new();
    }
    let unused = |root: &RootEntry| {
        root.state.is_retired() && root.exclusive && root.authority.as_str() == name
    };
    state.roots.iter().filter(|(_, root)| unused(root)).map(|(id, _)| *id).collect()
}

fn context(call: &str) -> Option<CallContext> {
    Some(CallContext::new(RequestId::parse(call).ok()?, ANSWER_WITHIN))
}
