//! Certificates that no honest authority would sign, for the tests of the checks.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa,
    KeyUsagePurpose, PublicKeyData, SanType, SigningKey,
};
use trust::der::{Reader, Writer};
use trust::{PublicKey, Root};

use crate::keys::KeySpec;
use crate::ring_keys::RingKey;

/// 2026-01-01, the time of every check in these tests.
pub(super) const NOW: i64 = 1_767_225_600;
/// What the issuer must cover: 30 days.
pub(super) const UNTIL: i64 = NOW + 30 * 86_400;

/// A key that rcgen signs with.
pub(super) struct ForgeKey(pub(super) RingKey);

impl ForgeKey {
    pub(super) fn new() -> Self {
        Self(RingKey::generate(KeySpec::P256).expect("key").0)
    }

    pub(super) fn public(&self) -> &PublicKey {
        self.0.public()
    }
}

impl PublicKeyData for ForgeKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public().key_octets()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for ForgeKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message, KeySpec::P256.algorithm()).expect("signs"))
    }
}

/// An RSA-1024 public key.
pub(super) struct WeakRsa(Vec<u8>);

impl WeakRsa {
    pub(super) fn new() -> Self {
        let mut writer = Writer::new();
        writer.sequence(|writer| {
            writer.unsigned(&[0xc5; 128]);
            writer.unsigned(&[1, 0, 1]);
        });
        Self(writer.into_der())
    }
}

impl PublicKeyData for WeakRsa {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

/// A good CA certificate's parameters, to be spoilt.
pub(super) fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    set_validity(&mut params, NOW - 60, UNTIL + 86_400);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri("spiffe://example.org")];
    params.use_authority_key_identifier_extension = true;
    params
}

pub(super) fn set_validity(params: &mut CertificateParams, from: i64, to: i64) {
    let since_epoch = |secs: i64| Duration::from_secs(u64::try_from(secs).expect("after 1970"));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(from);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(to);
}

pub(super) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ia5"))
}

pub(super) fn extension(oid: &[u64], content: &[u8], critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// Name constraints that permit the URI host `a`.
pub(super) fn uri_name_constraints() -> CustomExtension {
    extension(&[2, 5, 29, 30], &[0x30, 0x07, 0xa0, 0x05, 0x30, 0x03, 0x86, 0x01, b'a'], true)
}

pub(super) fn root(params: &CertificateParams, key: &ForgeKey) -> Vec<u8> {
    params.self_signed(key).expect("root").der().to_vec()
}

pub(super) fn parsed(der: &[u8]) -> Root {
    Root::parse(der).expect("a root")
}

pub(super) fn signed(
    params: &CertificateParams,
    subject: &impl PublicKeyData,
    signer: (&CertificateParams, &ForgeKey),
) -> Vec<u8> {
    let issuer = rcgen::Issuer::from_params(signer.0, signer.1);
    params.signed_by(subject, &issuer).expect("signed").der().to_vec()
}

/// Replaces bytes inside of what is signed, and signs again.
pub(super) fn patched(der: &[u8], key: &ForgeKey, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut certificate = Reader::new(der).sequence().expect("certificate");
    let mut tbs = certificate.element().expect("tbs").raw.to_vec();
    let place = tbs.windows(from.len()).position(|window| window == from).expect("bytes to patch");
    tbs[place..place + to.len()].copy_from_slice(to);
    let algorithm = certificate.element().expect("algorithm").raw;
    assemble(&tbs, algorithm, key)
}

/// Claims another signature algorithm, inside and outside.
pub(super) fn with_algorithm(der: &[u8], key: &ForgeKey, inside: &[u8], outside: &[u8]) -> Vec<u8> {
    let mut certificate = Reader::new(der).sequence().expect("certificate");
    let mut fields = certificate.sequence().expect("tbs");
    let mut writer = Writer::new();
    writer.sequence(|writer| {
        writer.raw(fields.element().expect("version").raw);
        writer.raw(fields.element().expect("serial").raw);
        fields.element().expect("algorithm");
        writer.raw(inside);
        while !fields.is_empty() {
            writer.raw(fields.element().expect("field").raw);
        }
    });
    assemble(&writer.into_der(), outside, key)
}

fn assemble(tbs: &[u8], algorithm: &[u8], key: &ForgeKey) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.sequence(|writer| {
        writer.raw(tbs);
        writer.raw(algorithm);
        writer.bit_string(&key.sign(tbs).expect("signs"));
    });
    writer.into_der()
}
