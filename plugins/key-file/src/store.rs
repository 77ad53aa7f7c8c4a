//! The store: opened once, then keys in memory over files on disk.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use async_trait::async_trait;
use host::{Disk, check_private};
use plugins::{
    Health, KeyBackend, KeyBackendDescription, KeyError, KeyHandle, KeyId, KeySpec, RequestId,
};
use trust::{PublicKey, Randomness, SignatureAlgorithm};

use crate::format::{FormatError, HEADER, Header};
use crate::open_error::OpenError;
use crate::passphrase::Passphrase;
use crate::sealed::{KdfCost, SealError, StoreKey};
use crate::shelf::{SUFFIX, Shelf, load};

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

impl FileKeys {
    /// Opens the store in a directory, or makes one in an empty directory. Blocks for a few tenths of a second.
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
        let shelf = Shelf {
            directory,
            disk,
            randomness,
            key,
            keys: RwLock::new(keys),
            writing: Mutex::new(()),
        };
        Ok(Self { shelf: Arc::new(shelf) })
    }
}

#[async_trait]
impl KeyBackend for FileKeys {
    fn describe(&self) -> KeyBackendDescription {
        KeyBackendDescription::new("file", env!("CARGO_PKG_VERSION"), &KeySpec::ALL)
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
        Ok(live.map(|(id, key)| KeyHandle::new(id.clone(), key.public().clone())).collect())
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
        let damaged = |error: FormatError| OpenError::Damaged {
            path: path.clone(),
            detail: error.to_string(),
        };
        let (bytes, key) = made.map_err(damaged)?;
        let io = |source| OpenError::Io { operation: "write", path: path.clone(), source };
        self.disk.replace(&path, &bytes, 0o600).map_err(io)?;
        Ok(key)
    }
}

/// The key files of a directory. Other names (a temporary file of a crash) are passed over.
fn key_files(paths: &[PathBuf]) -> Result<Vec<(KeyId, PathBuf)>, OpenError> {
    let mut files = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX))
    {
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
