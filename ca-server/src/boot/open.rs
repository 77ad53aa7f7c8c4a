//! The first steps of a start: keys, authorities, the record and its driver, the first root.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use issuance::SnapshotCell;
use plugin_key_file::{FileKeysPlugin, KdfCost};
use plugin_self_signed::SelfSignedPlugin;
use plugins::memory::MemoryKeysPlugin;
use plugins::{AuthorityDeps, ConfigProblem, KeyBackend, Registry, RegistryError, RootAuthority};
use rotation::{AuthorityName, Event, Phase, Policy, RequestId, State};
use rotation_driver::{DriverHandle, DriverParts, DriverTask, RedbStore};
use trust::randomness::random_bytes;

use super::authority_state::FileState;
use super::effects::{CaEffects, Shapes};
use super::layout::{DIR_MODE, Layout};
use super::{BootError, HostDeps};
use crate::config::{Config, KeysConfig, Passphrase};

/// How long a start waits for the first root. The making goes on at the next start.
const FOUNDING_WITHIN: Duration = Duration::from_secs(60);

/// The plugins of this program.
pub(super) fn plugins(layout: &Layout, deps: &HostDeps) -> Registry {
    let mut registry = Registry::new();
    registry.add_authority(SelfSignedPlugin);
    registry.add_key_backend(MemoryKeysPlugin);
    registry.add_key_backend(FileKeysPlugin {
        directory: layout.keys(),
        cost: KdfCost::default(),
        disk: Arc::clone(&deps.disk),
        randomness: Arc::clone(&deps.randomness),
    });
    registry
}

/// Opens the record, or makes it at the first start; nothing else may be made before it.
pub(super) async fn record(layout: &Layout, deps: &HostDeps) -> Result<RedbStore, BootError> {
    let (fresh, path, disk) = (layout.is_fresh()?, layout.record(), Arc::clone(&deps.disk));
    blocking(move || match fresh {
        true => RedbStore::create(disk.as_ref(), &path),
        false => RedbStore::open(&path),
    })
    .await?
    .map_err(BootError::from)
}

/// Opens the key backend; stretching a passphrase takes a moment.
pub(super) async fn keys(config: &Config, registry: Arc<Registry>) -> Result<Arc<dyn KeyBackend>, BootError> {
    let mut settings = toml::Table::new();
    let backend = match config.keys() {
        KeysConfig::Memory => "memory",
        KeysConfig::File { passphrase } => {
            let (field, value) = match passphrase {
                Passphrase::File(path) => ("passphrase_file", path.to_string_lossy().into_owned()),
                Passphrase::Env(name) => ("passphrase_env", name.clone()),
            };
            settings.insert(field.to_owned(), value.into());
            "file"
        }
    };
    let opened = blocking(move || registry.open_key_backend(backend, &settings)).await?;
    opened.map_err(|error| plugin_problem("keys", error))
}

/// Opens the configured authority.
pub(super) fn authority(
    config: &Config,
    (registry, layout, deps): (&Registry, &Layout, &HostDeps),
    keys: &Arc<dyn KeyBackend>,
) -> Result<BTreeMap<String, Arc<dyn RootAuthority>>, BootError> {
    let chosen = config.root().authority();
    let directory = layout.authorities().join(chosen.name());
    let state = FileState::open(directory.clone(), Arc::clone(&deps.disk))
        .map_err(|source| BootError::DataDir { path: directory, source })?;
    let deps = AuthorityDeps {
        name: chosen.name().to_owned(),
        keys: Arc::clone(keys),
        clock: Arc::clone(&deps.clock),
        randomness: Arc::clone(&deps.randomness),
        state: Arc::new(state),
    };
    let opened = registry.open_authority(chosen.plugin(), chosen.settings(), deps);
    let opened = opened.map_err(|error| plugin_problem(&format!("authority.{}", chosen.name()), error))?;
    Ok(BTreeMap::from([(chosen.name().to_owned(), opened)]))
}

/// Starts the driver over the record.
pub(super) async fn driver(
    config: &Config,
    (layout, deps): (&Layout, &HostDeps),
    store: RedbStore,
    (keys, authorities): (&Arc<dyn KeyBackend>, BTreeMap<String, Arc<dyn RootAuthority>>),
    cell: Arc<OnceLock<Arc<SnapshotCell>>>,
) -> Result<(DriverHandle, DriverTask), BootError> {
    let requests = layout.requests();
    let made = deps.disk.create_dir_all(&requests, DIR_MODE);
    made.map_err(|source| BootError::DataDir { path: requests.clone(), source })?;
    let effects = CaEffects {
        trust_domain: config.trust_domain().clone(),
        authorities,
        keys: Arc::clone(keys),
        shapes: Shapes {
            root_lifetime: config.root().lifetime(),
            root_key: config.root().key(),
            issuer_lifetime: config.root().issuer_lifetime(),
            issuer_key: config.root().issuer_key(),
            leaf_lifetime_max: config.leaf().ttl_max(),
        },
        requests,
        disk: Arc::clone(&deps.disk),
        clock: Arc::clone(&deps.clock),
        randomness: Arc::clone(&deps.randomness),
        cell,
    };
    let parts = DriverParts {
        trust_domain: config.trust_domain().clone(),
        store: Arc::new(store),
        effects: Arc::new(effects),
        clock: Arc::clone(&deps.clock),
        policy: policy(config),
    };
    Ok(rotation_driver::start(parts).await?)
}

/// The machine's limits as configured.
pub(super) fn policy(config: &Config) -> Policy {
    let (least, most) = (Duration::from_secs(10), Duration::from_secs(3_600));
    Policy {
        skew: config.leaf().skew(),
        leaf_lifetime_max: config.leaf().ttl_max(),
        // A quarter of a leaf's life: some writes of the record in each, and no long wait for the last leaf.
        horizon_step_max: (config.leaf().ttl_max() / 4).clamp(least, most),
    }
}

/// Waits until a root signs; asks for the first one if nobody ever did.
pub(super) async fn founded(
    config: &Config,
    deps: &HostDeps,
    driver: &DriverHandle,
) -> Result<Arc<State>, BootError> {
    if matches!(driver.state().phase, Phase::Uninitialised) {
        let name = config.root().authority().name();
        let id: [u8; 16] = random_bytes(deps.randomness.as_ref());
        let request_id = RequestId::parse(&format!("founding-{:032x}", u128::from_be_bytes(id)))?;
        let authority = AuthorityName::parse(name)?;
        tracing::info!(authority = name, "first start: asking for a root");
        driver.submit(Event::FoundingRequested { request_id, authority }).await?;
    }
    let mut changes = driver.changes();
    let signs = changes.wait_for(|state| matches!(state.phase, Phase::Steady(_)) && state.signer().is_some());
    match tokio::time::timeout(FOUNDING_WITHIN, signs).await {
        Ok(Ok(state)) => Ok(Arc::clone(&state)),
        Ok(Err(_)) => Err(BootError::NoRoot { reason: "the driver stopped".to_owned() }),
        Err(_) => {
            let troubles = driver.troubles();
            let last = troubles.borrow().first().map(|trouble| trouble.last.to_string());
            Err(BootError::NoRoot { reason: last.unwrap_or_else(|| "the authority works on it".to_owned()) })
        }
    }
}

/// Checks the settings of plugins without opening them.
pub(super) fn plugin_problems(config: &Config) -> Vec<ConfigProblem> {
    let mut registry = Registry::new();
    registry.add_authority(SelfSignedPlugin);
    let chosen = config.root().authority();
    let checked = registry
        .authority(chosen.plugin())
        .and_then(|plugin| plugin.validate(chosen.settings()).map_err(RegistryError::Config));
    let section = format!("authority.{}", chosen.name());
    match checked {
        Ok(()) => Vec::new(),
        Err(RegistryError::Config(problems)) => {
            let prefixed = |problem: ConfigProblem| {
                ConfigProblem::new(format!("{section}.{}", problem.field), problem.problem)
            };
            problems.into_iter().map(prefixed).collect()
        }
        Err(error) => vec![ConfigProblem::new(format!("{section}.plugin"), error.to_string())],
    }
}

fn plugin_problem(section: &str, error: RegistryError) -> BootError {
    BootError::Plugin { section: section.to_owned(), error }
}

/// Runs what may block on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BootError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BootError::BrokeOff(error.to_string()))
}
