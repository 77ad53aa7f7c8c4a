//! What a workload presents and trusts, whoever gave it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, bail};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use trust::{Certificate, RootId, Serial, Validity};

use super::received::Received;
use super::tls::{TlsPair, Verifies};

/// What a workload presents and trusts.
#[derive(Debug)]
pub(super) struct Held {
    leaf: Mutex<Option<Leaf>>,
    roots: Mutex<Option<Trusted>>,
    tls: watch::Sender<Option<Arc<TlsPair>>>,
    leaves_seen: AtomicU64,
    roots_seen: Mutex<Vec<RootId>>,
    received: Received,
    verifies: Mutex<Verifies>,
}

struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    validity: Validity,
}

#[derive(Debug)]
struct Trusted {
    store: Arc<RootCertStore>,
    ders: Vec<CertificateDer<'static>>,
    pem: String,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Held {
    /// With nothing yet; what is there later goes to `tls`, and is noted in `received`.
    pub(super) fn new(tls: watch::Sender<Option<Arc<TlsPair>>>, received: Received) -> Self {
        Self {
            leaf: Mutex::default(),
            roots: Mutex::default(),
            tls,
            leaves_seen: AtomicU64::new(0),
            roots_seen: Mutex::default(),
            received,
            verifies: Mutex::new(Verifies::All),
        }
    }

    /// What it can verify from now on.
    pub(super) fn set_verifies(&self, verifies: Verifies) -> anyhow::Result<()> {
        *lock(&self.verifies) = verifies;
        self.rebuild()
    }

    /// End and start of the present leaf.
    pub(super) fn leaf_validity(&self) -> Option<Validity> {
        lock(&self.leaf).as_ref().map(|leaf| leaf.validity)
    }

    /// Serial number of the present leaf.
    pub(super) fn serial(&self) -> Option<Serial> {
        let leaf = lock(&self.leaf);
        Certificate::parse(leaf.as_ref()?.chain.first()?).ok()?.serial()
    }

    /// Nothing is there any more, as after a restart.
    pub(super) fn clear(&self) {
        self.tls.send_replace(None);
        if lock(&self.leaf).take().is_some() {
            // The leaf that it gets is the one that it had.
            self.leaves_seen.fetch_sub(1, Ordering::Relaxed);
        }
        *lock(&self.roots) = None;
    }

    /// The roots that are trusted now, in PEM.
    pub(super) fn roots_pem(&self) -> Option<String> {
        lock(&self.roots).as_ref().map(|trusted| trusted.pem.clone())
    }

    /// The roots that its leaves chained to so far, each once, in their order.
    pub(super) fn roots_seen(&self) -> Vec<RootId> {
        lock(&self.roots_seen).clone()
    }

    /// The roots that are trusted now.
    pub(super) fn trusted(&self) -> Vec<RootId> {
        let roots = lock(&self.roots);
        roots.iter().flat_map(|trusted| &trusted.ders).map(|der| RootId::of(der)).collect()
    }

    /// How many different leaves there were so far.
    pub(super) fn leaves_seen(&self) -> u64 {
        self.leaves_seen.load(Ordering::Relaxed)
    }

    /// Takes leaf and trust of one reply.
    pub(super) fn take_both(&self, chain: &[u8], key: &[u8], roots: &[u8]) -> anyhow::Result<()> {
        self.put_roots(roots)?;
        self.put_leaf(chain, key)?;
        self.rebuild()
    }

    /// Takes a leaf with its chain and key, in PEM.
    pub(super) fn put_leaf(&self, chain: &[u8], key: &[u8]) -> anyhow::Result<()> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>()?;
        let leaf = Certificate::parse(chain.first().context("the chain is empty")?)?;
        let last = Certificate::parse(chain.last().context("the chain is empty")?)?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        self.note_root(&last);
        self.received.note(&leaf);
        let mut slot = lock(&self.leaf);
        let known = slot
            .as_ref()
            .and_then(|held| held.chain.first())
            .is_some_and(|held| held.as_ref() == leaf.der());
        if !known {
            self.leaves_seen.fetch_add(1, Ordering::Relaxed);
        }
        *slot = Some(Leaf { chain, key, validity: leaf.validity() });
        Ok(())
    }

    /// Notes the trusted root that issued the end of a chain.
    fn note_root(&self, last: &Certificate) {
        let roots = lock(&self.roots);
        let issued = |der: &&CertificateDer<'static>| {
            Certificate::parse(der).is_ok_and(|root| root.subject_der() == last.issuer_der())
        };
        let issuer =
            roots.iter().flat_map(|trusted| &trusted.ders).find(issued).map(|der| RootId::of(der));
        let mut seen = lock(&self.roots_seen);
        let last = seen.last().copied();
        seen.extend(issuer.filter(|root| last != Some(*root)));
    }

    /// Takes the roots to trust, in PEM.
    pub(super) fn put_roots(&self, pem: &[u8]) -> anyhow::Result<()> {
        let mut store = RootCertStore::empty();
        let ders: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
        for certificate in &ders {
            store.add(certificate.clone())?;
        }
        if store.is_empty() {
            bail!("the validation context has no root");
        }
        let pem = String::from_utf8_lossy(pem).into_owned();
        *lock(&self.roots) = Some(Trusted { store: Arc::new(store), ders, pem });
        // A leaf that came before its roots is told apart now.
        let last =
            lock(&self.leaf).as_ref().and_then(|leaf| Certificate::parse(leaf.chain.last()?).ok());
        if let Some(last) = last {
            self.note_root(&last);
        }
        Ok(())
    }

    /// Makes what connections use from now on, once leaf and trust are there.
    pub(super) fn rebuild(&self) -> anyhow::Result<()> {
        let roots = lock(&self.roots).as_ref().map(|trusted| Arc::clone(&trusted.store));
        let leaf = lock(&self.leaf);
        if let (Some(leaf), Some(roots)) = (leaf.as_ref(), roots) {
            let pair = TlsPair::new(
                leaf.chain.clone(),
                leaf.key.clone_key(),
                roots,
                *lock(&self.verifies),
            )?;
            self.tls.send_replace(Some(Arc::new(pair)));
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
