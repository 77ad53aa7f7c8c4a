//! The store: opened once, then keys in memory over files on disk.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};

use async_trait::async_trait;
use host::Disk;
use plugins::ring_keys::RingKey;
use plugins::{
    Health, KeyBackend, KeyBackendDescription, KeyError, KeyHandle, KeyId, KeySpec, RequestId,
};
use trust::{PublicKey, Randomness, SignatureAlgorithm};

use crate::files::{Directory, Files, io_error};
use crate::format::{FormatError, HEADER, Header};
use crate::open_error::OpenError;
use crate::passphrase::Passphrase;
use crate::sealed::{KdfCost, SealError, StoreKey};
use crate::shelf::{Shelf, key_ids, load};

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

/// The same, with files that may be elsewhere.
#[derive(Debug)]
pub struct Opening {
    /// The files.
    pub files: Arc<dyn Files>,
    /// The passphrase.
    pub passphrase: Passphrase,
    /// What a guess of the passphrase shall cost. Counts for a new store only: an existing one says it itself.
    pub cost: KdfCost,
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
        Self::open_in(Opening {
            files: Arc::new(Directory { path: directory, disk }),
            passphrase,
            cost,
            randomness,
        })
    }

    /// The same, with files that may be elsewhere.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_in(opening: Opening) -> Result<Self, OpenError> {
        let Opening { files, passphrase, cost, randomness } = opening;
        files.open()?;
        let ids = key_ids(files.as_ref())?;
        let unlock = Unlock { files: files.as_ref(), passphrase: &passphrase };
        let (header, key) = match files.read(HEADER)? {
            Some(header) => (header.clone(), unlock.existing(&header)?),
            None if ids.is_empty() => unlock.create(cost, randomness.as_ref())?,
            None => return Err(OpenError::HeaderMissing { directory: files.shown(None) }),
        };
        let mut keys = BTreeMap::new();
        for id in ids {
            // One that was there a moment ago is there.
            if let Some(slot) = load(files.as_ref(), &id, &key)? {
                keys.insert(id, slot);
            }
        }
        let (keys, writing) = (RwLock::new(keys), Mutex::new(()));
        Ok(Self { shelf: Arc::new(Shelf { files, randomness, header, key, keys, writing }) })
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
        Ok(self.key(id).await?.public().clone())
    }

    async fn sign(
        &self,
        id: &KeyId,
        message: &[u8],
        algorithm: SignatureAlgorithm,
    ) -> Result<Vec<u8>, KeyError> {
        self.key(id).await?.sign(message, algorithm)
    }

    async fn list(&self) -> Result<Vec<KeyHandle>, KeyError> {
        if self.shelf.files.are_shared() {
            let shelf = self.shelf.clone();
            on_a_blocking_thread(move || shelf.reload_all()).await?;
        }
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
        f.debug_struct("FileKeys").field("files", &self.shelf.files).finish_non_exhaustive()
    }
}

impl FileKeys {
    /// From memory in the first poll, unless others write too: then a key may be new, or destroyed.
    async fn key(&self, id: &KeyId) -> Result<Arc<RingKey>, KeyError> {
        if !self.shelf.files.are_shared() {
            return self.shelf.key(id);
        }
        let (shelf, id) = (self.shelf.clone(), id.clone());
        on_a_blocking_thread(move || shelf.key_now(&id)).await
    }
}

struct Unlock<'a> {
    files: &'a dyn Files,
    passphrase: &'a Passphrase,
}

impl Unlock<'_> {
    fn existing(&self, header: &[u8]) -> Result<StoreKey, OpenError> {
        Header::unlock(header, self.passphrase).map_err(|error| match error {
            FormatError::Seal(SealError::Opening) => {
                OpenError::WrongPassphrase { directory: self.files.shown(None) }
            }
            FormatError::Moving => OpenError::Moving { directory: self.files.shown(None) },
            error => self.damaged(&error),
        })
    }

    /// Where another server made the header first, theirs counts.
    fn create(
        &self,
        cost: KdfCost,
        randomness: &dyn Randomness,
    ) -> Result<(Vec<u8>, StoreKey), OpenError> {
        let made = Header::create(self.passphrase, cost, randomness)
            .and_then(|(header, key)| Ok((header.to_bytes()?, key)));
        let (bytes, key) = made.map_err(|error| self.damaged(&error))?;
        let path = self.files.shown(Some(HEADER));
        let met = self.files.create(HEADER, &bytes).map_err(io_error("write", &path))?;
        match met {
            None => Ok((bytes, key)),
            Some(theirs) => self.existing(&theirs).map(|key| (theirs, key)),
        }
    }

    fn damaged(&self, error: &FormatError) -> OpenError {
        OpenError::Damaged { path: self.files.shown(Some(HEADER)), detail: error.to_string() }
    }
}

async fn on_a_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyError> + Send + 'static,
) -> Result<T, KeyError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(KeyError::Permanent { detail: format!("the key store's thread failed: {error}") })
    })
}
