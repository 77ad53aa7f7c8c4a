//! A root of our own, for a CA that lies.

use std::sync::atomic::{AtomicU64, Ordering};

use proto::banyan::agent::v1 as wire;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};
use trust::csr::ParsedCsr;
use trust::{Bundle, Root, Sequence, Serial, TrustDomain};

use crate::support::TRUST_DOMAIN;

static SERIALS: AtomicU64 = AtomicU64::new(1);

/// One root that signs leaves itself. Everything is valid from 2020 to 2049.
#[derive(Debug)]
pub struct Pki {
    root: Root,
    issuer: Issuer<'static, KeyPair>,
}

struct Octets(Vec<u8>);

impl PublicKeyData for Octets {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Pki {
    /// Makes a root with this name.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = Root::parse(params.self_signed(&key)?.der())?;
        Ok(Self { root, issuer: Issuer::new(params, key) })
    }

    /// The root.
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// A leaf with this name for the key of a CSR.
    ///
    /// # Errors
    /// When the CSR is no good.
    pub fn leaf(&self, csr: &[u8], id: &str) -> anyhow::Result<Vec<Vec<u8>>> {
        let csr = ParsedCsr::from_der(csr)?.verify()?;
        let mut params = params();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
        let key = Octets(csr.public_key().key_octets().to_vec());
        Ok(vec![params.signed_by(&key, &self.issuer)?.der().to_vec()])
    }

    /// A bundle of these roots.
    ///
    /// # Errors
    /// When they make no bundle.
    pub fn bundle(pkis: &[&Self], sequence: u64) -> anyhow::Result<wire::Bundle> {
        let roots = pkis.iter().map(|pki| pki.root.clone()).collect();
        Ok(to_wire(&Bundle::new(TrustDomain::parse(TRUST_DOMAIN)?, Sequence(sequence), roots)?))
    }
}

/// A bundle as it goes over the wire.
pub(super) fn to_wire(bundle: &Bundle) -> wire::Bundle {
    wire::Bundle {
        trust_domain: bundle.trust_domain().to_string(),
        sequence: bundle.sequence().0,
        digest: bundle.digest().as_bytes().to_vec(),
        roots: bundle.roots().iter().map(|root| root.der().to_vec()).collect(),
    }
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2049, 1, 1));
    // Sixteen bytes with the first below 0x80, as the CA draws them.
    let number = SERIALS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let serial: Vec<u8> =
        std::iter::repeat_n(0x41, Serial::LEN - number.len()).chain(number).collect();
    params.serial_number = Some(SerialNumber::from(serial));
    params
}
