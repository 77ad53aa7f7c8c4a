//! The keys of this CA, which nobody else may have certified.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use auth::authz::{KeyPolicy, KeyStanding};
use rotation::State;
use trust::{Certificate, SpkiHash};

/// Keys of every root and issuer that is or was in the record, and of this server's own leaves. It only grows.
#[derive(Debug, Default)]
pub struct CaKeys(RwLock<HashSet<SpkiHash>>);

impl CaKeys {
    /// Adds what the record names.
    pub fn learn(&self, state: &State) {
        let ders = state.roots.values().flat_map(|root| {
            let issuers = root.issuers.values().filter_map(|issuer| issuer.chain.first());
            issuers.chain([&root.der])
        });
        let certificates = ders.filter_map(|der| Certificate::parse(der.as_bytes()).ok());
        let keys: Vec<_> = certificates.map(|certificate| certificate.spki_hash()).collect();
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(keys);
    }

    /// Adds a key.
    pub fn add(&self, key: SpkiHash) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key);
    }
}

impl KeyPolicy for CaKeys {
    fn standing(&self, key: &SpkiHash) -> KeyStanding {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).contains(key) {
            true => KeyStanding::OfCa,
            false => KeyStanding::Free,
        }
    }
}
