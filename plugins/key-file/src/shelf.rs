//! What is in memory over what is on disk: the keys, and the one way to change them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use host::{Disk, LoosePermissions, check_private};
use plugins::memory::{destroyed, other_spec};
use plugins::ring_keys::RingKey;
use plugins::{KeyError, KeyHandle, KeyId, KeySpec, RequestId};
use trust::Randomness;

use crate::format::{HEADER, KeyFile, Stored};
use crate::open_error::OpenError;
use crate::sealed::StoreKey;

/// The suffix of key files.
pub(crate) const SUFFIX: &str = "key";

/// What the calls share; also with a thread whose caller has gone.
pub(crate) struct Shelf {
    pub(crate) directory: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) randomness: Arc<dyn Randomness>,
    pub(crate) key: StoreKey,
    /// Read on every signature, written after the disk was.
    pub(crate) keys: RwLock<BTreeMap<KeyId, Slot>>,
    /// Held, on a blocking thread, by whoever changes files: one at a time.
    pub(crate) writing: Mutex<()>,
}

/// What is under a key id.
#[derive(Clone)]
pub(crate) enum Slot {
    Live(Arc<RingKey>),
    /// So that its request id makes no second key.
    Destroyed,
}

impl Slot {
    pub(crate) fn live(&self) -> Option<&Arc<RingKey>> {
        match self {
            Self::Live(key) => Some(key),
            Self::Destroyed => None,
        }
    }
}

impl Shelf {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, BTreeMap<KeyId, Slot>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn key(&self, id: &KeyId) -> Result<Arc<RingKey>, KeyError> {
        let found = self.read().get(id).and_then(Slot::live).cloned();
        found.ok_or_else(|| KeyError::NotFound { id: id.clone() })
    }

    fn put(&self, id: KeyId, slot: Slot) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(id, slot);
    }

    pub(crate) fn generate(
        &self,
        request_id: &RequestId,
        spec: KeySpec,
    ) -> Result<KeyHandle, KeyError> {
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
            Some(Slot::Live(key)) if key.spec() != spec => {
                return Err(other_spec(request_id, key.spec()));
            }
            Some(Slot::Live(key)) => key,
            None => self.make(&id, spec)?,
        };
        let public = key.public().clone();
        self.put(id.clone(), Slot::Live(key));
        Ok(KeyHandle::new(id, public))
    }

    fn reload(&self, id: &KeyId) -> Result<Option<Slot>, KeyError> {
        let path = self.path(id);
        match load(self.disk.as_ref(), &path, id, &self.key) {
            Ok(slot) => Ok(Some(slot)),
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
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

    pub(crate) fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
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

    pub(crate) fn look(&self) -> Result<(), String> {
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

/// Reads and unlocks one key file.
pub(crate) fn load(
    disk: &dyn Disk,
    path: &Path,
    id: &KeyId,
    key: &StoreKey,
) -> Result<Slot, OpenError> {
    check_private(path)?;
    let io = |source| OpenError::Io { operation: "read", path: path.to_owned(), source };
    let bytes = disk.read(path).map_err(io)?;
    let damaged = |detail: String| OpenError::Damaged { path: path.to_owned(), detail };
    let stored = KeyFile::read(&bytes, id, key).map_err(|error| damaged(error.to_string()))?;
    let Some(pkcs8) = stored.pkcs8 else {
        return Ok(Slot::Destroyed);
    };
    let ring_key =
        RingKey::from_pkcs8(stored.spec, &pkcs8).map_err(|error| damaged(error.to_string()))?;
    if ring_key.public() != &stored.public {
        return Err(damaged("its public and private halves do not match".to_owned()));
    }
    Ok(Slot::Live(Arc::new(ring_key)))
}
