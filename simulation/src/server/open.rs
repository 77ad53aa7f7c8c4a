//! The first steps of a start: clock, lease, record and driver, registry, the first root.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use control::bundles::{BundleHistory, TransitionSigner};
use control::clock::GuardedClock;
use control::duty::{first_duty, share};
use control::metered::Authorities;
use control::own_issuer::OwnIssuers;
use control::paths::Paths;
use control::rehearsing::{RehearsalPolicy, Rehearsing};
use control::work::CaEffects;
use host::Disk;
use issuance::SnapshotCell;
use registry::sessions::Sessions;
use registry::{AgentRegistry, Following, Limits, Membership};
use replicas::{Joining, Member, ReplicaRow, Roster, Standing, watch_roster};
use rotation::{AuthorityName, Event, ReplicaName, RequestId};
use rotation_driver::{DriverHandle, DriverParts, DriverTask, Duty, SharedRecord};
use stores::SharedStore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use trust::{Clock, Randomness, TrustDomain};

use crate::dice::SeededBytes;
use crate::disk::ProcessDisk;
use crate::machine::Machine;
use crate::settings::{AUTHORITY, LEASE, POLICY, SHAPES, SKEW, TRUST_DOMAIN};
use crate::store::Line;
use crate::world::World;

pub(super) type Failed = Box<dyn Error + Send + Sync>;

/// What everything else rests on.
pub(super) struct Core<'a> {
    pub(super) world: &'a Arc<World>,
    pub(super) machine: &'a Arc<Machine>,
    pub(super) name: ReplicaName,
    pub(super) domain: TrustDomain,
    pub(super) store: Arc<dyn SharedStore>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) guard: Arc<GuardedClock>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) randomness: Arc<dyn Randomness>,
    pub(super) dead: Arc<AtomicBool>,
}

impl Core<'_> {
    pub(super) fn id(&self) -> u64 {
        let bytes: [u8; 8] = trust::randomness::random_bytes(self.randomness.as_ref());
        u64::from_be_bytes(bytes)
    }
}

/// This server among the others.
pub(super) struct Joined {
    pub(super) member: Member,
    pub(super) lost: watch::Receiver<Option<replicas::Lost>>,
    pub(super) roster: watch::Receiver<Arc<Roster>>,
    pub(super) duty: watch::Receiver<Duty>,
}

/// The record, and what its effects work on.
pub(super) struct Driven {
    pub(super) driver: DriverHandle,
    pub(super) task: DriverTask,
    pub(super) cell: Arc<OnceLock<Arc<SnapshotCell>>>,
    pub(super) bundles: BundleHistory,
    pub(super) signer: Arc<TransitionSigner>,
    pub(super) authorities: Authorities,
}

pub(super) fn core<'a>(
    world: &'a Arc<World>,
    machine: &'a Arc<Machine>,
    dead: &Arc<AtomicBool>,
) -> Result<Core<'a>, Failed> {
    let disk: Arc<dyn Disk> = Arc::new(ProcessDisk {
        run: Arc::clone(&world.run),
        medium: Arc::clone(&machine.medium),
        machine: machine.number,
        dead: Arc::clone(dead),
    });
    let clock: Arc<dyn Clock> = Arc::<crate::clock::MachineClock>::clone(&machine.clock);
    let guard = Arc::new(GuardedClock::open(clock, Arc::clone(&disk), &paths(), SKEW)?);
    let line = Line {
        run: Arc::clone(&world.run),
        central: Arc::clone(&world.central),
        machine: Arc::clone(machine),
        dead: Arc::clone(dead),
    };
    Ok(Core {
        world,
        machine,
        name: machine.name().ok_or("a machine has no name")?,
        domain: TrustDomain::parse(TRUST_DOMAIN)?,
        store: Arc::new(line),
        disk,
        clock: guard.clock(),
        guard,
        randomness: Arc::new(SeededBytes::of(world.roll(crate::dice::Dice::next))),
        dead: Arc::clone(dead),
    })
}

pub(super) fn paths() -> Paths {
    Paths::below(PathBuf::from("/data"))
}

pub(super) async fn join(core: &Core<'_>, tasks: &mut JoinSet<()>) -> Result<Joined, Failed> {
    let place = match core.disk.read(&paths().place()) {
        Ok(place) => String::from_utf8_lossy(&place).into_owned(),
        Err(_) => {
            let place = format!("{:016x}", core.id());
            core.disk.replace(&paths().place(), place.as_bytes(), 0o600)?;
            place
        }
    };
    let row = ReplicaRow {
        holder: format!("{:016x}", core.id()),
        place,
        address: Some(format!("{}.example.org:1", core.name)),
        version: "0".to_owned(),
        reads: rotation::record::FORMAT,
        lease_millis: u64::try_from(LEASE.as_millis())?,
        beat: 0,
        wall_millis: core.clock.now_millis(),
        standing: Standing::Starts,
        segment: None,
    };
    let (name, store, clock) =
        (core.name.clone(), Arc::clone(&core.store), Arc::clone(&core.clock));
    let member = Member::join(Joining { name, row, store, clock, is_alone: false }).await?;
    let (tell_lost, lost) = watch::channel(None);
    let keeping = member.clone();
    tasks.spawn(async move {
        let why = keeping.keep().await;
        tell_lost.send_replace(Some(why));
    });
    let (told, mut roster) = watch::channel(Arc::default());
    let clock = Arc::clone(&core.clock);
    tasks.spawn(watch_roster(Arc::clone(&core.store), core.name.clone(), clock, told));
    let _ = roster.changed().await;
    let (told, duty) = watch::channel(first_duty(core.name.clone(), &roster.borrow()));
    tasks.spawn(share(member.clone(), roster.clone(), Arc::clone(&core.clock), told));
    Ok(Joined { member, lost, roster, duty })
}

pub(super) async fn drive(core: &Core<'_>, joined: &Joined) -> Result<Driven, Failed> {
    let cell = Arc::new(OnceLock::new());
    let bundles = BundleHistory::open(Arc::clone(&core.store), &core.domain).await?;
    let signer = Arc::<TransitionSigner>::default();
    let authority = core.world.authority();
    let authorities: Authorities = BTreeMap::from([(AUTHORITY.to_owned(), authority)]);
    let effects = CaEffects {
        replica: core.name.clone(),
        trust_domain: core.domain.clone(),
        authorities: authorities.clone(),
        keys: Arc::<crate::keys::SeededKeys>::clone(&core.machine.keys),
        shapes: SHAPES,
        store: Arc::clone(&core.store),
        clock: Arc::clone(&core.clock),
        randomness: Arc::clone(&core.randomness),
        cell: Arc::clone(&cell),
        bundles: bundles.clone(),
        transition_signer: Arc::clone(&signer),
        rehearsing: Arc::new(Rehearsing::new(RehearsalPolicy::Never, None)),
    };
    let parts = DriverParts {
        trust_domain: core.domain.clone(),
        store: Arc::new(SharedRecord::new(Arc::clone(&core.store))),
        effects: Arc::new(effects),
        clock: Arc::clone(&core.clock),
        policy: POLICY,
        duty: joined.duty.clone(),
    };
    let (driver, task) = rotation_driver::start(parts).await?;
    Ok(Driven { driver, task, cell, bundles, signer, authorities })
}

pub(super) async fn registry(core: &Core<'_>) -> Result<(AgentRegistry, Following), Failed> {
    let limits = Limits {
        max: 1_000,
        per_caller: 16,
        forget_after: Duration::from_secs(31 * 86_400),
        idle_after: Duration::from_secs(86_400),
    };
    let membership = Membership {
        replica: core.name.to_string(),
        clock: Arc::clone(&core.clock),
        sessions: Sessions::default(),
        limits,
    };
    Ok(AgentRegistry::open(Arc::clone(&core.store), membership).await?)
}

/// Waits until a root signs; asks for the first one if nobody ever did.
pub(super) async fn bootstrap(core: &Core<'_>, driver: &DriverHandle) -> Result<(), Failed> {
    if driver.state().phase.is_uninitialised() {
        let request_id = RequestId::parse(&format!("bootstrap-{:016x}", core.id()))?;
        let authority = AuthorityName::parse(AUTHORITY)?;
        driver.submit(Event::BootstrapRequested { request_id, authority }).await?;
    }
    let mut issuers = OwnIssuers::new(
        core.name.clone(),
        None,
        Arc::<crate::keys::SeededKeys>::clone(&core.machine.keys),
    );
    let mut changes = driver.changes();
    tokio::select! {
        biased;
        signs = changes.wait_for(|state| state.signing_root().is_some()) => {
            signs?;
            Ok(())
        }
        asked = asked(core, &mut issuers, driver) => asked,
    }
}

/// Asks at each change of the record for what this replica lacks. Ends when it can sign.
pub(super) async fn asked(
    core: &Core<'_>,
    issuers: &mut OwnIssuers,
    driver: &DriverHandle,
) -> Result<(), Failed> {
    let mut changes = driver.changes();
    loop {
        let state = Arc::clone(&changes.borrow_and_update());
        let now = core.clock.now();
        if issuers.can_sign(&state, now).await {
            return Ok(());
        }
        if let Some(due) = issuers.due(&state, now).await {
            driver.submit(due.event()).await?;
        }
        changes.changed().await?;
    }
}
