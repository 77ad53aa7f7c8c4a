//! Signing in two passes, because rcgen signs at once and a [`KeyBackend`](crate::KeyBackend) only asynchronously.
//!
//! First pass: rcgen encodes the certificate and hands the bytes to be signed to a [`Recorder`], which keeps them and
//! answers with an empty signature; that certificate is thrown away. Then the backend signs those bytes. Second pass:
//! `SEQUENCE { bytes, algorithm, signature }` is put together here.

use std::cell::RefCell;

use rcgen::{DistinguishedName, DnType, DnValue, PublicKeyData, SigningKey};
use trust::certificate::Certificate;
use trust::der::Writer;
use trust::{KeyKind, PublicKey, SignatureAlgorithm};
use x509_parser::asn1_rs::Tag;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::build_error::BuildError;
use crate::keys::KeySpec;

/// The public half of the key that shall sign.
pub(super) struct Signer<'a> {
    public: &'a PublicKey,
    algorithm: SignatureAlgorithm,
}

impl<'a> Signer<'a> {
    pub(super) fn new(public: &'a PublicKey) -> Self {
        let algorithm =
            KeySpec::of(public).map_or(SignatureAlgorithm::RsaPkcs1Sha256, KeySpec::algorithm);
        Self { public, algorithm }
    }

    pub(super) fn public(&self) -> &PublicKey {
        self.public
    }

    pub(super) fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// Runs the first pass and answers with the bytes to be signed.
    pub(super) fn record(
        &self,
        encode: impl FnOnce(&Recorder<'_>) -> Result<(), rcgen::Error>,
    ) -> Result<Vec<u8>, BuildError> {
        let recorder = Recorder { key: SubjectKey::new(self.public), recorded: RefCell::default() };
        encode(&recorder).map_err(|error| BuildError::Encode(error.to_string()))?;
        Ok(recorder.recorded.into_inner())
    }
}

/// Stands in for the private key, and keeps what it should sign.
pub(super) struct Recorder<'a> {
    key: SubjectKey<'a>,
    recorded: RefCell<Vec<u8>>,
}

impl PublicKeyData for Recorder<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.key.algorithm()
    }
}

impl SigningKey for Recorder<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        message.clone_into(&mut self.recorded.borrow_mut());
        Ok(Vec::new())
    }
}

/// A public key in the form that rcgen takes.
pub(super) struct SubjectKey<'a> {
    public: &'a PublicKey,
    algorithm: &'static rcgen::SignatureAlgorithm,
}

impl<'a> SubjectKey<'a> {
    pub(super) fn new(public: &'a PublicKey) -> Self {
        let algorithm = match public.kind() {
            KeyKind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyKind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            KeyKind::Ed25519 => &rcgen::PKCS_ED25519,
            KeyKind::Rsa { .. } => &rcgen::PKCS_RSA_SHA256,
        };
        Self { public, algorithm }
    }
}

impl PublicKeyData for SubjectKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.key_octets()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

/// A signed thing: certificate or CSR.
pub(super) struct Assembled<'a> {
    pub(super) to_be_signed: &'a [u8],
    pub(super) algorithm: SignatureAlgorithm,
    pub(super) signature: &'a [u8],
}

impl Assembled<'_> {
    pub(super) fn der(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(self.to_be_signed.len() + self.signature.len() + 32);
        writer.sequence(|writer| {
            writer.raw(self.to_be_signed);
            writer.raw(self.algorithm.der());
            writer.bit_string(self.signature);
        });
        writer.into_der()
    }
}

/// A CA's subject in rcgen's form, each part in the string type that it has.
///
/// rcgen keeps one value of each attribute type, so a name with repeated or multi-valued parts is refused here, and
/// whoever builds the certificate compares the bytes once more.
pub(super) fn subject_of(root: &Certificate) -> Result<DistinguishedName, BuildError> {
    let (_, name) = X509Name::from_der(root.subject_der()).map_err(|_| BuildError::SubjectLost)?;
    let mut subject = DistinguishedName::new();
    for part in name.iter() {
        let mut values = part.iter();
        let (Some(attribute), None) = (values.next(), values.next()) else {
            return Err(BuildError::SubjectLost);
        };
        let oid: Option<Vec<u64>> = attribute.attr_type().iter().map(Iterator::collect);
        let kind = DnType::from_oid(&oid.ok_or(BuildError::SubjectLost)?);
        if subject.get(&kind).is_some() {
            return Err(BuildError::SubjectLost);
        }
        let text = attribute.as_str().map_err(|_| BuildError::SubjectLost)?;
        subject.push(kind, value(attribute.attr_value().tag(), text)?);
    }
    Ok(subject)
}

fn value(tag: Tag, text: &str) -> Result<DnValue, BuildError> {
    let lost = |_| BuildError::SubjectLost;
    match tag {
        Tag::Utf8String => Ok(DnValue::Utf8String(text.to_owned())),
        Tag::PrintableString => text.try_into().map(DnValue::PrintableString).map_err(lost),
        Tag::Ia5String => text.try_into().map(DnValue::Ia5String).map_err(lost),
        _ => Err(BuildError::SubjectLost),
    }
}
