//! Puts key files under a new passphrase, while no server runs on this data directory: those of its own `keys/`, and those that
//! the servers of the CA share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plugin_key_file::{
    Directory, Files, KdfCost, Passphrase, PassphraseError, PassphraseSource, RewrapError,
    Rewrapped, Rewrapping,
};
use stores::SharedStore;

use super::blocking::blocking;
use super::given::Given;
use super::layout::{Layout, exists};
use super::patience::Patience;
use super::shared_files::{COMMON, SharedFiles, scope_of};
use super::{BootError, HostDeps, store};
use crate::config::{self, Config, KeyBackendConfig, KeysConfig, StoreConfig};

/// How long a store on other machines is waited for.
const STORE_WITHIN: Duration = Duration::from_secs(30);

/// What is to be put under which passphrase.
#[derive(Debug, Clone)]
pub struct RewrapOrders {
    /// The file with the new passphrase.
    pub new: PathBuf,
    /// The file with the former one; without, what the configuration names.
    pub former: Option<PathBuf>,
    /// Only the key files of this authority; without, those of `[keys]`, and of authorities that have the same passphrase.
    pub authority: Option<String>,
}

/// One set of key files that was put under the new passphrase.
#[derive(Debug, Clone)]
pub struct RewrappedStore {
    /// How people find it.
    pub shown: PathBuf,
    /// The section of the configuration that names its passphrase.
    pub section: String,
    /// How many keys.
    pub done: Rewrapped,
}

/// Why not all keys are under the new passphrase. Each opens with that or with the former one.
#[derive(Debug, thiserror::Error)]
pub enum RewrapFailure {
    /// The data directory or the state cannot be used.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The new passphrase is none. Nothing was changed.
    #[error("the new passphrase cannot be used ({}): {error}", path.display())]
    New {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: PassphraseError,
    },
    /// The former passphrase cannot be read.
    #[error(
        "{passphrase}, the former one, cannot be used: {error}; name the file that holds it with --from"
    )]
    Former {
        /// Where it is to come from.
        passphrase: String,
        /// What is wrong.
        error: PassphraseError,
    },
    /// There is nothing to rewrap.
    #[error("{0}")]
    NoKeyFiles(String),
    /// The store does not answer.
    #[error("the store of the CA's state at {0} does not answer: start it, then run this again")]
    StoreAway(String),
    /// The former passphrase is another one.
    #[error(
        "{passphrase} does not open the key store {}, of which nothing was changed: name the file with the passphrase that its keys \
         are under with --from", directory.display()
    )]
    WrongFormer {
        /// Where the passphrase came from.
        passphrase: String,
        /// The key store.
        directory: PathBuf,
    },
    /// A key store could not be rewrapped.
    #[error(transparent)]
    Store(RewrapError),
}

/// Key files with one passphrase.
struct Target {
    section: String,
    source: PassphraseSource,
    scope: String,
    /// Whether the data directory has some of them too.
    has_own: bool,
}

/// See [`Server::rewrap`](super::Server::rewrap).
pub(super) async fn run(
    config: &Config,
    deps: &HostDeps,
    orders: &RewrapOrders,
) -> Result<Vec<RewrappedStore>, RewrapFailure> {
    let new = PassphraseSource::File(orders.new.clone());
    let new = new.read(deps.disk.as_ref());
    let new = new.map_err(|error| RewrapFailure::New { path: orders.new.clone(), error })?;
    let new = Arc::new(new);
    let targets = targets(config, orders.authority.as_deref())?;
    let none = |what: &str| {
        let text =
            format!("{what} {}: check data_dir in the configuration", config.data_dir().display());
        RewrapFailure::NoKeyFiles(text)
    };
    if !exists(config.data_dir())? {
        return Err(none("there is no data directory"));
    }
    let layout = Layout::claim(deps.disk.as_ref(), config.data_dir())?;
    if layout.trace()?.is_none() && !exists(&layout.paths.state())? {
        return Err(none("no server has started in"));
    }
    let patience = Patience::new();
    let given = Given { config, deps, layout: &layout, embedding: &(), patience: &patience };
    let store = tokio::time::timeout(STORE_WITHIN, store::open(given)).await;
    patience.ends();
    let away = || match config.store() {
        StoreConfig::Etcd(etcd) => etcd.place().to_owned(),
        StoreConfig::Kubernetes(cluster) => cluster.place().to_owned(),
        StoreConfig::Redb => layout.paths.state().display().to_string(),
    };
    let store = store.map_err(|_| RewrapFailure::StoreAway(away()))??;
    let mut done = Vec::new();
    for target in targets {
        let former = orders.former.clone().map_or(target.source.clone(), PassphraseSource::File);
        let (passphrase, former) = (former.read(deps.disk.as_ref()), told(&former));
        let unusable = |error| RewrapFailure::Former { passphrase: former.clone(), error };
        let passphrase = Arc::new(passphrase.map_err(unusable)?);
        for files in files_of(&target, &layout, deps, &store) {
            let shown = files.shown(None);
            let outcome = one(files, [Arc::clone(&passphrase), Arc::clone(&new)], deps).await?;
            let outcome = outcome.map_err(|error| match error {
                RewrapError::WrongFormer { directory } => {
                    RewrapFailure::WrongFormer { passphrase: former.clone(), directory }
                }
                error => RewrapFailure::Store(error),
            })?;
            let section = target.section.clone();
            done.extend(outcome.map(|done| RewrappedStore { shown, section, done }));
        }
    }
    match done.is_empty() {
        true => Err(none("there are no key files yet of a server of")),
        false => Ok(done),
    }
}

/// Rewraps one set of files, where blocking does no harm.
async fn one(
    files: Arc<dyn Files>,
    [former, new]: [Arc<Passphrase>; 2],
    deps: &HostDeps,
) -> Result<Result<Option<Rewrapped>, RewrapError>, BootError> {
    let randomness = Arc::clone(&deps.randomness);
    blocking(move || {
        Rewrapping {
            files: files.as_ref(),
            former: &former,
            new: &new,
            cost: KdfCost::default(),
            randomness: randomness.as_ref(),
        }
        .run()
    })
    .await
}

fn files_of(
    target: &Target,
    layout: &Layout,
    deps: &HostDeps,
    store: &Arc<dyn SharedStore>,
) -> Vec<Arc<dyn Files>> {
    let shared = SharedFiles::new(Arc::clone(store), target.scope.clone());
    let mut all: Vec<Arc<dyn Files>> = vec![Arc::new(shared)];
    if target.has_own {
        all.push(Arc::new(Directory::new(layout.paths.keys(), Arc::clone(&deps.disk))));
    }
    all
}

fn targets(config: &Config, only: Option<&str>) -> Result<Vec<Target>, RewrapFailure> {
    let authorities = config.root().authorities().values().filter_map(|authority| {
        let source = source_of(authority.keys()?, config)?;
        let name = authority.name();
        let (section, scope) = (format!("[authority.{name}.keys]"), scope_of(name));
        Some((name, Target { section, source, scope, has_own: false }))
    });
    if let Some(only) = only {
        let found = authorities.filter(|(name, _)| *name == only).map(|(_, target)| target);
        let found: Vec<_> = found.collect();
        let text = format!(
            "[authority.{only}] has no key files of its own: leave --authority out for those of [keys]"
        );
        return if found.is_empty() { Err(RewrapFailure::NoKeyFiles(text)) } else { Ok(found) };
    }
    let KeysConfig::File { passphrase } = config.keys() else {
        let text = "[keys] has no key files, so there is no passphrase to change: name an authority that has its own with --authority";
        return Err(RewrapFailure::NoKeyFiles(text.to_owned()));
    };
    let source = match passphrase {
        config::Passphrase::File(path) => PassphraseSource::File(path.clone()),
        config::Passphrase::Env(name) => PassphraseSource::Environment(name.clone()),
    };
    let same: Vec<_> =
        authorities.map(|(_, target)| target).filter(|target| target.source == source).collect();
    let (section, scope) = ("[keys]".to_owned(), COMMON.to_owned());
    let common = Target { section, source, scope, has_own: true };
    Ok([common].into_iter().chain(same).collect())
}

/// Where the passphrase of an authority with key files of its own comes from.
pub(super) fn source_of(keys: &KeyBackendConfig, config: &Config) -> Option<PassphraseSource> {
    let text = |key: &str| keys.settings().get(key)?.as_str().map(str::to_owned);
    let file = text("passphrase_file").map(|path| config.directory().join(path));
    let source = file.map(PassphraseSource::File);
    let source = source.or_else(|| text("passphrase_env").map(PassphraseSource::Environment));
    source.filter(|_| keys.backend() == "file")
}

fn told(source: &PassphraseSource) -> String {
    match source {
        PassphraseSource::File(path) => format!("the passphrase in {}", path.display()),
        PassphraseSource::Environment(name) => {
            format!("the passphrase in the environment variable {name}")
        }
    }
}
