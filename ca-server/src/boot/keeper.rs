//! The one task that keeps a running CA up: it shows each new record to the requests, raises the horizon ahead of them,
//! renews the server's own leaf and the issuer, asks for a new root when the old one is due, tells probes whether leaves can be issued, and lets the ledger forget.
//!
//! Everything is tested for as a level, each second and at each change of the record: a failed step is tried again, and
//! what was in force stays in force meanwhile.

use std::sync::Arc;
use std::time::Duration;

use issuance::{ServingNames, SnapshotCell};
use rotation::{AuthorityName, Event, Phase, Policy, RequestId, SegmentId, State};
use rotation_driver::DriverHandle;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use trust::randomness::random_bytes;
use trust::{Bundle, Certificate, Generation, Timestamp, Validity};

use super::ca_keys::CaKeys;
use super::listen::Readiness;
use super::own_leaf;
use super::snapshots::Snapshots;
use crate::admin;
use crate::authn::jwt::JwtVerifier;
use crate::bundles::Voice;
use crate::ca::Ca;
use crate::config::RotationConfig;
use crate::transport::tls::TlsState;

/// How often levels are tested.
const TICK: Duration = Duration::from_secs(1);
/// How often key sets of token issuers are read again, the ledger compacted, and failed steps tried again; in ticks.
const KEY_SETS_EVERY: u64 = 5;
const COMPACT_EVERY: u64 = 3_600;
const RETRY_EVERY: u64 = 10;

/// What the task works with.
pub(super) struct Keeper {
    pub(super) ca: Arc<Ca>,
    pub(super) driver: DriverHandle,
    pub(super) policy: Policy,
    pub(super) segment: SegmentId,
    pub(super) snapshots: Snapshots,
    pub(super) tls: Arc<TlsState>,
    pub(super) voice: Arc<Voice>,
    pub(super) bundles: watch::Sender<Bundle>,
    pub(super) keys: Arc<CaKeys>,
    pub(super) jwt: Arc<JwtVerifier>,
    pub(super) names: ServingNames,
    pub(super) rotation: RotationConfig,
    /// Name of the authority that makes new roots.
    pub(super) authority: String,
    /// Life of the leaf being served.
    pub(super) own: Validity,
    /// Snapshots older than this generation must be gone before the segment counts as sealed at it.
    pub(super) to_seal: Option<Generation>,
    pub(super) ticks: u64,
    /// What probes are told; nobody else changes it while this task runs.
    pub(super) readiness: Readiness,
}

impl Keeper {
    /// Works until told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
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
                        let state = changes.borrow_and_update().clone();
                        self.show(&state).await;
                    }
                    Err(_) => return tracing::error!("the rotation driver has stopped"),
                },
                () = former_gone(&cell, self.to_seal) => self.seal().await,
                _ = ticks.tick() => self.tick().await,
            }
        }
    }

    /// Shows a state of the record to all later requests.
    async fn show(&mut self, state: &State) {
        let former = self.ca.cell.load();
        if state.generation <= former.generation() {
            return;
        }
        self.keys.learn(state);
        let next = match self.snapshots.of(state, self.ca.clock.now()).await {
            Ok(next) => next,
            Err(error) => return tracing::error!(%error, "the former snapshot is served on"),
        };
        let bundle = next.bundle().clone();
        let new_bundle = bundle != *former.bundle();
        let new_signer = next.signer().issuer() != former.signer().issuer();
        drop(former);
        if let Err(error) = self.ca.cell.swap(next) {
            return tracing::error!(%error, "the former snapshot is served on");
        }
        if new_bundle {
            tracing::info!(sequence = %bundle.sequence(), digest = %bundle.digest(), "bundle in force");
            self.bundles.send_replace(bundle);
        }
        if new_bundle || new_signer {
            self.to_seal = Some(state.generation);
            self.renew_own_leaf().await;
        }
    }

    /// Whatever was released on an older snapshot is in the segment's rows now.
    async fn seal(&mut self) {
        let Some(generation) = self.to_seal.take() else { return };
        let sealed = Event::SegmentSealed { segment: self.segment.clone(), generation };
        if let Err(error) = self.driver.submit(sealed).await {
            tracing::warn!(%error, "the segment could not be sealed");
            self.to_seal = Some(generation);
            // The level is tested again at once; a store that does not answer must not make this spin.
            tokio::time::sleep(TICK).await;
        }
    }

    async fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        let every = |ticks: u64| self.ticks.is_multiple_of(ticks);
        let (key_sets, compact, retry) = (every(KEY_SETS_EVERY), every(COMPACT_EVERY), every(RETRY_EVERY));
        let now = self.ca.clock.now();
        self.raise_horizon(now).await;
        self.judge_readiness().await;
        // With an expired leaf no client connects at all: that is tried each second.
        if is_past_half(&self.own, now) && (retry || !self.own.contains(now)) {
            self.renew_own_leaf().await;
        }
        if retry {
            self.renew_issuer(now).await;
            self.replace_old_root(now).await;
        }
        if let Err(error) = self.ca.ledger.expire(now) {
            tracing::warn!(%error, "the audit's summary could not be written");
        }
        if key_sets {
            self.read_key_sets().await;
        }
        if compact {
            self.compact().await;
        }
    }

    /// Says whether leaves can be issued. A ledger that could not write is asked to try again, so that a server that
    /// nobody sends requests to becomes ready by itself.
    async fn judge_readiness(&self) {
        if self.ca.ledger.check().is_err() {
            // A ledger that takes nothing any more stays an obstacle.
            let _ = self.ca.ledger.probe();
        }
        let obstacles = admin::obstacles(&self.ca);
        let (was, ready) = (self.readiness.is_set(), obstacles.is_empty());
        match (was, ready) {
            (true, false) => tracing::error!(?obstacles, "not ready: no leaf can be issued"),
            (false, true) => tracing::info!("ready: leaves can be issued"),
            _ => return,
        }
        self.readiness.set(ready).await;
    }

    /// Keeps the horizon half a step ahead of the longest leaf.
    async fn raise_horizon(&self, now: Timestamp) {
        let state = self.driver.state();
        let Some(event) = horizon_due(&state, &self.policy, &self.segment, now) else { return };
        if let Err(error) = self.driver.submit(event).await {
            tracing::error!(%error, "the horizon could not be raised; leaves get shorter until it can");
        }
    }

    /// A new leaf for the server's own handshakes.
    async fn renew_own_leaf(&mut self) {
        let (ca, snapshot) = (&self.ca, self.ca.cell.load());
        let leaf = match own_leaf::issue(&ca.issuer, snapshot, &ca.id, &self.names).await {
            Ok(leaf) => leaf,
            Err(error) => return tracing::error!(%error, "the former leaf is served on"),
        };
        self.keys.add(leaf.key);
        if let Err(error) = self.tls.renew(leaf.identity) {
            return tracing::error!(%error, "the former leaf is served on");
        }
        self.own = leaf.validity;
        let (chain, key) = leaf.speaker;
        self.voice.set(chain, key);
        // Handshakes with the former leaf that are in flight are what gates settle for.
        own_leaf::release_others(&ca.ledger, leaf.serial).await;
        tracing::info!(not_after = %self.own.not_after(), "the server's own leaf is renewed");
    }

    /// Asks for a new issuer at half of the present one's life.
    async fn renew_issuer(&self, now: Timestamp) {
        let state = self.driver.state();
        let Some(root) = issuer_due(&state, now) else { return };
        let id: [u8; 8] = random_bytes(self.ca.randomness.as_ref());
        let Ok(request_id) = RequestId::parse(&format!("issuer-{:016x}", u64::from_be_bytes(id))) else {
            return;
        };
        tracing::info!(root = %root.short(), "the issuer is past half of its life: asking for a new one");
        if let Err(error) = self.driver.submit(Event::IssuerRenewalRequested { request_id, root }).await {
            tracing::error!(%error, "a new issuer could not be asked for");
        }
    }

    /// Asks for a rotation when the signing root has reached the age that the configuration sets. The request is named
    /// after the root, so that asking again asks for nothing twice.
    async fn replace_old_root(&self, now: Timestamp) {
        let Some(age) = self.rotation.max_root_age() else { return };
        if self.ca.above.has(&self.authority) {
            // New roots are made at the tier above, by its own age.
            return;
        }
        let state = self.driver.state();
        let Some(root) = root_due(&state, age, now) else { return };
        let request_id = RequestId::parse(&format!("age-{}", root.short()));
        let (Ok(request_id), Ok(authority)) = (request_id, AuthorityName::parse(&self.authority)) else {
            return;
        };
        tracing::info!(root = %root.short(), "the root has reached its age: asking for a rotation");
        let mode = self.rotation.mode();
        let asked = Event::RotationRequested { request_id, authority, mode };
        if let Err(error) = self.driver.submit_by(asked, "schedule").await {
            tracing::error!(%error, "a rotation could not be asked for");
        }
    }

    /// Reads the key sets of token issuers again; those that cannot be read stay as they were.
    pub(super) async fn read_key_sets(&self) {
        let jwt = Arc::clone(&self.jwt);
        let read = tokio::task::spawn_blocking(move || jwt.reload(|path| std::fs::read(path))).await;
        for refused in read.unwrap_or_default() {
            tracing::warn!(error = %refused, "key set not taken");
        }
    }

    async fn compact(&self) {
        let ledger = Arc::clone(&self.ca.ledger);
        match tokio::task::spawn_blocking(move || ledger.compact()).await {
            Ok(Ok(done)) => tracing::debug!(?done, "ledger compacted"),
            Ok(Err(error)) => tracing::warn!(%error, "the ledger could not be compacted"),
            Err(error) => tracing::error!(%error, "compaction broke off"),
        }
    }
}

/// The event that raises the horizon, if it is due.
pub(super) fn horizon_due(
    state: &State,
    policy: &Policy,
    segment: &SegmentId,
    now: Timestamp,
) -> Option<Event> {
    let root = state.signer()?.root;
    let limit = policy.horizon_limit(now, state.roots.get(&root)?.not_after);
    let present = state.leaf_limit(&root, segment);
    let wanted = now.plus(policy.leaf_lifetime_max).plus(policy.horizon_step_max / 2).min(limit);
    let due = present.is_none_or(|present| present < wanted);
    due.then(|| Event::HorizonRequested { root, segment: segment.clone(), until: limit })
}

/// The root that signs, if nothing is under way and it is as old as this.
fn root_due(state: &State, age: Duration, now: Timestamp) -> Option<trust::RootId> {
    let Phase::Steady(_) = &state.phase else { return None };
    let root = state.signer()?.root;
    let certificate = Certificate::parse(state.roots.get(&root)?.der.as_bytes()).ok()?;
    (now.since(certificate.validity().not_before()) >= age).then_some(root)
}

/// The root whose issuer should be renewed.
fn issuer_due(state: &State, now: Timestamp) -> Option<trust::RootId> {
    let signer = state.signer()?;
    let root = state.roots.get(&signer.root)?;
    let issuer = Certificate::parse(root.issuers.get(&signer.issuer)?.chain.first()?.as_bytes()).ok()?;
    let validity = issuer.validity();
    // Where the root leaves no more room, a new issuer would end no later: only a new root helps.
    let room = root.not_after > validity.not_after().plus(validity.not_after().since(now));
    (root.renewal.is_none() && room && is_past_half(&validity, now)).then_some(signer.root)
}

fn is_past_half(validity: &Validity, now: Timestamp) -> bool {
    let life = validity.not_after().since(validity.not_before());
    now >= validity.not_before().plus(life / 2)
}

/// Never ends while nothing is to be sealed.
async fn former_gone(cell: &SnapshotCell, generation: Option<Generation>) {
    match generation {
        Some(generation) => cell.former_gone(generation).await,
        None => std::future::pending().await,
    }
}
