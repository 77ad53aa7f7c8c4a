//! What is in memory over what is on disk: the keys, and the one way to change them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use plugins::memory::{destroyed, other_spec};
use plugins::ring_keys::RingKey;
use plugins::{KeyError, KeyHandle, KeyId, KeySpec, RequestId};
use trust::Randomness;

use crate::files::Files;
use crate::format::{HEADER, KeyFile, Stored};
use crate::open_error::OpenError;
use crate::sealed::StoreKey;

/// The suffix of key files.
pub(crate) const SUFFIX: &str = "key";

/// What the calls share; also with a thread whose caller has gone.
pub(crate) struct Shelf {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) randomness: Arc<dyn Randomness>,
    /// The header that the key is of.
    pub(crate) header: Vec<u8>,
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

    /// A key as it is now, where others write too.
    pub(crate) fn key_now(&self, id: &KeyId) -> Result<Arc<RingKey>, KeyError> {
        let slot = self.reload(id)?;
        let live = slot.as_ref().and_then(Slot::live).cloned();
        if let Some(slot) = slot {
            self.put(id.clone(), slot);
        }
        live.ok_or_else(|| KeyError::NotFound { id: id.clone() })
    }

    /// All keys as they are now, where others write too.
    pub(crate) fn reload_all(&self) -> Result<(), KeyError> {
        let permanent = |error: OpenError| KeyError::Permanent { detail: error.to_string() };
        let mut now = BTreeMap::new();
        for id in key_ids(self.files.as_ref()).map_err(permanent)? {
            if let Some(slot) = self.reload(&id)? {
                now.insert(id, slot);
            }
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }

    pub(crate) fn generate(
        &self,
        request_id: &RequestId,
        spec: KeySpec,
    ) -> Result<KeyHandle, KeyError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let id = KeyId::for_request(request_id);
        let known = self.read().get(&id).filter(|_| !self.files.are_shared()).cloned();
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
        if key.spec() != spec {
            return Err(other_spec(request_id, key.spec()));
        }
        let public = key.public().clone();
        self.put(id.clone(), Slot::Live(key));
        Ok(KeyHandle::new(id, public))
    }

    /// Where others write too, one of them may have put all keys under another passphrase.
    fn same_passphrase(&self) -> Result<(), KeyError> {
        let permanent = |detail: String| KeyError::Permanent { detail };
        let header = self.files.read(HEADER).map_err(|error| permanent(error.to_string()))?;
        match header.as_ref() == Some(&self.header) {
            true => Ok(()),
            false => Err(permanent(self.other_passphrase())),
        }
    }

    fn other_passphrase(&self) -> String {
        format!(
            "the passphrase of the key store {} was changed, or is being changed, since this server opened it: restart the server with \
             the new passphrase",
            self.files.shown(None).display()
        )
    }

    fn reload(&self, id: &KeyId) -> Result<Option<Slot>, KeyError> {
        if self.files.are_shared() {
            self.same_passphrase()?;
        }
        load(self.files.as_ref(), id, &self.key)
            .map_err(|error| KeyError::Permanent { detail: error.to_string() })
    }

    /// Makes a key; where another server made one under this id meanwhile, that is the key.
    fn make(&self, id: &KeyId, spec: KeySpec) -> Result<Arc<RingKey>, KeyError> {
        let permanent = |detail: String| KeyError::Permanent { detail };
        let (key, pkcs8) = RingKey::generate(spec).map_err(|error| permanent(error.to_string()))?;
        let stored = Stored { spec, public: key.public().clone(), pkcs8: Some(pkcs8) };
        let name = name_of(id);
        let met = self.files.create(&name, &self.sealed(id, &stored)?);
        match met.map_err(|error| self.not_written(&name, &error))? {
            None => Ok(Arc::new(key)),
            Some(theirs) => {
                let slot = opened(self.files.as_ref(), id, &self.key, &theirs);
                let slot = slot.map_err(|error| permanent(error.to_string()))?;
                slot.live().cloned().ok_or_else(|| KeyError::NotFound { id: id.clone() })
            }
        }
    }

    pub(crate) fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match self.files.are_shared() {
            true => self.reload(id)?,
            false => self.read().get(id).cloned(),
        };
        let Some(key) = known.as_ref().and_then(Slot::live).cloned() else {
            return Ok(());
        };
        // The file stays as a mark without a key: its id can never name another one.
        self.store(id, &Stored { spec: key.spec(), public: key.public().clone(), pkcs8: None })?;
        self.put(id.clone(), Slot::Destroyed);
        Ok(())
    }

    fn store(&self, id: &KeyId, stored: &Stored) -> Result<(), KeyError> {
        let name = name_of(id);
        let written = self.files.replace(&name, &self.sealed(id, stored)?);
        written.map_err(|error| self.not_written(&name, &error))
    }

    fn sealed(&self, id: &KeyId, stored: &Stored) -> Result<Vec<u8>, KeyError> {
        let file = KeyFile::of(id, stored, &self.key, self.randomness.as_ref());
        let bytes = file.and_then(|file| file.to_bytes());
        bytes.map_err(|error| KeyError::Permanent { detail: error.to_string() })
    }

    fn not_written(&self, name: &str, error: &std::io::Error) -> KeyError {
        let path = self.files.shown(Some(name));
        let detail = format!("cannot write the key file {}: {error}", path.display());
        KeyError::Transient { detail }
    }

    pub(crate) fn look(&self) -> Result<(), String> {
        self.files.open().map_err(|error| error.to_string())?;
        match self.files.read(HEADER) {
            Ok(Some(header)) if header == self.header || !self.files.are_shared() => Ok(()),
            Ok(Some(_)) => Err(self.other_passphrase()),
            Ok(None) => Err(format!("{} is gone", self.files.shown(Some(HEADER)).display())),
            Err(error) => Err(error.to_string()),
        }
    }
}

pub(crate) fn name_of(id: &KeyId) -> String {
    format!("{id}.{SUFFIX}")
}

/// The keys that have a file. Other names (a temporary file of a crash) are passed over.
pub(crate) fn key_ids(files: &dyn Files) -> Result<Vec<KeyId>, OpenError> {
    let mut ids = Vec::new();
    for name in files.names()? {
        let Some(stem) = name.strip_suffix(SUFFIX).and_then(|stem| stem.strip_suffix('.')) else {
            continue;
        };
        ids.push(KeyId::parse(stem).map_err(|_| OpenError::Damaged {
            path: files.shown(Some(&name)),
            detail: "its name is no key id".to_owned(),
        })?);
    }
    Ok(ids)
}

/// Reads and unlocks one key file; `None` if there is none.
pub(crate) fn load(
    files: &dyn Files,
    id: &KeyId,
    key: &StoreKey,
) -> Result<Option<Slot>, OpenError> {
    let bytes = files.read(&name_of(id))?;
    bytes.map(|bytes| opened(files, id, key, &bytes)).transpose()
}

fn opened(files: &dyn Files, id: &KeyId, key: &StoreKey, bytes: &[u8]) -> Result<Slot, OpenError> {
    let path = || files.shown(Some(&name_of(id)));
    let damaged = |detail: String| OpenError::Damaged { path: path(), detail };
    let stored = KeyFile::read(bytes, id, key).map_err(|error| damaged(error.to_string()))?;
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
