//! The one task that keeps a running CA up: it shows each new record to the requests, raises the horizon ahead of them,
//! renews the server's own leaf and the issuer, asks for a new root when the old one is due, tells probes whether leaves can be issued, and lets the ledger forget.
//!
//! Everything is tested for as a level ([`crate::levels`]), each second and at each change of the record: a failed step is tried
//! again, and what was in force stays in force meanwhile. Nothing here rests on a wall clock that is not believed.

use std::sync::Arc;
use std::time::Duration;

use issuance::{ServingNames, Snapshot, SnapshotCell};
use rotation::{AuthorityName, Event, Mode, Policy, ReplicaName, SegmentId, SegmentState, State};
use rotation_driver::{DriverHandle, Word};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use trust::{Agreed, Bundle, ClockDiverged, Cohort, Generation, Timestamp};

use crate::bundles::TransitionSigner;
use crate::ca::Ca;
use crate::ca_keys::CaKeys;
use crate::causes::Due;
use crate::conditions;
use crate::due;
use crate::findings::Look;
use crate::front::Front;
use crate::levels::Level;
use crate::machine::Machine;
use crate::own_issuer::OwnIssuers;
use crate::own_leaf::{self, Own, Renewal, Under};
use crate::snapshots::Snapshots;
use crate::standby::Pauses;

/// How often levels are tested.
const TICK: Duration = Duration::from_secs(1);
/// How often key sets of token issuers are read again and files looked at, the ledger compacted, and failed steps tried again; in ticks.
const KEY_SETS_EVERY: u64 = 5;
const COMPACT_EVERY: u64 = 3_600;
const RETRY_EVERY: u64 = 10;
/// How often the clock is noted for the next start, in ticks.
const NOTE_EVERY: u64 = 60;

/// What the task works with.
pub struct Upkeep {
    /// The CA that it keeps up.
    pub ca: Arc<Ca>,
    /// The record.
    pub driver: DriverHandle,
    /// The limits of the machine.
    pub policy: Policy,
    /// The name of this replica.
    pub replica: ReplicaName,
    /// What it signs with.
    pub issuers: OwnIssuers,
    /// The segment that this process writes.
    pub segment: SegmentId,
    /// Makes snapshots of the record.
    pub snapshots: Snapshots,
    /// What clients meet; while this task runs, nobody else changes it.
    pub front: Arc<dyn Front>,
    /// What signs changes of the bundle.
    pub transition_signer: Arc<TransitionSigner>,
    /// Where streams hear of a new bundle.
    pub bundles: watch::Sender<Bundle>,
    /// The keys of this CA.
    pub keys: Arc<CaKeys>,
    /// Names in the server's own leaf.
    pub names: ServingNames,
    /// Who lets a root sign that nobody asked for.
    pub mode: Mode,
    /// Pauses between attempts at a standby root.
    pub standby: Pauses,
    /// For whom it signs first then, if not for everybody at once.
    pub canary: Option<Cohort>,
    /// The leaf being served.
    pub own: Own,
    /// The machine that it runs on.
    pub machine: Arc<dyn Machine>,
    /// Snapshots older than this generation must be gone before the segment counts as sealed at it.
    pub to_seal: Option<Generation>,
    /// Ticks so far.
    pub ticks: u64,
    /// What the log was told of the clock.
    pub clock_well: bool,
    /// Whether this process has noted the clock.
    pub is_noted: bool,
}

impl Upkeep {
    /// Works until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.driver.changes();
        changes.mark_changed();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let cell = Arc::clone(&self.ca.cell);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.changed() => match changed {
                    Ok(()) => {
                        changes.mark_unchanged();
                        self.reach(true).await;
                    }
                    Err(_) => return tracing::error!("the rotation driver has stopped"),
                },
                () = former_gone(&cell, self.to_seal_now()) => self.seal().await,
                _ = ticks.tick() => self.tick().await,
            }
        }
    }

    /// Brings about what a change of the record asks for. With `news` at once, otherwise what failed before waits for its
    /// pause.
    async fn reach(&mut self, news: bool) {
        self.show(news).await;
        self.keep_own_leaf(news).await;
        self.keep_probes().await;
    }

    /// Shows the newest state of the record to all later requests.
    async fn show(&mut self, news: bool) {
        let (former, mut state) = (self.ca.cell.load(), self.driver.state());
        if state.generation <= former.generation() {
            return self.ca.levels.reached(Level::Shown);
        }
        if !(news || self.is_due(Level::Shown)) {
            return;
        }
        self.keys.learn(&state);
        if self.lacks_bound(&state) {
            // A root that begins to sign: no leaf of it may be released from here before its horizon is on the record.
            self.raise_horizon().await;
            state = self.driver.state();
            if self.lacks_bound(&state) {
                return;
            }
        }
        if self.lacks_list(&state, &former) {
            return;
        }
        let next = match self.snapshots.of(&state, self.ca.clock.now()).await {
            Ok(next) => next,
            Err(error) => return self.failed(Level::Shown, &error),
        };
        let bundle = next.bundle().clone();
        let new_bundle = bundle != *former.bundle();
        let issuers = |snapshot: &Snapshot| {
            (snapshot.signer().issuer(), snapshot.canary_signer().map(|signer| signer.issuer()))
        };
        let new_signer = issuers(&next) != issuers(&former);
        drop(former);
        if let Err(error) = self.ca.cell.swap(next) {
            return self.failed(Level::Shown, &error);
        }
        self.ca.levels.reached(Level::Shown);
        if new_bundle {
            tracing::info!(sequence = %bundle.sequence(), digest = %bundle.digest(), "bundle in force");
            self.bundles.send_replace(bundle);
        }
        if new_bundle || new_signer || self.lacks_seal(&state) {
            self.to_seal = Some(state.generation);
        }
    }

    /// Whether an issuer shall sign under the root that signs, and holders may have revocation lists without its own. Under another
    /// root it is the bundle that brings lists, or takes them away.
    fn lacks_list(&self, state: &State, former: &Snapshot) -> bool {
        let under = former.signer().root();
        let next = state.signer_of(&self.replica).filter(|next| next.root == under);
        let next = next.filter(|next| next.issuer != former.signer().issuer());
        next.is_some_and(|next| !self.ca.crl.may_begin(&next.issuer, self.ca.clock.uptime()))
    }

    /// Whether a phase waits for a seal that nobody has begun: it may have changed neither the bundle nor the signer.
    fn lacks_seal(&self, state: &State) -> bool {
        let Some(since) = state.phase.decided_at() else { return false };
        let own = state.segments.get(&self.segment).map(|own| own.state);
        let sealed =
            matches!(own, Some(SegmentState::Sealed { generation }) if generation >= since);
        !sealed && self.to_seal.is_none_or(|due| due < since)
    }

    /// What is to be sealed, unless that failed a moment ago.
    fn to_seal_now(&self) -> Option<Generation> {
        self.to_seal.filter(|_| self.is_due(Level::Sealed))
    }

    /// Whatever was released on an older snapshot is in the segment's rows now.
    async fn seal(&mut self) {
        let Some(generation) = self.to_seal else { return };
        let sealed = Event::SegmentSealed { segment: self.segment.clone(), generation };
        match self.driver.submit(sealed).await {
            Ok(_) => {
                self.to_seal = None;
                self.ca.levels.reached(Level::Sealed);
            }
            Err(error) => self.failed(Level::Sealed, &error),
        }
    }

    async fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        let every = |ticks: u64| self.ticks.is_multiple_of(ticks);
        let (key_sets, compact, retry) =
            (every(KEY_SETS_EVERY), every(COMPACT_EVERY), every(RETRY_EVERY));
        let note = every(NOTE_EVERY);
        let clock = self.judge_clock();
        if clock.is_ok() {
            self.raise_horizon().await;
        }
        self.judge_readiness().await;
        self.reach(false).await;
        self.show_cross().await;
        self.ca.look_at_cohort();
        if let Ok(now) = clock {
            if retry || self.issuers.is_waited_for(&self.driver.state()) {
                self.keep_issuers(now.wall).await;
            }
            if retry {
                self.replace_old_root(now.wall).await;
                self.keep_standby(now.wall).await;
            }
        }
        if let Err(error) = self.ca.ledger.expire() {
            tracing::warn!(%error, "the audit's summary could not be written");
        }
        if key_sets {
            self.read_key_sets().await;
            self.look_at_files().await;
            self.mend_registry().await;
        }
        if compact {
            self.machine.compact();
        }
        if note || !self.is_noted {
            self.note_clock().await;
        }
    }

    fn is_due(&self, level: Level) -> bool {
        self.ca.levels.is_due(level, self.ca.clock.as_ref())
    }

    fn failed(&self, level: Level, why: &dyn std::fmt::Display) {
        self.ca.levels.failed(level, why, self.ca.clock.as_ref());
    }

    /// Looks at the clock, and tells the log when it begins or ceases to be believed.
    fn judge_clock(&mut self) -> Result<Agreed, ClockDiverged> {
        let clock = self.ca.clock.agreed();
        match (&clock, self.clock_well) {
            (Err(diverged), true) => {
                tracing::error!(%diverged, "no leaf is issued and no gate opens")
            }
            (Ok(_), false) => tracing::info!("the wall clock is believed again"),
            _ => {}
        }
        self.clock_well = clock.is_ok();
        clock
    }

    async fn note_clock(&mut self) {
        if !self.is_due(Level::ClockNoted) {
            return;
        }
        match self.machine.note_clock().await {
            Ok(()) => {
                self.is_noted = true;
                self.ca.levels.reached(Level::ClockNoted);
            }
            Err(error) => self.failed(Level::ClockNoted, &error),
        }
    }

    /// Says whether leaves can be issued. A ledger that could not write is asked to try again, so that a server that
    /// nobody sends requests to becomes ready by itself.
    async fn judge_readiness(&self) {
        if self.ca.ledger.check().is_err() {
            // A ledger that takes nothing any more stays an obstacle.
            let _ = self.ca.ledger.probe();
        }
        let obstacles = conditions::obstacles(&self.ca);
        let (was, ready) = (self.front.is_ready(), obstacles.is_empty());
        match (was, ready) {
            (true, false) => tracing::error!(?obstacles, "not ready: no leaf can be issued"),
            (false, true) => tracing::info!("ready: leaves can be issued"),
            _ => return,
        }
        self.front.set_ready(ready).await;
    }

    /// Keeps the horizon half a step ahead of the longest leaf. Never by a wall clock that is not believed: what was raised
    /// stays.
    async fn raise_horizon(&self) {
        let Ok(now) = self.ca.clock.agreed() else { return };
        let state = self.driver.state();
        let Some(event) = horizon_due(&state, &self.policy, &self.replica, &self.segment, now.wall)
        else {
            return self.ca.levels.reached(Level::Horizon);
        };
        if !(self.is_due(Level::Horizon) || self.lacks_bound(&state)) {
            return;
        }
        match self.driver.submit(event).await {
            Ok(_) => self.ca.levels.reached(Level::Horizon),
            Err(error) => self.failed(Level::Horizon, &error),
        }
    }

    /// Keeps a leaf for the server's own handshakes: under the bundle and the signer in force, valid now, and not past half
    /// of its life.
    async fn keep_own_leaf(&mut self, news: bool) {
        let Ok(now) = self.ca.clock.agreed() else { return };
        let snapshot = self.ca.cell.load();
        let under = Under::of(&snapshot);
        match self.own.due(&under, now.wall) {
            Renewal::NotYet => return self.ca.levels.reached(Level::OwnLeaf),
            Renewal::Due if !news && !self.is_due(Level::OwnLeaf) => return,
            Renewal::Due | Renewal::AtOnce => {}
        }
        let ca = &self.ca;
        let leaf = match own_leaf::issue(&ca.issuer, snapshot, &ca.id, &self.names, now.wall).await
        {
            Ok(leaf) => leaf,
            Err(error) => return self.failed(Level::OwnLeaf, &error),
        };
        self.keys.add(leaf.key);
        if let Err(error) = self.front.serve_as(leaf.identity) {
            return self.failed(Level::OwnLeaf, &error);
        }
        self.own = Own { validity: leaf.validity, under };
        let (chain, key) = leaf.signing_leaf;
        self.transition_signer.set(chain, key);
        // Handshakes with the former leaf that are in flight are what gates settle for.
        own_leaf::release_others(&ca.ledger, leaf.serial).await;
        self.ca.levels.reached(Level::OwnLeaf);
        tracing::info!(not_after = %self.own.validity.not_after(), "the server's own leaf is renewed");
    }

    /// Asks for an issuer that this replica lacks, and for a new one at half of the present one's life.
    async fn keep_issuers(&mut self, now: Timestamp) {
        let state = self.driver.state();
        let Some(due) = self.issuers.due(&state, now).await else { return };
        tracing::info!(root = %due.root.short(), why = %due.why, "asking for an issuer");
        if let Err(error) = self.driver.submit(due.event()).await {
            tracing::error!(%error, "an issuer could not be asked for");
        }
    }

    /// Asks for a rotation that is due without anybody's asking. The request is named after what it is for, so that asking again, here
    /// or at another server, asks for nothing twice.
    async fn replace_old_root(&self, now: Timestamp) {
        let Due::Ask(due) = due::now(&self.ca, &self.driver.state(), now) else { return };
        let Ok(authority) = AuthorityName::parse(&self.ca.causes.authority) else { return };
        let (cause, root) = (due.cause.name(), due.root.short());
        let reason = due.in_spite_of.as_ref().map_or_else(String::new, |closed| {
            format!("root {root} ends too soon to wait, although {}", due::because(closed))
        });
        tracing::info!(%root, cause, reason, "asking for a rotation");
        let request_id = due.request_id;
        let (mode, canary) = (self.mode, self.canary.clone());
        let asked =
            Event::RotationRequested { request_id, authority, mode, stage_again: None, canary };
        let word = Word { by: cause.to_owned(), reason };
        if let Err(error) = self.driver.submit_as(asked, word).await {
            tracing::error!(%error, "a rotation could not be asked for");
        }
    }

    /// Reads the key sets of token issuers again; those that cannot be read stay as they were.
    pub async fn read_key_sets(&self) {
        let refused = self.machine.read_key_sets().await;
        self.ca.findings.set(Look::KeySets, refused);
    }

    /// Looks whether the files that this server stands on are still there.
    async fn look_at_files(&self) {
        let Some(missing) = self.machine.look_at_files().await else { return };
        self.ca.findings.set(Look::Ground, missing.ground);
        self.ca.findings.set(Look::Files, missing.files);
    }

    /// A registry that could not be written is tried again until it can be.
    async fn mend_registry(&self) {
        if self.ca.registry.is_broken() && self.ca.registry.probe().await {
            tracing::info!("the registry can be written again");
        }
    }
}

impl Upkeep {
    /// Whether a root that signs here has no bound in this segment yet.
    fn lacks_bound(&self, state: &State) -> bool {
        let of_cohort = state.canary_signer_of(&self.replica).map(|signer| signer.root);
        let roots = state.signing_root().into_iter().chain(of_cohort);
        roots.into_iter().any(|root| state.leaf_limit(&root, &self.segment).is_none())
    }
}

/// The event that raises the horizon for this replica and its segment, if it is due.
pub fn horizon_due(
    state: &State,
    policy: &Policy,
    replica: &ReplicaName,
    segment: &SegmentId,
    now: Timestamp,
) -> Option<Event> {
    // Nothing is released without an issuer.
    let signers = [state.signer_of(replica), state.canary_signer_of(replica)];
    signers.into_iter().flatten().find_map(|signer| {
        let root = signer.root;
        let limit = policy.horizon_limit(now, state.roots.get(&root)?.not_after);
        let present = state.leaf_limit(&root, segment);
        let wanted =
            now.plus(policy.leaf_lifetime_max).plus(policy.horizon_step_max / 2).min(limit);
        let due = present.is_none_or(|present| present < wanted);
        due.then(|| Event::HorizonRequested { root, segment: segment.clone(), until: limit })
    })
}

/// Never ends while nothing is to be sealed.
async fn former_gone(cell: &SnapshotCell, generation: Option<Generation>) {
    match generation {
        Some(generation) => cell.former_gone(generation).await,
        None => std::future::pending().await,
    }
}
