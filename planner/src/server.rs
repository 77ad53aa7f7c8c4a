//! The one server of a plan: the real driver, ledger, evidence and paced re-issue over a clock that jumps. What is signed is
//! only counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use control::evidence::{EvidenceReader, EvidenceSettings, Parts};
use control::hierarchy::{Downstreams, Upstreams};
use control::probing::ProbePolicy;
use control::reissue::{Agents, Reissue};
use control::replication::Replication;
use control::upkeep::horizon_due;
use futures::{future::maybe_done, poll};
use issuance::profile::{AboveMax, Bounds};
use issuance::{LeafProfile, ProfileSettings};
use ledger::{Ledger, Row, RowKind, Word};
use registry::sessions::Sessions;
use registry::{AgentRegistry, Limits, Membership};
use rotation::{
    AuthorityName, Event, Mode, Policy, ReplicaName, RequestId, SegmentId, SegmentState, State,
};
use rotation_driver::{
    DriverHandle, DriverParts, DriverTask, Duty, EvidenceSource as _, Reporter, SharedRecord,
};
use stores::SharedStore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use trust::{
    CertificateId, Clock, Generation, Serial, SpiffeId, SpkiHash, Timestamp, TrustDomain, Validity,
};

use crate::clock::{BEGINNING, PlanClock};
use crate::effects::PlanEffects;
use crate::error::PlanError;
use crate::memory::{PlanStore, open_ledger};
use crate::question::Question;

/// How long the root lives that a rotation brings, and the first one where its end is not known.
const ROOT_LIVES: Duration = Duration::from_secs(3_650 * 86_400);
/// How long phases may last, agents stay away, and so on, where no gate asks.
const LONG: Duration = Duration::from_secs(3_650 * 86_400);

/// The server.
pub(crate) struct Server {
    pub(crate) clock: Arc<PlanClock>,
    pub(crate) driver: DriverHandle,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) evidence: Arc<EvidenceReader>,
    pub(crate) policy: Policy,
    profile: LeafProfile,
    replica: ReplicaName,
    segment: SegmentId,
    /// What requests are served from.
    shown: watch::Sender<Option<Arc<State>>>,
    generation: watch::Sender<Option<Generation>>,
    own: Mutex<Own>,
    asked: Arc<Asked>,
}

/// The leaf that the server shows, and the number of the last leaf of all.
#[derive(Default)]
struct Own {
    serial: Option<Serial>,
    renew_at: Timestamp,
    leaves: u64,
}

/// Whom the paced re-issue asked, until the mesh hears it.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<Vec<(String, Vec<Serial>)>>);

impl Asked {
    pub(crate) fn take(&self) -> Vec<(String, Vec<Serial>)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Agents for Asked {
    async fn ask_to_renew(&self, by_agent: BTreeMap<String, Vec<Serial>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(by_agent);
    }
}

/// A leaf that somebody wants.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) kind: RowKind,
    pub(crate) agent: Option<String>,
    pub(crate) identity: SpiffeId,
    pub(crate) word: Word,
    /// What is left of a life that began before the plan; a whole one for all others.
    pub(crate) left: Option<Duration>,
}

/// A leaf that was issued.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issued {
    pub(crate) serial: Serial,
    pub(crate) not_after: Timestamp,
}

/// What keeps a server going; when it is dropped, the server is over.
pub(crate) struct Running {
    _driver: DriverTask,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Starts a server with a root that signs.
    pub(crate) async fn start(question: &Question) -> Result<(Arc<Self>, Running), PlanError> {
        let clock = Arc::new(PlanClock::new());
        let shared: Arc<dyn Clock> = Arc::<PlanClock>::clone(&clock);
        let store: Arc<dyn SharedStore> = Arc::new(PlanStore::default());
        let (replica, segment) = (
            ReplicaName::parse("plan").map_err(PlanError::broken)?,
            SegmentId::parse("plan-1").map_err(PlanError::broken)?,
        );
        let policy = question.policy;
        let (generation, shown_to_effects) = watch::channel(None);
        let effects = PlanEffects {
            clock: Arc::clone(&shared),
            replica: replica.clone(),
            first_root: question.root_left.unwrap_or(ROOT_LIVES) + question.lead_in(),
            next_root: ROOT_LIVES,
            root_bytes: question.root_bytes,
            shown: shown_to_effects,
        };
        let duty = watch::channel(Duty::alone()).1;
        let parts = DriverParts {
            trust_domain: TrustDomain::parse("plan.example").map_err(PlanError::broken)?,
            store: Arc::new(SharedRecord::new(Arc::clone(&store))),
            effects: Arc::new(effects),
            clock: Arc::clone(&shared),
            policy,
            duty: duty.clone(),
        };
        let (driver, driver_task) =
            rotation_driver::start(parts).await.map_err(PlanError::broken)?;
        let asked = Event::BootstrapRequested {
            request_id: RequestId::parse("plan-bootstrap").map_err(PlanError::broken)?,
            authority: AuthorityName::parse("plan").map_err(PlanError::broken)?,
        };
        driver.submit(asked).await.map_err(PlanError::broken)?;
        let mut changes = driver.changes();
        changes.wait_for(|state| state.phase.is_steady()).await.map_err(PlanError::broken)?;

        let ledger = open_ledger(&segment, Arc::clone(&shared), policy.skew)?;
        let opened = Event::SegmentOpened {
            replica: replica.clone(),
            segment: segment.clone(),
            read: Default::default(),
        };
        driver.submit(opened).await.map_err(PlanError::broken)?;
        let membership = Membership {
            replica: replica.to_string(),
            clock: Arc::clone(&shared),
            sessions: Sessions::default(),
            limits: Limits { max: 1, per_caller: 1, forget_after: LONG, idle_after: LONG },
        };
        let (registry, following) =
            AgentRegistry::open(Arc::clone(&store), membership).await.map_err(PlanError::broken)?;
        let evidence = Arc::new(EvidenceReader::new(Parts {
            ledger: Arc::clone(&ledger),
            registry: registry.clone(),
            clock: Arc::clone(&shared),
            settings: EvidenceSettings {
                agent: question.agent_evidence,
                alarm_after: LONG,
                return_within: LONG,
                own_trust_after: None,
                probe: ProbePolicy::Never,
            },
            foreign_leaf_max: BTreeMap::new(),
            downstreams: Arc::new(Downstreams::new(registry)),
            upstreams: Upstreams::default(),
            policy,
            segment: segment.clone(),
            replication: Arc::new(Replication::alone(
                replica.clone(),
                Arc::clone(&shared),
                policy.skew,
            )),
        }));
        let asked = Arc::new(Asked::default());
        let profile = profile(question)?;
        let server = Arc::new(Self {
            clock,
            driver: driver.clone(),
            ledger: Arc::clone(&ledger),
            evidence: Arc::clone(&evidence),
            policy,
            profile,
            replica,
            segment,
            shown: watch::channel(None).0,
            generation,
            own: Mutex::default(),
            asked: Arc::clone(&asked),
        });
        server.show().await?;
        let mut tasks = JoinSet::new();
        let every = question.grain();
        tasks.spawn(Arc::clone(&server).keep(every * 2));
        tasks.spawn(following.run());
        let reporter =
            Reporter { driver: driver.clone(), source: evidence, policy, clock: shared, duty };
        tasks.spawn(rotation_driver::report_every(every, reporter));
        tasks.spawn(Reissue::of(driver, ledger, asked, question.budget).run());
        Ok((server, Running { _driver: driver_task, _tasks: tasks }))
    }

    /// What requests are served from.
    pub(crate) fn shown(&self) -> Option<Arc<State>> {
        self.shown.borrow().clone()
    }

    /// What re-issue asked for since the last look.
    pub(crate) fn asked(&self) -> Vec<(String, Vec<Serial>)> {
        self.asked.take()
    }

    /// Asks for the rotation.
    pub(crate) async fn rotate(&self) -> Result<(), PlanError> {
        let event = Event::RotationRequested {
            request_id: RequestId::parse("plan-rotation").map_err(PlanError::broken)?,
            authority: AuthorityName::parse("plan").map_err(PlanError::broken)?,
            mode: Mode::Auto,
            stage_again: None,
            canary: None,
        };
        self.driver.submit(event).await.map(drop).map_err(PlanError::broken)
    }

    /// What the gate of the present phase waits for.
    pub(crate) async fn gate(&self, state: &State) -> Option<rotation::evidence::Gate> {
        let evidence = self.evidence.read(state).await.ok()?;
        rotation::evidence::gate(state, &evidence, &self.policy)
    }

    /// Issues leaves, all on one snapshot. `None` for one that is refused: too little is left of the root.
    pub(crate) async fn issue(
        &self,
        wanted: Vec<Wanted>,
    ) -> Result<Vec<Option<Issued>>, PlanError> {
        let Some(state) = self.shown() else { return Ok(vec![None; wanted.len()]) };
        let mut issued = Vec::with_capacity(wanted.len());
        let mut intents = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let Some(row) = self.row(&state, wanted) else {
                issued.push(None);
                continue;
            };
            let Row { serial, not_after, .. } = row;
            issued.push(Some(Issued { serial, not_after }));
            let mut intent = Box::pin(maybe_done(self.ledger.intend(row)));
            // The row is in the ledger's counts from the first poll on, so none is written on a snapshot that was sealed meanwhile;
            // and all of them wait for few writes.
            let _ = poll!(&mut intent);
            intents.push(intent);
        }
        for mut intent in intents {
            intent.as_mut().await;
            let ended = intent.as_mut().take_output();
            let ended = ended.ok_or_else(|| PlanError::broken("an intent without an end"))?;
            let intent = ended.map_err(PlanError::broken)?;
            let serial = intent.spend().serial;
            self.ledger.issued(serial, certificate(serial)).await.map_err(PlanError::broken)?;
        }
        Ok(issued)
    }

    /// The row of a leaf, if there may be one: its life is decided by the profile, as for a real one.
    fn row(&self, state: &State, wanted: Wanted) -> Option<Row> {
        let signer = state.signer_of(&self.replica)?;
        let horizon = state.leaf_limit(&signer.root, &self.segment)?;
        let ends = state.roots.get(&signer.root)?.not_after;
        let now = self.clock.now();
        let bounds = Bounds { signer: Validity::new(BEGINNING, ends).ok()?, horizon };
        let not_after = match wanted.left {
            // It was issued before the plan began.
            Some(left) => now.plus(left).min(horizon).min(ends),
            None => self.profile.lifetime(None, now, &bounds).ok()?.validity.not_after(),
        };
        let Wanted { kind, agent, identity, word, .. } = wanted;
        Some(Row {
            serial: self.serial(),
            spki: SpkiHash::of(b"plan"),
            identity,
            agent,
            root: signer.root,
            issuer: signer.issuer,
            not_after,
            born: state.sequence,
            kind,
            word,
        })
    }

    fn serial(&self) -> Serial {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        own.leaves += 1;
        let mut bytes = [0; Serial::LEN];
        for (to, from) in bytes.iter_mut().skip(Serial::LEN - 8).zip(own.leaves.to_be_bytes()) {
            *to = from;
        }
        if let Some(first) = bytes.first_mut() {
            *first = 0x40;
        }
        Serial::from_bytes(&bytes).unwrap_or_else(|| unreachable!("it begins with 0x40"))
    }

    /// Shows each new record to requests, keeps the horizon ahead, and lets the ledger forget, as a server's upkeep does.
    async fn keep(self: Arc<Self>, every: Duration) {
        let mut changes = self.driver.changes();
        changes.mark_changed();
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                changed = changes.changed() => if changed.is_err() { return },
                _ = ticks.tick() => {
                    self.raise_horizon().await;
                    let _ = self.ledger.expire();
                }
            }
            // What fails here is tried again at the next tick, and a plan that stands still says so.
            let _ = self.show().await;
        }
    }

    async fn raise_horizon(&self) {
        let (state, now) = (self.driver.state(), self.clock.now());
        if let Some(due) = horizon_due(&state, &self.policy, &self.replica, &self.segment, now) {
            let _ = self.driver.submit(due).await;
        }
    }

    async fn show(&self) -> Result<(), PlanError> {
        let mut state = self.driver.state();
        if self.lacks_bound(&state) {
            self.raise_horizon().await;
            state = self.driver.state();
        }
        let former = self.shown();
        if former.as_ref().is_none_or(|former| former.generation < state.generation) {
            self.shown.send_replace(Some(Arc::clone(&state)));
            self.generation.send_replace(Some(state.generation));
        }
        let differs = former.as_ref().is_none_or(|former| {
            former.sequence != state.sequence
                || former.signer_of(&self.replica) != state.signer_of(&self.replica)
        });
        self.renew_own(&state, differs).await?;
        if differs || self.lacks_seal(&state) {
            // Requests are answered at once, so none is left of before.
            let (segment, generation) = (self.segment.clone(), state.generation);
            self.driver
                .submit(Event::SegmentSealed { segment, generation })
                .await
                .map_err(PlanError::broken)?;
        }
        Ok(())
    }

    /// Whether no leaf may be released yet for want of a horizon.
    fn lacks_bound(&self, state: &State) -> bool {
        let signer = state.signer_of(&self.replica);
        signer.is_some_and(|signer| state.leaf_limit(&signer.root, &self.segment).is_none())
    }

    /// Whether a phase waits for a seal.
    fn lacks_seal(&self, state: &State) -> bool {
        let Some(since) = state.phase.decided_at() else { return false };
        let own = state.segments.get(&self.segment).map(|own| own.state);
        !matches!(own, Some(SegmentState::Sealed { generation }) if generation >= since)
    }

    /// The server's own leaf: a new one under each new bundle and signer, and at half of its life.
    async fn renew_own(&self, state: &State, differs: bool) -> Result<(), PlanError> {
        let now = self.clock.now();
        let former = {
            let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            if !differs && now < own.renew_at {
                return Ok(());
            }
            own.serial
        };
        let identity =
            SpiffeId::ca(&state.trust_domain, self.replica.as_str()).map_err(PlanError::broken)?;
        let wanted =
            Wanted { kind: RowKind::Own, agent: None, identity, word: Word::None, left: None };
        let issued = self.issue(vec![wanted]).await?.into_iter().flatten().next();
        let Some(Issued { serial, not_after, .. }) = issued else { return Ok(()) };
        {
            let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
            own.serial = Some(serial);
            own.renew_at = now.plus(not_after.since(now) / 2);
        }
        if let Some(former) = former {
            let _ = self.ledger.release(ledger::Witness::Server, former).await;
        }
        Ok(())
    }
}

fn certificate(serial: Serial) -> CertificateId {
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(serial.as_bytes()) {
        *to = *from;
    }
    CertificateId::from_bytes(&bytes).unwrap_or_else(|| CertificateId::of(serial.as_bytes()))
}

fn profile(question: &Question) -> Result<LeafProfile, PlanError> {
    let settings = ProfileSettings {
        ttl_default: question.leaf_ttl,
        ttl_max: question.policy.leaf_lifetime_max,
        ttl_min: question.policy.leaf_lifetime_min,
        backdate: Duration::ZERO,
        above_max: AboveMax::Cap,
        revocation_lists: false,
    };
    LeafProfile::new(settings).map_err(|problems| {
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        PlanError::Broken(said.join("; "))
    })
}
