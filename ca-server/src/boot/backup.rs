//! A backup of a state that no running server is asked for, its restore, and what is to be known of its keys.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ca_state::backup::{Backup, BackupError, Choice, Taking};
use ca_state::{Place, RestoreError, Restored, Restoring};
use host::{DirLock, DirLockError, Disk, RealDisk};
use plugin_key_file::{FileKeys, Files, KdfCost, OpenError, Opening, PassphraseSource};
use stores::marked::unmark;
use stores::spaces::ROOT_KEYS;
use stores_redb::{OpenError as StateFileError, RedbStore};

use super::blocking::blocking;
use super::layout::{self, Layout};
use super::moving::{StateMoveError, name, nobody_runs, opened};
use super::rewrap::source_of;
use super::shared_files::{COMMON, place, scope_of};
use super::{BootError, HostDeps, former};
use crate::config::{self, Config, KeysConfig};

/// Why a backup was not made or restored.
#[derive(Debug, thiserror::Error)]
pub enum StateBackupError {
    /// A server runs, or whether one does is not known.
    #[error(transparent)]
    Server(#[from] StateMoveError),
    /// A server runs on this data directory.
    #[error(transparent)]
    Locked(#[from] DirLockError),
    /// The data directory or the store cannot be used.
    #[error(transparent)]
    Store(#[from] BootError),
    /// The state could not be read.
    #[error("{place}: {error}")]
    Backup {
        /// Where it is.
        place: String,
        /// Why not.
        error: BackupError,
    },
    /// It is of another trust domain than the configuration.
    #[error(
        "the backup is of trust domain {backup}, and the configuration of {configured}: name the configuration of that CA with --config"
    )]
    Foreign {
        /// Whose it is.
        backup: String,
        /// Whose it would become.
        configured: String,
    },
    /// A former release's record would be taken over in its place.
    #[error(
        "{} belongs to a former release, and a server that starts would take it for the state: move it elsewhere, then run the \
         same restore again", path.display()
    )]
    Former {
        /// The file.
        path: PathBuf,
    },
    /// The file of the state is there, and cannot be opened.
    #[error("{error}; to restore in its place, move {} elsewhere and run the same restore again", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: StateFileError,
    },
    /// It could not be restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

/// A backup in the making, of a state that this process reads itself.
pub struct OfflineBackup {
    taking: Taking,
    /// Held so that no server starts on a file that is being read.
    _lock: Option<DirLock>,
    place: String,
}

impl OfflineBackup {
    /// How people call the place that it is read from.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The next bytes; `None` when it is whole.
    ///
    /// # Errors
    /// [`StateBackupError::Backup`]; what was given out so far is no backup.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, StateBackupError> {
        let next = self.taking.next().await;
        next.map_err(|error| StateBackupError::Backup { place: self.place.clone(), error })
    }
}

pub(super) async fn begin(
    config: &Config,
    deps: &HostDeps,
    with_keys: bool,
) -> Result<OfflineBackup, StateBackupError> {
    // Servers may go on over a store that they share.
    let lock = match config.store().is_shared() {
        true => None,
        false => Some(DirLock::acquire(config.data_dir())?),
    };
    let (place, store) = (name(config), opened(config, deps, false).await?);
    let choice = Choice {
        with_keys,
        now: deps.clock.now().as_secs(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
    };
    match Taking::begin(store, &choice).await {
        Ok(taking) => Ok(OfflineBackup { taking, _lock: lock, place }),
        Err(error) => Err(StateBackupError::Backup { place, error }),
    }
}

pub(super) async fn restore(
    config: &Config,
    deps: &HostDeps,
    backup: &Backup,
    replaces: Option<&str>,
) -> Result<Restored, StateBackupError> {
    if backup.header.trust_domain != config.trust_domain().as_str() {
        return Err(StateBackupError::Foreign {
            backup: backup.header.trust_domain.clone(),
            configured: config.trust_domain().to_string(),
        });
    }
    let layout = Layout::claim(deps.disk.as_ref(), config.data_dir())?;
    let (record, state) = (former::record(&layout.paths), layout.paths.state());
    if layout::exists(&record)? {
        return Err(StateBackupError::Former { path: record });
    }
    let place = name(config);
    if config.store().is_shared()
        && layout::exists(&state)?
        && !went_elsewhere(deps, &state).await?
    {
        return Err(BootError::StateHere { path: state, place }.into());
    }
    let store = match opened(config, deps, true).await {
        Err(BootError::StateFile(error @ StateFileError::Unreadable { .. })) => {
            return Err(StateBackupError::Unusable { path: state, error });
        }
        opened => opened?,
    };
    nobody_runs(&place, store.as_ref()).await?;
    let into = Place { store: store.as_ref(), name: &place };
    Ok(Restoring { backup, into, replaces }.run().await?)
}

async fn went_elsewhere(deps: &HostDeps, state: &Path) -> Result<bool, BootError> {
    let (disk, path) = (Arc::clone(&deps.disk), state.to_owned());
    let store = blocking(move || RedbStore::open(disk, &path)).await??;
    Ok(ca_state::moved_to(&store).await.map_err(BootError::NotRead)?.is_some())
}

/// Sealed keys of a backup, under one passphrase.
#[derive(Debug, Clone)]
pub struct SealedKeys {
    /// Whose they are: `keys`, or `authority.NAME`.
    pub scope: String,
    /// How many.
    pub keys: usize,
    /// Whether the passphrase opens every one of them; none was tried if nobody gave one.
    pub opens: Option<Result<(), String>>,
}

/// The files of one set of keys in a backup.
#[derive(Debug)]
struct BackupFiles {
    scope: String,
    files: BTreeMap<String, Vec<u8>>,
}

pub(super) async fn try_keys(
    backup: &Backup,
    config: Option<&Config>,
    passphrase: Option<&Path>,
) -> Result<Vec<SealedKeys>, BootError> {
    let mut scopes = BTreeMap::<String, BTreeMap<String, Vec<u8>>>::new();
    for (id, value) in backup.of(ROOT_KEYS) {
        if let Some((scope, name)) = id.split_once('/') {
            scopes.entry(scope.to_owned()).or_default().insert(name.to_owned(), value.clone());
        }
    }
    let mut tried = Vec::new();
    for (scope, files) in scopes {
        let keys = files.keys().filter(|name| name.ends_with(".key")).count();
        let source = match passphrase {
            Some(path) => Some(PassphraseSource::File(path.to_owned())),
            None => config.and_then(|config| source(config, &scope)),
        };
        let opens = match source {
            Some(source) => Some(open(BackupFiles { scope: scope.clone(), files }, source).await?),
            None => None,
        };
        tried.push(SealedKeys { scope, keys, opens });
    }
    Ok(tried)
}

/// Where the configuration has the passphrase of these keys.
fn source(config: &Config, scope: &str) -> Option<PassphraseSource> {
    if scope == COMMON {
        let KeysConfig::File { passphrase } = config.keys() else { return None };
        return Some(match passphrase {
            config::Passphrase::File(path) => PassphraseSource::File(path.clone()),
            config::Passphrase::Env(name) => PassphraseSource::Environment(name.clone()),
        });
    }
    let mut authorities = config.root().authorities().values();
    let authority = authorities.find(|authority| scope_of(authority.name()) == scope)?;
    source_of(authority.keys()?, config)
}

/// Opens every key; the passphrase is stretched, which takes a moment.
async fn open(
    files: BackupFiles,
    source: PassphraseSource,
) -> Result<Result<(), String>, BootError> {
    blocking(move || {
        let disk: &dyn Disk = &RealDisk;
        let passphrase = source.read(disk).map_err(|error| error.to_string())?;
        let opening = Opening {
            files: Arc::new(files),
            passphrase,
            cost: KdfCost::default(),
            randomness: Arc::new(host::OsRandomness::new()),
        };
        FileKeys::open_in(opening).map(drop).map_err(|error| error.to_string())
    })
    .await
}

impl Files for BackupFiles {
    fn shown(&self, name: Option<&str>) -> PathBuf {
        let all = PathBuf::from(ROOT_KEYS.name()).join(&self.scope);
        name.map_or_else(|| all.clone(), |name| all.join(name))
    }

    fn open(&self) -> Result<(), OpenError> {
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, OpenError> {
        Ok(self.files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, OpenError> {
        let Some(value) = self.files.get(name) else { return Ok(None) };
        let read = place(&self.scope, name).and_then(|key| unmark(&key, value).map(<[u8]>::to_vec));
        let damaged = |error: stores::ReadError| OpenError::Damaged {
            path: self.shown(Some(name)),
            detail: error.to_string(),
        };
        read.map(Some).map_err(damaged)
    }

    fn create(&self, _: &str, _: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Err(io::Error::other("a backup is only read"))
    }

    fn replace(&self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::Error::other("a backup is only read"))
    }

    fn are_shared(&self) -> bool {
        true
    }
}
