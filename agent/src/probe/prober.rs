//! The task that probes: round after round while the CA asks, with leaves of the root that shall sign that nobody else gets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::banyan::agent::v1 as wire;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trust::{Bundle, Clock, SpiffeId};

use super::handshake::{Meets, Shaken, Shown, shake};
use crate::ca_client::{CaClient, refused, timed};
use crate::config::{AdminAddress, AgentConfig, Process};
use crate::hub::{Command, HubHandle};
use crate::key::PrivateKey;
use crate::leaf::{Expected, Judgement, Leaf};
use crate::probed::{Found, Listened, Listens, Outcome, Seen, Target, Wanted};

/// How often listeners are looked at that do not take both leaves, or tell nothing.
const AGAIN: Duration = Duration::from_secs(2);
/// How often those that do are looked at again: a proxy may be replaced by an older one.
const LOOK: Duration = Duration::from_secs(30);
/// A probe leaf that ends sooner is replaced.
const LEFT_MIN: Duration = Duration::from_secs(5);

/// The task.
#[derive(Debug)]
pub(crate) struct Prober {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) client: Arc<CaClient>,
    pub(crate) hub: HubHandle,
    pub(crate) trust: watch::Receiver<Option<Bundle>>,
    pub(crate) leaves: watch::Receiver<Listened>,
    pub(crate) wanted: watch::Receiver<Option<Wanted>>,
    pub(crate) found: watch::Receiver<Found>,
}

/// What is kept of one identity from round to round.
#[derive(Default)]
struct Kept {
    /// Of the root that shall sign. Its key is here and nowhere else.
    leaf: Option<Arc<Leaf>>,
    /// Uptime since which some listener tells nothing.
    untold_since: Option<Duration>,
    /// Whether the last round found some listener unable: one alone may have met a proxy that was about to take the bundle.
    unable: bool,
    /// Listeners that were seen to refuse whom nobody vouches for.
    tell: BTreeSet<Target>,
}

/// What a listener that takes a present leaf makes of one of the root that shall sign.
fn told(shaken: Shaken) -> (Outcome, String) {
    match shaken {
        Shaken::Taken => (Outcome::Observed, String::new()),
        Shaken::Untold(said) => (Outcome::NotProbeable, said),
        Shaken::Refused(said) => (Outcome::Unable, format!("it refuses the new root: {said}")),
    }
}

impl Prober {
    /// Runs until cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let processes = self.config.processes();
        if processes.is_empty() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.probe(&processes) => {}
        }
    }

    async fn probe(&mut self, all: &BTreeMap<SpiffeId, Vec<Process>>) {
        let (mut kept, mut about) = (BTreeMap::<SpiffeId, Kept>::new(), None);
        loop {
            let wanted = *self.wanted.borrow_and_update();
            if wanted != about {
                (kept, about) = (BTreeMap::new(), wanted);
            }
            let mut seen = BTreeMap::new();
            if let Some(wanted) = wanted {
                for (identity, processes) in all {
                    let kept = kept.entry(identity.clone()).or_default();
                    let round = Round { identity, processes, wanted };
                    if let Some(one) = self.round(&round, kept).await {
                        seen.insert(identity.clone(), one);
                    }
                }
            }
            let is_well = seen.values().all(|one| one.outcome == Outcome::Observed);
            let pause = if is_well { LOOK } else { AGAIN };
            if self.hub.send(Command::Probed(seen)).await.is_err() {
                return;
            }
            let pause = async {
                match about {
                    Some(_) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { return },
                Ok(()) = self.trust.changed(), if about.is_some() => {}
                Ok(()) = self.leaves.changed(), if about.is_some() => {}
                Ok(()) = self.found.changed(), if about.is_some() => {}
                () = pause => {}
            }
        }
    }

    /// Shakes hands with all listeners of an identity. Nothing while there is nothing to begin with: nobody holds a leaf of it, or the
    /// bundle is not here yet.
    async fn round(&mut self, round: &Round<'_>, kept: &mut Kept) -> Option<Seen> {
        let Wanted { sequence, root } = round.wanted;
        let bundle = self.trust.borrow_and_update().clone();
        let bundle = bundle.filter(|bundle| bundle.sequence() == sequence)?;
        let old = self.leaves.borrow_and_update().get(round.identity).cloned();
        let old = old.filter(|old| old.held().root != root)?;
        let new = match self.probe_leaf(round, &bundle, kept).await {
            Ok(new) => new,
            Err(why) => {
                let detail = format!("no probe leaf: {why}");
                return Some(Seen { sequence, outcome: Outcome::Nothing, detail });
            }
        };
        let meets = Meets { bundle: &bundle, identity: round.identity, clock: &self.clock };
        let (mut outcome, mut detail) = (Outcome::Observed, String::new());
        for process in round.processes {
            let (one, said) = match process {
                Process::Listener(address) => {
                    let target = Target::at(address.clone());
                    let (one, said) = self.meet(&target, [&old, &new], &meets, kept).await;
                    (one, format!("listener {target}: {said}"))
                }
                Process::Envoy(envoy) => {
                    let at = (round.identity.clone(), envoy.admin.clone());
                    let listens = self.found.borrow_and_update().get(&at).cloned();
                    let listens = listens.unwrap_or_else(Listens::not_asked);
                    let envoy = Envoy { admin: &envoy.admin, listens: &listens };
                    self.meet_any(envoy, [&old, &new], &meets, kept).await
                }
            };
            if one < outcome {
                (outcome, detail) = (one, said);
            }
        }
        let outcome = self.in_the_long_run(outcome, kept);
        Some(Seen { sequence, outcome, detail })
    }

    /// Shakes hands with the listeners of one process. One that tells is enough: they all verify with the same library.
    async fn meet_any(
        &self,
        of: Envoy<'_>,
        leaves: [&Leaf; 2],
        meets: &Meets<'_>,
        kept: &mut Kept,
    ) -> (Outcome, String) {
        let Envoy { admin, listens } = of;
        if listens.targets.is_empty() {
            return (Outcome::NotProbeable, format!("the Envoy at {admin}: {}", listens.why_none));
        }
        let mut all = Vec::new();
        for target in &listens.targets {
            let (outcome, said) = self.meet(target, leaves, meets, kept).await;
            all.push((outcome, format!("listener {target} of the Envoy at {admin}: {said}")));
        }
        let is_observed = all.iter().any(|(outcome, _)| *outcome == Outcome::Observed);
        let worst = all.into_iter().min_by_key(|(outcome, _)| *outcome);
        match worst {
            Some(unable @ (Outcome::Unable, _)) => unable,
            Some(worst) if !is_observed => worst,
            _ => (Outcome::Observed, String::new()),
        }
    }

    /// Shakes hands with one listener: first with the leaf of the root that signs, and if it tells anything with the other.
    async fn meet(
        &self,
        target: &Target,
        [old, new]: [&Leaf; 2],
        meets: &Meets<'_>,
        kept: &mut Kept,
    ) -> (Outcome, String) {
        match shake(target, Shown::leaf(old), meets).await {
            Shaken::Untold(said) => (Outcome::NotProbeable, said),
            Shaken::Refused(said) => {
                (Outcome::NotProbeable, format!("it refuses the present leaf too: {said}"))
            }
            Shaken::Taken => match self.tells(target, meets, kept).await {
                Err(said) => (Outcome::NotProbeable, said),
                Ok(()) => told(shake(target, Shown::leaf(new), meets).await),
            },
        }
    }

    /// Whether a listener tells those apart whom it believes; asked once.
    async fn tells(
        &self,
        target: &Target,
        meets: &Meets<'_>,
        kept: &mut Kept,
    ) -> Result<(), String> {
        if kept.tell.contains(target) {
            return Ok(());
        }
        let stranger = Shown::stranger(meets.identity).map_err(|error| error.to_string())?;
        match shake(target, stranger, meets).await {
            Shaken::Untold(said) => Err(said),
            Shaken::Taken => Err("it takes a certificate that nobody signed".to_owned()),
            Shaken::Refused(_) => {
                kept.tell.insert(target.clone());
                Ok(())
            }
        }
    }

    /// A proxy that restarts is given the time to come back, and one that was found unable once is looked at once more.
    fn in_the_long_run(&self, outcome: Outcome, kept: &mut Kept) -> Outcome {
        let uptime = self.clock.uptime();
        match outcome {
            Outcome::NotProbeable => {
                let since = *kept.untold_since.get_or_insert(uptime);
                let for_good = uptime.saturating_sub(since) >= self.config.probe_patience;
                if for_good { Outcome::NotProbeable } else { Outcome::Nothing }
            }
            Outcome::Unable => {
                kept.untold_since = None;
                if std::mem::replace(&mut kept.unable, true) { outcome } else { Outcome::Nothing }
            }
            Outcome::Nothing | Outcome::Observed => {
                (kept.untold_since, kept.unable) = (None, false);
                outcome
            }
        }
    }

    async fn probe_leaf(
        &self,
        round: &Round<'_>,
        bundle: &Bundle,
        kept: &mut Kept,
    ) -> Result<Arc<Leaf>, String> {
        let now = self.clock.now();
        let lives = |leaf: &&Arc<Leaf>| leaf.held().not_after > now.plus(LEFT_MIN);
        if let Some(leaf) = kept.leaf.as_ref().filter(lives) {
            return Ok(Arc::clone(leaf));
        }
        let key = Arc::new(PrivateKey::generate().map_err(|error| error.to_string())?);
        let csr = key.request(Some(round.identity)).map_err(|error| error.to_string())?;
        let request = wire::IssueProbeRequest {
            csr,
            spiffe_id: round.identity.to_string(),
            sequence: round.wanted.sequence.0,
        };
        let place = self.client.place().await.map_err(|error| error.to_string())?;
        let mut client = self.client.authenticated(&place).map_err(|error| error.to_string())?;
        let answer = client.issue_probe(timed(request)).await;
        let answer = answer.map_err(|status| refused(&place, status).to_string())?.into_inner();
        let judgement = Judgement {
            bundle,
            born: round.wanted.sequence,
            promised: true,
            now_millis: self.clock.now_millis(),
        };
        let expected = Expected::Workload(round.identity);
        let leaf = Leaf::accept(&answer.chain, key, expected, &judgement)
            .map_err(|error| error.to_string())?;
        if leaf.held().root != round.wanted.root {
            return Err("the CA gave a leaf of another root than it asked about".to_owned());
        }
        Ok(Arc::clone(kept.leaf.insert(Arc::new(leaf))))
    }
}

/// One identity, in one round.
struct Round<'a> {
    identity: &'a SpiffeId,
    processes: &'a [Process],
    wanted: Wanted,
}

/// One Envoy, in one round.
struct Envoy<'a> {
    admin: &'a AdminAddress,
    listens: &'a Listens,
}
