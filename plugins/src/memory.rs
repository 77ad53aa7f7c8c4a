//! Keys in memory, gone with the process: for `banyan plugin check`, demos and tests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;
use trust::{PublicKey, SignatureAlgorithm};

use crate::call::{Health, RequestId};
use crate::config::{ConfigProblem, ConfigTable};
use crate::error::KeyError;
use crate::keys::{KeyBackend, KeyBackendDescription, KeyHandle, KeyId, KeySpec};
use crate::registry::KeyBackendPlugin;
use crate::ring_keys::RingKey;

/// Keys in memory. A root whose key is here ends with the process: never for service.
#[derive(Default)]
pub struct MemoryKeys {
    /// None: destroyed, so that its request id makes no second key.
    keys: RwLock<BTreeMap<KeyId, Option<Arc<RingKey>>>>,
}

/// Lists [`MemoryKeys`] in a registry under the name `memory`. It has no settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryKeysPlugin;

impl MemoryKeys {
    /// No keys yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn key(&self, id: &KeyId) -> Result<Arc<RingKey>, KeyError> {
        let not_found = || KeyError::NotFound { id: id.clone() };
        self.read().get(id).cloned().flatten().ok_or_else(not_found)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<KeyId, Option<Arc<RingKey>>>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyBackend for MemoryKeys {
    fn describe(&self) -> KeyBackendDescription {
        KeyBackendDescription::new("memory", env!("CARGO_PKG_VERSION"), &KeySpec::ALL).in_memory()
    }

    async fn generate(&self, request_id: &RequestId, spec: KeySpec) -> Result<KeyHandle, KeyError> {
        let id = KeyId::for_request(request_id);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let key = match keys.get(&id) {
            Some(Some(key)) if key.spec() == spec => key.clone(),
            Some(Some(key)) => return Err(other_spec(request_id, key.spec())),
            Some(None) => return Err(destroyed(request_id)),
            None => {
                let generated = RingKey::generate(spec);
                let (key, _) =
                    generated.map_err(|e| KeyError::Permanent { detail: e.to_string() })?;
                let key = Arc::new(key);
                keys.insert(id.clone(), Some(key.clone()));
                key
            }
        };
        Ok(KeyHandle { id, public: key.public().clone() })
    }

    async fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        Ok(self.key(id)?.public().clone())
    }

    async fn sign(
        &self,
        id: &KeyId,
        message: &[u8],
        algorithm: SignatureAlgorithm,
    ) -> Result<Vec<u8>, KeyError> {
        self.key(id)?.sign(message, algorithm)
    }

    async fn list(&self) -> Result<Vec<KeyHandle>, KeyError> {
        let keys = self.read();
        let live = keys.iter().filter_map(|(id, key)| Some((id, key.as_ref()?)));
        Ok(live
            .map(|(id, key)| KeyHandle { id: id.clone(), public: key.public().clone() })
            .collect())
    }

    async fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        if let Some(key) = self.keys.write().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
            *key = None;
        }
        Ok(())
    }

    async fn check(&self) -> Health {
        Health::ok()
    }
}

impl fmt::Debug for MemoryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeys").field("keys", &self.read().len()).finish()
    }
}

impl KeyBackendPlugin for MemoryKeysPlugin {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        ConfigTable::new(settings).finish(Some(()))
    }

    fn open(&self, settings: &toml::Table) -> Result<Arc<dyn KeyBackend>, Vec<ConfigProblem>> {
        self.validate(settings)?;
        Ok(Arc::new(MemoryKeys::new()))
    }
}

/// The refusal of a request id that made a key of another kind.
pub fn other_spec(request_id: &RequestId, made: KeySpec) -> KeyError {
    KeyError::Denied {
        reason: format!("request {request_id} made a {made} key before; use a new request id"),
    }
}

/// The refusal of a request id whose key was destroyed.
pub fn destroyed(request_id: &RequestId) -> KeyError {
    KeyError::Denied {
        reason: format!("the key of request {request_id} was destroyed; use a new request id"),
    }
}
