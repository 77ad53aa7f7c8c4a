//! The first steps of a start: keys, authorities, the record and its driver, the first root.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use issuance::SnapshotCell;
use plugins::KeyBackend;
use registry::sessions::Sessions;
use registry::{AgentRegistry, Following, Membership};
use rotation::{AuthorityName, Event, Policy, ReplicaName, RequestId, State};
use rotation_driver::{
    DriverHandle, DriverParts, DriverTask, Duty, RecordStore, SharedRecord, SubmitError,
};
use stores::SharedStore;
use tokio::sync::watch;
use trust::randomness::random_bytes;

use super::answers::{Asked, answer_timeout, effect_failed};
use super::given::Given;
use super::instances::{self, Opener};
use super::joined::Joined;
use super::own_issuer;
use super::settings;
use super::store;
use super::{BootError, HostDeps};
use crate::config::Config;
use control::bundles::{BundleHistory, TransitionSigner};
use control::clock::GuardedClock;
use control::cross_net::CrossNet;
use control::metered::{Authorities, AuthorityCalls};
use control::own_issuer::OwnIssuers;
use control::rehearsing::Rehearsing;
use control::work::{CaEffects, Shapes};

/// Failed attempts at one step, some three seconds of them, after which the start gives up.
const BOOTSTRAP_ATTEMPTS: u32 = 4;

/// What everything else rests on.
pub(super) struct CoreServices {
    /// What all servers of the CA share.
    pub(super) store: Arc<dyn SharedStore>,
    /// This server among those of the CA.
    pub(super) joined: Joined,
    /// The clock, and where it is noted.
    pub(super) guard: Arc<GuardedClock>,
    pub(super) authorities: Authorities,
    /// What neighbors are asked with.
    pub(super) neighbors: Authorities,
    pub(super) keys: Arc<dyn KeyBackend>,
    /// Counters of calls to the authorities.
    pub(super) calls: AuthorityCalls,
    pub(super) driver: DriverHandle,
    pub(super) task: DriverTask,
    /// Where effects look for what requests are served from; empty until there is something.
    pub(super) cell: Arc<OnceLock<Arc<SnapshotCell>>>,
    pub(super) bundles: BundleHistory,
    /// What signs changes of the bundle, once the server has a leaf of its own.
    pub(super) transition_signer: Arc<TransitionSigner>,
    /// How new roots are rehearsed, once there is something to rehearse with.
    pub(super) rehearsing: Arc<Rehearsing>,
    /// The second net of rotations.
    pub(super) cross: Arc<CrossNet>,
}

/// Opens the shared state, the keys and the authority, and starts the driver over them.
pub(super) async fn core_services(
    given: Given<'_>,
    guard: Arc<GuardedClock>,
) -> Result<CoreServices, BootError> {
    let Given { config, deps, layout, embedding, .. } = given;
    let store = store::open(given).await?;
    let joined = Joined::join(given, &store).await?;
    let record = embedding.record(Arc::new(SharedRecord::new(Arc::clone(&store))));
    let registry = Arc::new(instances::registry(config, layout, deps, embedding));
    let keys = instances::keys(config, Arc::clone(&registry)).await?;
    let calls = AuthorityCalls::default();
    let in_use = in_use(record.as_ref()).await;
    let opener = Opener {
        config,
        registry: &registry,
        store: &store,
        embedding,
        deps,
        keys: &keys,
        calls: &calls,
        in_use: &in_use,
    };
    let (authorities, neighbors) = (opener.all().await?, opener.neighbors().await?);
    let cell = Arc::new(OnceLock::new());
    let (bundles, transition_signer) =
        (bundles(config, &store).await?, Arc::<TransitionSigner>::default());
    let openssl = config.rotation().openssl().map(Path::to_owned);
    let rehearsing = Arc::new(Rehearsing::new(config.rotation().rehearse(), openssl));
    let wanted = config.rotation().cross_sign();
    let cross = CrossNet::new(wanted, settings::leaves(config), Arc::clone(&store));
    let served = Served {
        rehearsing: Arc::clone(&rehearsing),
        cell: Arc::clone(&cell),
        bundles: bundles.clone(),
        transition_signer: Arc::clone(&transition_signer),
        duty: joined.duty.clone(),
        store: Arc::clone(&store),
    };
    let started = driver(given, record, Arc::clone(&keys), authorities.clone(), served).await?;
    let (driver, task) = started;
    Ok(CoreServices {
        store,
        joined,
        guard,
        authorities,
        neighbors,
        keys,
        calls,
        driver,
        task,
        cell,
        bundles,
        transition_signer,
        rehearsing,
        cross: Arc::new(cross),
    })
}

/// The authorities that roots of the record come from: what they keep must be there. Of a record that cannot be read the
/// driver says so.
async fn in_use(store: &dyn RecordStore) -> BTreeSet<String> {
    let Ok(Some(stored)) = store.load().await else { return BTreeSet::new() };
    let Ok(state) = rotation::record::decode(&stored.record) else { return BTreeSet::new() };
    let in_use = state.roots.values().filter(|entry| !entry.state.is_retired());
    in_use.map(|entry| entry.authority.to_string()).collect()
}

/// What effects put in force.
struct Served {
    cell: Arc<OnceLock<Arc<SnapshotCell>>>,
    bundles: BundleHistory,
    transition_signer: Arc<TransitionSigner>,
    store: Arc<dyn SharedStore>,
    duty: watch::Receiver<Duty>,
    rehearsing: Arc<Rehearsing>,
}

/// Opens the bundles of the past.
async fn bundles(
    config: &Config,
    store: &Arc<dyn SharedStore>,
) -> Result<BundleHistory, BootError> {
    let opened = BundleHistory::open(Arc::clone(store), config.trust_domain()).await;
    opened.map_err(BootError::NotRead)
}

/// Starts the driver over the record.
async fn driver(
    given: Given<'_>,
    store: Arc<dyn RecordStore>,
    keys: Arc<dyn KeyBackend>,
    authorities: Authorities,
    served: Served,
) -> Result<(DriverHandle, DriverTask), BootError> {
    let Given { config, deps, .. } = given;
    let effects = CaEffects {
        replica: ReplicaName::parse(config.replica())?,
        trust_domain: config.trust_domain().clone(),
        authorities,
        keys,
        shapes: Shapes {
            root_lifetime: config.root().lifetime(),
            root_key: config.root().key(),
            issuer_lifetime: config.root().issuer_lifetime(),
            issuer_lifetime_min: config.root().issuer_lifetime_min(),
            issuer_key: config.root().issuer_key(),
            leaf_lifetime_max: config.leaf().ttl_max(),
        },
        store: served.store,
        clock: Arc::clone(&deps.clock),
        randomness: Arc::clone(&deps.randomness),
        cell: served.cell,
        bundles: served.bundles,
        transition_signer: served.transition_signer,
        rehearsing: served.rehearsing,
    };
    let parts = DriverParts {
        trust_domain: config.trust_domain().clone(),
        store,
        effects: Arc::new(effects),
        clock: Arc::clone(&deps.clock),
        policy: policy(config),
        duty: served.duty,
    };
    Ok(rotation_driver::start(parts).await?)
}

/// Reads the registry of agents.
pub(super) async fn registry(
    config: &Config,
    deps: &HostDeps,
    store: &Arc<dyn SharedStore>,
) -> Result<(AgentRegistry, Following), BootError> {
    let membership = Membership {
        replica: config.replica().to_owned(),
        clock: Arc::clone(&deps.clock),
        limits: config.agents().limits().clone(),
        sessions: Sessions::default(),
    };
    Ok(AgentRegistry::open(Arc::clone(store), membership).await?)
}

/// The machine's limits as configured.
pub fn policy(config: &Config) -> Policy {
    policy_for(config, config.leaf().ttl_max())
}

/// The same, were this the longest life of a leaf.
pub fn policy_for(config: &Config, ttl_max: Duration) -> Policy {
    let (least, most) = (Duration::from_secs(10), Duration::from_secs(3_600));
    Policy {
        skew: config.leaf().skew(),
        leaf_lifetime_max: ttl_max,
        // A quarter of a leaf's life: some writes of the record in each, and no long wait for the last leaf.
        horizon_step_max: (ttl_max / 4).clamp(least, most),
        settle: config.rotation().settle(),
        leaf_lifetime_min: config.leaf().ttl_min(),
        withdrawal_max: config.rotation().withdrawal_max(),
        canary_observe: config.rotation().canary_observe(),
        canary_limit_percent: config.rotation().canary_limit(),
    }
}

/// Waits until a root signs; asks for the first one if nobody ever did.
pub(super) async fn bootstrapped(
    config: &Config,
    deps: &HostDeps,
    keys: Arc<dyn KeyBackend>,
    through: Asked<'_>,
) -> Result<Arc<State>, BootError> {
    let driver = through.driver;
    if driver.state().phase.is_uninitialised() {
        let name = config.root().authority();
        let id: [u8; 16] = random_bytes(deps.randomness.as_ref());
        let request_id = RequestId::parse(&format!("bootstrap-{:032x}", u128::from_be_bytes(id)))?;
        let authority = AuthorityName::parse(name)?;
        tracing::info!(authority = name, "first start: asking for a root");
        let asked = driver.submit(Event::BootstrapRequested { request_id, authority }).await;
        if let Err(error) = asked {
            // Of servers that start at once one is first, and the others wait for the root that it asked for.
            let is_first = driver.state().phase.is_uninitialised();
            if is_first || !matches!(error, SubmitError::Refused(_)) {
                return Err(error.into());
            }
            tracing::info!("another server of this CA was first and has asked for the root");
        }
    }
    let mut changes = driver.changes();
    let signs = changes.wait_for(|state| state.signing_root().is_some());
    // Where another replica was first and is gone, the root goes on with an issuer of this one.
    let mut issuers = OwnIssuers::new(ReplicaName::parse(config.replica())?, None, keys);
    tokio::select! {
        biased;
        signs = signs => match signs {
            Ok(state) => Ok(Arc::clone(&state)),
            Err(_) => Err(BootError::NoRoot { reason: "the driver stopped".to_owned() }),
        },
        Err(error) = own_issuer::asked(&mut issuers, deps, driver) => Err(error),
        reason = effect_failed(driver, |_| true, BOOTSTRAP_ATTEMPTS) => Err(BootError::NoRoot { reason }),
        () = answer_timeout(through) => {
            Err(BootError::NoRoot { reason: "the authority has not answered yet".to_owned() })
        }
    }
}
