//! Fakes for the tests of this crate: a small PKI, a CA that can misbehave, and processes that need not exist.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::banyan::agent::v1 as wire;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm,
};
use tokio::sync::watch;
use trust::csr::ParsedCsr;
use trust::{Bundle, PublicKey, Root, Sequence, Serial, SpiffeId, Timestamp, TrustDomain};

use crate::process::{ProcessId, Processes};

pub(crate) mod ca;
mod heard;
mod tls;

/// The day of every test that does not care.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

static SERIALS: AtomicU64 = AtomicU64::new(1);

/// One root that signs leaves itself.
pub(crate) struct Pki {
    root: Root,
    issuer: Issuer<'static, KeyPair>,
}

struct Spki(Vec<u8>);

impl PublicKeyData for Spki {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Pki {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(next_serial());
        (params.not_before, params.not_after) = validity(NOW, Duration::from_secs(86_400 * 365));
        let root = Root::parse(params.self_signed(&key).unwrap().der()).unwrap();
        Self { root, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    pub(crate) fn bundle(&self, sequence: u64) -> Bundle {
        bundle_of(&[self], sequence)
    }

    pub(crate) fn wire_bundle(&self, sequence: u64) -> wire::Bundle {
        to_wire(&self.bundle(sequence))
    }

    /// A leaf for the key of a CSR, with this name and no other.
    pub(crate) fn leaf(
        &self,
        csr: &[u8],
        id: &SpiffeId,
        from: Timestamp,
        ttl: Duration,
    ) -> Vec<Vec<u8>> {
        let key = ParsedCsr::from_der(csr).unwrap().verify().unwrap();
        self.leaf_for(key.public_key(), id, from, ttl)
    }

    pub(crate) fn leaf_for(
        &self,
        key: &PublicKey,
        id: &SpiffeId,
        from: Timestamp,
        ttl: Duration,
    ) -> Vec<Vec<u8>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        params.serial_number = Some(next_serial());
        (params.not_before, params.not_after) = validity(from, ttl);
        let key = Spki(key.key_octets().to_vec());
        vec![params.signed_by(&key, &self.issuer).unwrap().der().to_vec()]
    }
}

pub(crate) fn bundle_of(pkis: &[&Pki], sequence: u64) -> Bundle {
    let domain = TrustDomain::parse("example.org").unwrap();
    Bundle::new(domain, Sequence(sequence), pkis.iter().map(|pki| pki.root.clone()).collect())
        .unwrap()
}

pub(crate) fn to_wire(bundle: &Bundle) -> wire::Bundle {
    wire::Bundle {
        trust_domain: bundle.trust_domain().to_string(),
        sequence: bundle.sequence().0,
        digest: bundle.digest().as_bytes().to_vec(),
        roots: bundle.roots().iter().map(|root| root.der().to_vec()).collect(),
    }
}

/// Serial numbers in the form that Banyan draws.
fn next_serial() -> SerialNumber {
    let mut bytes = [0x41; Serial::LEN];
    bytes[8..].copy_from_slice(&SERIALS.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    SerialNumber::from_slice(&bytes)
}

fn validity(from: Timestamp, ttl: Duration) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let at = |timestamp: Timestamp| {
        time::OffsetDateTime::from_unix_timestamp(timestamp.as_secs()).unwrap()
    };
    (at(from), at(from.plus(ttl)))
}

/// Processes that live until they are told to end. A pid that was never started is that of a process.
#[derive(Debug, Default)]
pub(crate) struct FakeProcesses {
    ended: Mutex<BTreeMap<i32, watch::Sender<bool>>>,
}

impl FakeProcesses {
    pub(crate) fn end(&self, pid: i32) {
        self.sender(pid).send_replace(true);
    }

    fn sender(&self, pid: i32) -> watch::Sender<bool> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.entry(pid).or_insert_with(|| watch::Sender::new(false)).clone()
    }
}

impl Processes for FakeProcesses {
    fn find(&self, pid: i32) -> std::io::Result<Option<ProcessId>> {
        Ok((!*self.sender(pid).borrow()).then_some(ProcessId { pid, start: 1 }))
    }

    fn gone(&self, process: ProcessId) -> BoxFuture<'static, ()> {
        let mut ended = self.sender(process.pid).subscribe();
        Box::pin(async move {
            // The sender lives as long as the fake does.
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }

    fn boot(&self) -> String {
        "boot".to_owned()
    }
}
