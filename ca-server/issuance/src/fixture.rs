//! A small CA for tests and benches: a root and an issuer whose key is in a memory backend.
//!
//! Paths begin with the crate's name, because tests and benches of this crate and of the CA process include this file.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use issuance::{Signer, SignerParts, Snapshot};
use plugins::memory::MemoryKeys;
use plugins::{KeyBackend, KeyHandle, KeySpec, RequestId};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use trust::csr::{ParsedCsr, VerifiedCsr};
use trust::{Bundle, Certificate, Generation, Sequence, SpiffeId, Timestamp, TrustDomain};

pub(crate) const TRUST_DOMAIN: &str = "example.org";
/// 15 January 2027.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(crate) const ISSUER_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::parse(TRUST_DOMAIN).unwrap()
}

pub(crate) fn id(path: &str) -> SpiffeId {
    SpiffeId::for_path(&trust_domain(), path).unwrap()
}

/// A verified CSR for a new P-256 key, without names.
pub(crate) fn csr() -> VerifiedCsr {
    csr_of(&KeyPair::generate().unwrap(), &[])
}

/// A verified CSR for this key with these URI names.
pub(crate) fn csr_of(key: &KeyPair, uris: &[&str]) -> VerifiedCsr {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names =
        uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    let der = params.serialize_request(key).unwrap();
    ParsedCsr::from_der(der.der()).unwrap().verify().unwrap()
}

/// How the issuer's certificate looks.
#[derive(Debug, Clone)]
pub(crate) struct IssuerShape {
    pub(crate) ca: bool,
    pub(crate) cert_sign: bool,
    pub(crate) trust_domain: &'static str,
    pub(crate) not_after: Timestamp,
    pub(crate) path_len: Option<u8>,
}

impl Default for IssuerShape {
    fn default() -> Self {
        let not_after = NOW.plus(ISSUER_LIFE);
        Self { ca: true, cert_sign: true, trust_domain: TRUST_DOMAIN, not_after, path_len: Some(0) }
    }
}

/// A root, an issuer below it, and the issuer's key.
pub(crate) struct CaMaterial {
    root: Vec<u8>,
    issuer: Certificate,
    keys: Arc<MemoryKeys>,
    key: KeyHandle,
}

impl CaMaterial {
    pub(crate) fn new() -> Self {
        Self::shaped(&IssuerShape::default())
    }

    pub(crate) fn shaped(shape: &IssuerShape) -> Self {
        let root_key = KeyPair::generate().unwrap();
        let root_params = root_params(&root_key);
        let root = root_params.self_signed(&root_key).unwrap().der().to_vec();
        let keys = Arc::new(MemoryKeys::new());
        let key =
            ready(keys.generate(&RequestId::parse("issuer").unwrap(), KeySpec::P256)).unwrap();
        let above = rcgen::Issuer::from_params(&root_params, &root_key);
        let issuer = issuer_params(shape).signed_by(&Certified(&key.public), &above).unwrap();
        Self { root, issuer: Certificate::parse(issuer.der()).unwrap(), keys, key }
    }

    pub(crate) fn bundle(&self, sequence: u64) -> Bundle {
        Bundle::from_ders(trust_domain(), Sequence(sequence), &[&self.root]).unwrap()
    }

    pub(crate) fn parts(&self) -> SignerParts {
        SignerParts {
            keys: self.keys.clone(),
            key: self.key.id.clone(),
            public: self.key.public.clone(),
            chain: vec![self.issuer.clone()],
        }
    }

    pub(crate) fn signer(&self) -> Arc<Signer> {
        Arc::new(Signer::verify(self.parts(), &self.bundle(1), NOW).unwrap())
    }

    /// A snapshot of this generation whose bundle has the same number as sequence, with ninety days of horizon.
    pub(crate) fn snapshot(&self, generation: u64) -> Snapshot {
        let horizon = NOW.plus(Duration::from_secs(90 * 24 * 3600));
        Snapshot::new(Generation(generation), self.bundle(generation), self.signer(), horizon)
            .unwrap()
    }
}

/// The answer of a future that never waits, as those of a memory backend.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a memory backend answers at once"),
    }
}

/// The backend's public key as rcgen takes it.
struct Certified<'k>(&'k trust::PublicKey);

impl rcgen::PublicKeyData for Certified<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.key_octets()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn root_params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let name: String =
        key.public_key_raw().iter().skip(1).take(8).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("test root {name}"));
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

fn issuer_params(shape: &IssuerShape) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = match (shape.ca, shape.path_len) {
        (false, _) => IsCa::ExplicitNoCa,
        (true, None) => IsCa::Ca(BasicConstraints::Unconstrained),
        (true, Some(most)) => IsCa::Ca(BasicConstraints::Constrained(most)),
    };
    params.key_usages = vec![KeyUsagePurpose::CrlSign];
    if shape.cert_sign {
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    }
    params.distinguished_name.push(DnType::CommonName, "test issuer");
    let uri = format!("spiffe://{}", shape.trust_domain);
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2026, 1, 1);
    let since_epoch = Duration::from_secs(u64::try_from(shape.not_after.as_secs()).unwrap());
    params.not_after = date_time_ymd(1970, 1, 1) + since_epoch;
    params
}
