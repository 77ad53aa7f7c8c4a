//! Starts a CA and stops it: every part opened in order, wired, and later closed in order.
//!
//! The order of [`Server::start`] is the order of what rests on what: the data directory and its lock, the record, keys
//! and authorities, the driver and a root that signs, the ledger and its segment, the horizon, the first snapshot, the
//! server's own leaf, the sockets. State that exists and cannot be read ends the start with what to do; it is never a
//! reason to make a new root.

mod authority_state;
mod ca_keys;
mod effects;
mod error;
mod keeper;
mod layout;
mod listen;
mod open;
mod own_leaf;
mod running;
mod snapshots;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use host::{Disk, OsRandomness, RealDisk, SystemClock};
use issuance::profile::AboveMax as IssueAboveMax;
use issuance::{Issuer, LeafProfile, ProfileSettings, ServingNames, SnapshotCell};
use ledger::{Ledger, OpenOptions, Recovered};
use rotation::{Event, ReplicaName, SegmentId};
use rotation_driver::DriverHandle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trust::randomness::random_bytes;
use trust::{Clock, Randomness, SpiffeId};

pub use error::BootError;
pub use own_leaf::OwnLeafError;
pub use running::Running;
pub use snapshots::SnapshotError;

pub use crate::registry::RegistryUnreadable;

use ca_keys::CaKeys;
use keeper::Keeper;
use layout::Layout;
use listen::{Serving, Sockets};
use snapshots::Snapshots;

use crate::admin;
use crate::authn::Authenticator;
use crate::authn::jwt::{JwtVerifier, TokenIssuer};
use crate::authz::Authorizer;
use crate::ca::Ca;
use crate::config::{AboveMax, Config, Problems};
use crate::metrics::Metrics;
use crate::registry::AgentRegistry;
use crate::sessions::Sessions;
use crate::transport::accept::Stop;
use crate::transport::tls::TlsState;

/// What a server needs of the machine.
#[derive(Debug, Clone)]
pub struct HostDeps {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Serial numbers, ids and the secrets of join tokens.
    pub randomness: Arc<dyn Randomness>,
    /// Durable files.
    pub disk: Arc<dyn Disk>,
}

impl HostDeps {
    /// The machine itself.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            randomness: Arc::new(OsRandomness::new()),
            disk: Arc::new(RealDisk),
        }
    }
}

/// The CA server.
#[derive(Debug, Clone, Copy)]
pub struct Server;

impl Server {
    /// Checks what the configuration says to plugins, without opening anything.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn check(config: &Config) -> Result<(), Problems> {
        Problems::unless_empty(open::plugin_problems(config))
    }

    /// Starts a server; when it answers, requests are served.
    ///
    /// # Errors
    /// [`BootError`] says what to do. Nothing is served then, and what was stored so far is taken up by the next start.
    pub async fn start(config: Config, deps: HostDeps) -> Result<Running, BootError> {
        Self::check(&config)?;
        let layout = Layout::claim(deps.disk.as_ref(), config.data_dir())?;
        let store = open::record(&layout, &deps).await?;
        let plugins = Arc::new(open::plugins(&layout, &deps));
        let keys = open::keys(&config, Arc::clone(&plugins)).await?;
        let authorities = open::authority(&config, (&plugins, &layout, &deps), &keys)?;
        let cell_slot = Arc::new(OnceLock::new());
        let backends = (&keys, authorities);
        let started =
            open::driver(&config, (&layout, &deps), store, backends, Arc::clone(&cell_slot)).await?;
        let (driver, driver_task) = started;
        open::founded(&config, &deps, &driver).await?;

        let (ledger, segment) = open_ledger(&config, &deps, &layout, &driver).await?;
        let policy = open::policy(&config);
        let now = deps.clock.now();
        if let Some(event) = keeper::horizon_due(&driver.state(), &policy, &segment, now) {
            driver.submit(event).await?;
        }
        let state = driver.state();
        let mut snapshots = Snapshots::new(Arc::clone(&keys), segment.clone());
        let first = snapshots.of(&state, now).await?;
        let (bundles, bundle_changes) = watch::channel(first.bundle().clone());
        let cell = Arc::new(SnapshotCell::new(first));
        // Nobody else sets it.
        let _ = cell_slot.set(Arc::clone(&cell));

        let ca_keys = Arc::new(CaKeys::default());
        ca_keys.learn(&state);
        let issuer = Issuer::new(
            profile(&config)?,
            Arc::clone(&ledger),
            Arc::clone(&deps.clock),
            Arc::clone(&deps.randomness),
        );
        let id = SpiffeId::ca(config.trust_domain(), config.replica())?;
        let names =
            ServingNames::new(config.listen().dns_names().to_vec(), config.listen().ip_addresses().to_vec())?;
        let own = own_leaf::issue(&issuer, cell.load(), &id, &names).await?;
        ca_keys.add(own.key);
        let tls = Arc::new(TlsState::new(own.identity)?);

        let registry_path = layout.registry();
        let registry = open::blocking(move || AgentRegistry::open(&registry_path)).await??;
        let jwt = Arc::new(token_issuers(&config));
        let ca = Arc::new(Ca {
            clock: Arc::clone(&deps.clock),
            randomness: Arc::clone(&deps.randomness),
            cell,
            issuer,
            authenticator: Authenticator::new(
                Arc::clone(&jwt),
                Arc::<Ledger>::clone(&ledger),
                Arc::new(registry.clone()),
                Arc::clone(&deps.clock),
            ),
            authorizer: Authorizer::new(
                config.trust_domain().clone(),
                config.leaf().name_mismatch(),
                Arc::<CaKeys>::clone(&ca_keys),
                Arc::new(registry.clone()),
            ),
            ledger,
            registry,
            metrics: Arc::new(Metrics::new()),
            sessions: Sessions::default(),
            driver: driver.clone(),
            bundles: bundle_changes,
            id,
            replica: config.replica().to_owned(),
            started_at: now,
        });
        // Weak: the metrics belong to the CA that they show.
        let shown = Arc::downgrade(&ca);
        ca.metrics.refresh_with(move |live| {
            if let Some(ca) = shown.upgrade() {
                admin::gauges(&ca, live);
            }
        });

        let (stop, tasks) = (Stop::default(), TaskTracker::new());
        let sockets = Sockets::bind(&config).await?;
        let (grpc_addr, plain_addr) = (sockets.grpc_addr, sockets.plain_addr);
        let serving =
            Serving { ca: Arc::clone(&ca), tls: Arc::clone(&tls), stop: stop.clone(), tasks: tasks.clone() };
        let (admin_file, readiness) = sockets.serve(&config, &serving)?;
        let keeper = Keeper {
            ca: Arc::clone(&ca),
            driver,
            policy,
            segment,
            snapshots,
            tls,
            bundles,
            keys: ca_keys,
            jwt,
            names,
            own: own.validity,
            to_seal: Some(state.generation),
            ticks: 0,
        };
        keeper.read_key_sets().await;
        let keeper_stop = CancellationToken::new();
        let keeper = tokio::spawn(keeper.run(keeper_stop.clone()));
        readiness.set(true).await;
        tracing::info!(%grpc_addr, %plain_addr, id = %ca.id, "the CA serves");
        Ok(Running {
            grpc_addr,
            plain_addr,
            admin_socket: config.listen().admin_socket().to_owned(),
            parts: running::Parts {
                ca,
                stop,
                tasks,
                readiness,
                keeper,
                keeper_stop,
                driver: driver_task,
                _admin_file: admin_file,
                _lock: layout.into_lock(),
            },
        })
    }
}

/// Reads the ledger and opens a segment of this incarnation, in the ledger first and then in the record: what the record
/// says of former segments rests on their having been read.
async fn open_ledger(
    config: &Config,
    deps: &HostDeps,
    layout: &Layout,
    driver: &DriverHandle,
) -> Result<(Arc<Ledger>, SegmentId), BootError> {
    let tag: [u8; 8] = random_bytes(deps.randomness.as_ref());
    let name = format!("{}-{:016x}", config.replica(), u64::from_be_bytes(tag));
    let segment = SegmentId::parse(&name)?;
    let options = OpenOptions {
        dir: layout.ledger(),
        segment: ledger::SegmentId::parse(&name)?,
        disk: Arc::clone(&deps.disk),
        clock: Arc::clone(&deps.clock),
        skew: config.leaf().skew(),
        settings: ledger::Settings::default(),
    };
    let (ledger, recovered) = open::blocking(move || Ledger::open(options)).await??;
    let opened = Event::SegmentOpened {
        replica: ReplicaName::parse(config.replica())?,
        segment: segment.clone(),
        read: read_segments(&recovered)?,
    };
    driver.submit(opened).await?;
    tracing::info!(%segment, rows = recovered.rows, "ledger open");
    Ok((Arc::new(ledger), segment))
}

fn read_segments(recovered: &Recovered) -> Result<BTreeSet<SegmentId>, rotation::BadName> {
    recovered.segments.keys().map(|segment| SegmentId::parse(segment.as_str())).collect()
}

fn profile(config: &Config) -> Result<LeafProfile, BootError> {
    let leaf = config.leaf();
    let settings = ProfileSettings {
        ttl_default: leaf.ttl_default(),
        ttl_max: leaf.ttl_max(),
        ttl_min: leaf.ttl_min(),
        backdate: leaf.backdate(),
        above_max: match leaf.above_max() {
            AboveMax::Cap => IssueAboveMax::Cap,
            AboveMax::Refuse => IssueAboveMax::Refuse,
        },
    };
    LeafProfile::new(settings).map_err(BootError::Profile)
}

fn token_issuers(config: &Config) -> JwtVerifier {
    let issuers = config.jwt().iter().map(TokenIssuer::new).collect();
    JwtVerifier::new(issuers, config.trust_domain().clone(), config.leaf().skew())
}
