//! The store: opened once, then keys in memory over files on disk.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;
use host::{Disk, LoosePermissions, check_private};
use plugins::memory::{destroyed, other_spec};
use plugins::ring_keys::RingKey;
use plugins::{Health, KeyBackend, KeyBackendDescription, KeyError, KeyHandle, KeyId, KeySpec, RequestId};
use thiserror::Error;
use trust::{PublicKey, Randomness, SignatureAlgorithm};

use crate::format::{FormatError, Header, KeyFile, Stored};
use crate::passphrase::{Passphrase, PassphraseError};
use crate::sealed::{KdfCost, SealError, StoreKey};

const HEADER: &str = "store.json";
const SUFFIX: &str = "key";

/// What a store is opened with.
#[derive(Debug)]
pub struct FileKeysOptions {
    /// The directory, made (0700) if it is not there.
    pub directory: PathBuf,
    /// The passphrase.
    pub passphrase: Passphrase,
    /// What a guess of the passphrase shall cost. Counts for a new store only: an existing one says it itself.
    pub cost: KdfCost,
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
    /// Salt and nonces.
    pub randomness: Arc<dyn Randomness>,
}

/// Private keys in encrypted files, unlocked.
pub struct FileKeys {
    shelf: Arc<Shelf>,
}

/// Why a store cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The passphrase cannot be had.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The passphrase is not the one the store was made with.
    #[error("the passphrase does not open the key store {}; give the one it was made with", directory.display())]
    WrongPassphrase {
        /// The store.
        directory: PathBuf,
    },
    /// Others could read or change the files.
    #[error("the key store is not safe: {0}")]
    Permissions(#[from] LoosePermissions),
    /// Keys without the header that opens them.
    #[error("{} holds keys but no {HEADER}; restore it from a backup: without it no key can be opened", directory.display())]
    HeaderMissing {
        /// The store.
        directory: PathBuf,
    },
    /// A file that is there and cannot be used.
    #[error("cannot use {}: {detail}; restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The operating system refused.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// `read`, `write` or `list`.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl FileKeys {
    /// Opens the store in a directory, or makes one in an empty directory. Blocks for about half a second.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do. A store that exists but cannot be read is never replaced.
    pub fn open(options: FileKeysOptions) -> Result<Self, OpenError> {
        let FileKeysOptions { directory, passphrase, cost, disk, randomness } = options;
        let io = |operation| {
            let path = directory.clone();
            move |source| OpenError::Io { operation, path, source }
        };
        disk.create_dir_all(&directory, 0o700).map_err(io("make"))?;
        check_private(&directory)?;
        let files = key_files(&disk.list(&directory).map_err(io("list"))?)?;
        let unlock = Unlock { directory: &directory, disk: disk.as_ref(), passphrase: &passphrase };
        let key = match unlock.existing()? {
            Some(key) => key,
            None if files.is_empty() => unlock.create(cost, randomness.as_ref())?,
            None => return Err(OpenError::HeaderMissing { directory }),
        };
        let mut keys = BTreeMap::new();
        for (id, path) in files {
            keys.insert(id.clone(), load(disk.as_ref(), &path, &id, &key)?);
        }
        let shelf =
            Shelf { directory, disk, randomness, key, keys: RwLock::new(keys), writing: Mutex::new(()) };
        Ok(Self { shelf: Arc::new(shelf) })
    }
}

#[async_trait]
impl KeyBackend for FileKeys {
    fn describe(&self) -> KeyBackendDescription {
        KeyBackendDescription {
            plugin: "file",
            version: env!("CARGO_PKG_VERSION"),
            durable: true,
            specs: &KeySpec::ALL,
        }
    }

    async fn generate(&self, request_id: &RequestId, spec: KeySpec) -> Result<KeyHandle, KeyError> {
        let (shelf, request_id) = (self.shelf.clone(), request_id.clone());
        on_a_blocking_thread(move || shelf.generate(&request_id, spec)).await
    }

    async fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        Ok(self.shelf.key(id)?.public().clone())
    }

    async fn sign(
        &self,
        id: &KeyId,
        message: &[u8],
        algorithm: SignatureAlgorithm,
    ) -> Result<Vec<u8>, KeyError> {
        self.shelf.key(id)?.sign(message, algorithm)
    }

    async fn list(&self) -> Result<Vec<KeyHandle>, KeyError> {
        let keys = self.shelf.read();
        let live = keys.iter().filter_map(|(id, slot)| Some((id, slot.live()?)));
        Ok(live.map(|(id, key)| KeyHandle { id: id.clone(), public: key.public().clone() }).collect())
    }

    async fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        let (shelf, id) = (self.shelf.clone(), id.clone());
        on_a_blocking_thread(move || shelf.destroy(&id)).await
    }

    async fn check(&self) -> Health {
        let shelf = self.shelf.clone();
        let looked = tokio::task::spawn_blocking(move || shelf.look()).await;
        match looked {
            Ok(Ok(())) => Health::ok(),
            Ok(Err(detail)) => Health::down(detail),
            Err(error) => Health::down(error.to_string()),
        }
    }
}

impl fmt::Debug for FileKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKeys").field("directory", &self.shelf.directory).finish_non_exhaustive()
    }
}

/// What the calls share; also with a thread whose caller has gone.
struct Shelf {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    randomness: Arc<dyn Randomness>,
    key: StoreKey,
    /// Read on every signature, written after the disk was.
    keys: RwLock<BTreeMap<KeyId, Slot>>,
    /// Held, on a blocking thread, by whoever changes files: one at a time.
    writing: Mutex<()>,
}

#[derive(Clone)]
enum Slot {
    Live(Arc<RingKey>),
    /// So that its request id makes no second key.
    Destroyed,
}

impl Slot {
    fn live(&self) -> Option<&Arc<RingKey>> {
        match self {
            Self::Live(key) => Some(key),
            Self::Destroyed => None,
        }
    }
}

impl Shelf {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<KeyId, Slot>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, id: &KeyId) -> Result<Arc<RingKey>, KeyError> {
        let found = self.read().get(id).and_then(Slot::live).cloned();
        found.ok_or_else(|| KeyError::NotFound { id: id.clone() })
    }

    fn put(&self, id: KeyId, slot: Slot) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(id, slot);
    }

    fn generate(&self, request_id: &RequestId, spec: KeySpec) -> Result<KeyHandle, KeyError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let id = KeyId::for_request(request_id);
        let known = self.read().get(&id).cloned();
        // A failed write may have stored its key after all: what is on disk decides, not what is in memory.
        let slot = match known {
            Some(slot) => Some(slot),
            None => self.reload(&id)?,
        };
        let key = match slot {
            Some(Slot::Destroyed) => return Err(destroyed(request_id)),
            Some(Slot::Live(key)) if key.spec() != spec => return Err(other_spec(request_id, key.spec())),
            Some(Slot::Live(key)) => key,
            None => self.make(&id, spec)?,
        };
        let public = key.public().clone();
        self.put(id.clone(), Slot::Live(key));
        Ok(KeyHandle { id, public })
    }

    fn reload(&self, id: &KeyId) -> Result<Option<Slot>, KeyError> {
        let path = self.path(id);
        match load(self.disk.as_ref(), &path, id, &self.key) {
            Ok(slot) => Ok(Some(slot)),
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(OpenError::Permissions(LoosePermissions::Unreadable { source, .. }))
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(KeyError::Permanent { detail: error.to_string() }),
        }
    }

    fn make(&self, id: &KeyId, spec: KeySpec) -> Result<Arc<RingKey>, KeyError> {
        let permanent = |detail: String| KeyError::Permanent { detail };
        let (key, pkcs8) = RingKey::generate(spec).map_err(|error| permanent(error.to_string()))?;
        self.store(id, &Stored { spec, public: key.public().clone(), pkcs8: Some(pkcs8) })?;
        Ok(Arc::new(key))
    }

    fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = self.read().get(id).and_then(Slot::live).cloned() else {
            return Ok(());
        };
        // The file stays as a mark without a key: its id can never name another one.
        self.store(id, &Stored { spec: key.spec(), public: key.public().clone(), pkcs8: None })?;
        self.put(id.clone(), Slot::Destroyed);
        Ok(())
    }

    fn store(&self, id: &KeyId, stored: &Stored) -> Result<(), KeyError> {
        let file = KeyFile::of(id, stored, &self.key, self.randomness.as_ref());
        let bytes = file.and_then(|file| file.to_bytes());
        let bytes = bytes.map_err(|error| KeyError::Permanent { detail: error.to_string() })?;
        let path = self.path(id);
        self.disk.replace(&path, &bytes, 0o600).map_err(|error| KeyError::Transient {
            detail: format!("cannot write the key file {}: {error}", path.display()),
        })
    }

    fn look(&self) -> Result<(), String> {
        check_private(&self.directory).map_err(|error| error.to_string())?;
        let header = self.directory.join(HEADER);
        self.disk
            .read(&header)
            .map(|_| ())
            .map_err(|error| format!("cannot read {}: {error}", header.display()))
    }

    fn path(&self, id: &KeyId) -> PathBuf {
        self.directory.join(format!("{id}.{SUFFIX}"))
    }
}

struct Unlock<'a> {
    directory: &'a Path,
    disk: &'a dyn Disk,
    passphrase: &'a Passphrase,
}

impl Unlock<'_> {
    fn existing(&self) -> Result<Option<StoreKey>, OpenError> {
        let path = self.directory.join(HEADER);
        let bytes = match self.disk.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(OpenError::Io { operation: "read", path, source }),
        };
        check_private(&path)?;
        match Header::unlock(&bytes, self.passphrase) {
            Ok(key) => Ok(Some(key)),
            Err(FormatError::Seal(SealError::Opening)) => {
                Err(OpenError::WrongPassphrase { directory: self.directory.to_owned() })
            }
            Err(error) => Err(OpenError::Damaged { path, detail: error.to_string() }),
        }
    }

    fn create(&self, cost: KdfCost, randomness: &dyn Randomness) -> Result<StoreKey, OpenError> {
        let path = self.directory.join(HEADER);
        let made = Header::create(self.passphrase, cost, randomness)
            .and_then(|(header, key)| Ok((header.to_bytes()?, key)));
        let damaged =
            |error: FormatError| OpenError::Damaged { path: path.clone(), detail: error.to_string() };
        let (bytes, key) = made.map_err(damaged)?;
        let io = |source| OpenError::Io { operation: "write", path: path.clone(), source };
        self.disk.replace(&path, &bytes, 0o600).map_err(io)?;
        Ok(key)
    }
}

fn load(disk: &dyn Disk, path: &Path, id: &KeyId, key: &StoreKey) -> Result<Slot, OpenError> {
    check_private(path)?;
    let io = |source| OpenError::Io { operation: "read", path: path.to_owned(), source };
    let bytes = disk.read(path).map_err(io)?;
    let damaged = |detail: String| OpenError::Damaged { path: path.to_owned(), detail };
    let stored = KeyFile::read(&bytes, id, key).map_err(|error| damaged(error.to_string()))?;
    let Some(pkcs8) = stored.pkcs8 else {
        return Ok(Slot::Destroyed);
    };
    let ring_key = RingKey::from_pkcs8(stored.spec, &pkcs8).map_err(|error| damaged(error.to_string()))?;
    if ring_key.public() != &stored.public {
        return Err(damaged("its public and private halves do not match".to_owned()));
    }
    Ok(Slot::Live(Arc::new(ring_key)))
}

/// The key files of a directory. Other names (a temporary file of a crash) are passed over.
fn key_files(paths: &[PathBuf]) -> Result<Vec<(KeyId, PathBuf)>, OpenError> {
    let mut files = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX)) {
        let id = path.file_stem().and_then(|stem| KeyId::parse(stem.to_str()?).ok());
        let id = id.ok_or_else(|| OpenError::Damaged {
            path: path.clone(),
            detail: "its name is no key id".to_owned(),
        })?;
        files.push((id, path.clone()));
    }
    Ok(files)
}

async fn on_a_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, KeyError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(KeyError::Permanent { detail: format!("the key store's thread failed: {error}") })
    })
}
