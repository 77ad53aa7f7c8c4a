//! Fakes of what makes keys and certificates: they make the same ones for the same seed, which real keys never are.
//!
//! Keys are Ed25519, whose signatures have no chance in them. What is made of them is real: certificates, chains, signatures.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use plugins::ca_certificate::{CaSigner, IssuerProfile, RootProfile, build_root, sign_issuer};
use plugins::{
    CallContext, Description, Health, IssuerChain, IssuerRequest, KeyBackend,
    KeyBackendDescription, KeyError, KeyHandle, KeyId, KeySpec, Outcome, PluginError, RequestId,
    RootAuthority, RootDer, RootSet, StageRequest, StageRoots, Ticket,
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use trust::digest::sha256;
use trust::{Clock, PublicKey, Root, RootId, Serial, SignatureAlgorithm, Timestamp, Validity};

use crate::run::Run;

/// What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const ED25519_SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];

#[derive(Debug, Default)]
struct Made {
    /// How often all keys were lost: then others are made.
    times: u64,
    keys: BTreeMap<KeyId, Key>,
}

#[derive(Debug, Clone)]
struct Key {
    handle: KeyHandle,
    pair: Arc<Ed25519KeyPair>,
}

/// A key backend whose keys follow from a seed and a request id. It outlives the processes of its machine.
#[derive(Debug)]
pub(crate) struct SeededKeys {
    seed: u64,
    made: Mutex<Made>,
}

impl SeededKeys {
    pub(crate) fn of(seed: u64) -> Self {
        Self { seed, made: Mutex::default() }
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every key is lost.
    pub(crate) fn lose(&self) {
        let mut made = self.made();
        *made = Made { times: made.times + 1, keys: BTreeMap::new() };
    }

    fn found(&self, id: &KeyId) -> Result<Key, KeyError> {
        let found = self.made().keys.get(id).cloned();
        found.ok_or_else(|| KeyError::NotFound { id: id.clone() })
    }
}

#[async_trait]
impl KeyBackend for SeededKeys {
    fn describe(&self) -> KeyBackendDescription {
        KeyBackendDescription::new("seeded", "0", &[KeySpec::Ed25519])
    }

    async fn generate(&self, request_id: &RequestId, _: KeySpec) -> Result<KeyHandle, KeyError> {
        let id = KeyId::for_request(request_id);
        if let Ok(key) = self.found(&id) {
            return Ok(key.handle);
        }
        let mut made = self.made();
        let seed = sha256(format!("{} {} {id}", self.seed, made.times).as_bytes());
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed);
        let pair = pair.map_err(|error| KeyError::Permanent { detail: error.to_string() })?;
        let spki = [ED25519_SPKI.as_slice(), pair.public_key().as_ref()].concat();
        let public = PublicKey::parse(&spki)
            .map_err(|error| KeyError::Permanent { detail: error.to_string() })?;
        let handle = KeyHandle::new(id.clone(), public);
        made.keys.insert(id, Key { handle: handle.clone(), pair: Arc::new(pair) });
        Ok(handle)
    }

    async fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        self.found(id).map(|key| key.handle.public)
    }

    async fn sign(
        &self,
        id: &KeyId,
        message: &[u8],
        _: SignatureAlgorithm,
    ) -> Result<Vec<u8>, KeyError> {
        Ok(self.found(id)?.pair.sign(message).as_ref().to_vec())
    }

    async fn list(&self) -> Result<Vec<KeyHandle>, KeyError> {
        Ok(self.made().keys.values().map(|key| key.handle.clone()).collect())
    }

    async fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        self.made().keys.remove(id);
        Ok(())
    }

    async fn check(&self) -> Health {
        Health::ok()
    }
}

/// A root authority beside the servers: it stages roots and signs issuers, answers late, and is away at times.
#[derive(Debug)]
pub(crate) struct Authority {
    run: Arc<Run>,
    keys: SeededKeys,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// By request id.
    staged: BTreeMap<RequestId, Staged>,
    signed: BTreeMap<RequestId, IssuerChain>,
    signing: Option<RootId>,
}

#[derive(Debug, Clone)]
struct Staged {
    root: Root,
    key: KeyId,
}

impl Authority {
    pub(crate) fn new(run: Arc<Run>, seed: u64) -> Self {
        Self { run, keys: SeededKeys::of(seed), book: Mutex::default() }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer takes its time, or does not come.
    async fn way(&self) -> Result<(), PluginError> {
        let (pause, is_away) = self.run.roll(|dice| (dice.millis(5, 400), dice.happens(100)));
        tokio::time::sleep(pause).await;
        match is_away && self.run.may_fail() {
            true => Err(PluginError::Transient { detail: "simulated".to_owned() }),
            false => Ok(()),
        }
    }

    fn validity(&self, lifetime: Duration) -> Result<Validity, PluginError> {
        let now: Timestamp = self.run.true_clock.now();
        let validity = Validity::new(now.minus(Duration::from_secs(60)), now.plus(lifetime));
        validity.map_err(|error| PluginError::Permanent { detail: error.to_string() })
    }
}

fn serial_of(id: &RequestId) -> Serial {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(sha256(id.as_str().as_bytes())).for_each(|(to, from)| *to = from);
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x3F) | 0x40;
    }
    Serial::from_bytes(&bytes).unwrap_or_else(|| Serial::random(&crate::dice::SeededBytes::of(0)))
}

#[async_trait]
impl RootAuthority for Authority {
    fn describe(&self) -> Description {
        Description::new("main", "simulated", "0")
    }

    async fn check(&self, _: &CallContext) -> Health {
        Health::ok()
    }

    async fn roots(&self, _: &CallContext) -> Result<RootSet, PluginError> {
        let book = self.book();
        let roots = book.staged.values().map(|made| made.root.der().to_vec()).collect();
        Ok(RootSet::new(roots, book.signing, book.staged.len() as u64))
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.way().await?;
        if let Some(chain) = self.book().signed.get(&context.request_id) {
            return Ok(Outcome::Ready(chain.clone()));
        }
        let csr = request.verified_csr()?;
        let known =
            self.book().staged.values().find(|made| made.root.id() == request.root).cloned();
        let made = known.ok_or_else(|| PluginError::denied("no such root".to_owned()))?;
        let signer =
            CaSigner { keys: &self.keys, key_id: &made.key, certificate: made.root.certificate() };
        let profile = IssuerProfile {
            trust_domain: request.trust_domain.clone(),
            serial: serial_of(&context.request_id),
            validity: self.validity(request.ttl)?,
            path_len: request.path_len,
        };
        let issuer = sign_issuer(&signer, csr.public_key(), &profile).await?;
        let chain = IssuerChain::new(vec![issuer.der().to_vec()]);
        self.book().signed.insert(context.request_id.clone(), chain.clone());
        Ok(Outcome::Ready(chain))
    }

    async fn poll(&self, _: &CallContext, _: &Ticket) -> Result<Outcome<IssuerChain>, PluginError> {
        Err(PluginError::denied("no tickets are given".to_owned()))
    }

    fn staging(&self) -> Option<&dyn StageRoots> {
        Some(self)
    }
}

#[async_trait]
impl StageRoots for Authority {
    async fn stage(
        &self,
        context: &CallContext,
        request: &StageRequest,
    ) -> Result<Outcome<RootDer>, PluginError> {
        self.way().await?;
        if let Some(made) = self.book().staged.get(&context.request_id) {
            return Ok(Outcome::Ready(made.root.der().to_vec()));
        }
        let key = self.keys.generate(&context.request_id, KeySpec::Ed25519).await?;
        let profile = RootProfile {
            trust_domain: request.trust_domain.clone(),
            serial: serial_of(&context.request_id),
            validity: self.validity(request.lifetime)?,
        };
        let root = build_root(&self.keys, &key, &profile).await?;
        let der = root.der().to_vec();
        let mut book = self.book();
        book.staged.insert(context.request_id.clone(), Staged { root, key: key.id });
        Ok(Outcome::Ready(der))
    }

    async fn activate(&self, _: &CallContext, root: &RootId) -> Result<(), PluginError> {
        self.book().signing = Some(*root);
        Ok(())
    }
}
