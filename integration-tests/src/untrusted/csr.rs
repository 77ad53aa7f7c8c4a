//! CSRs with any part wrong, signed all the same.

use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use trust::SignatureAlgorithm;
use trust::der::{Writer, oid, tag};

use crate::untrusted::CART;

/// Parts of a CSR in DER (RFC 2986 §4), to be spoiled one by one.
#[derive(Debug)]
pub struct CsrDraft {
    /// The key that signs.
    pub key: KeyPair,
    /// `version`.
    pub version: Vec<u8>,
    /// `subject`.
    pub subject: Vec<u8>,
    /// `subjectPKInfo`.
    pub spki: Vec<u8>,
    /// The members of `attributes`.
    pub attributes: Vec<Vec<u8>>,
    /// `signatureAlgorithm`.
    pub algorithm: Vec<u8>,
}

impl Default for CsrDraft {
    fn default() -> Self {
        Self::new()
    }
}

impl CsrDraft {
    /// A good CSR of a new P-256 key for [`CART`]: an empty subject, one critical URI name.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn new() -> Self {
        Self::of(KeyPair::generate().unwrap())
    }

    /// The same of a key that there is.
    pub fn of(key: KeyPair) -> Self {
        let draft = Self {
            version: der(|w| w.unsigned(&[0])),
            subject: sequence(&[]),
            spki: key.subject_public_key_info(),
            attributes: Vec::new(),
            algorithm: SignatureAlgorithm::EcdsaP256Sha256.der().to_vec(),
            key,
        };
        draft.identity(CART)
    }

    /// Asks for this URI instead.
    #[must_use]
    pub fn identity(self, uri_text: &str) -> Self {
        self.names(&[uri(uri_text)])
    }

    /// Asks for these names instead.
    #[must_use]
    pub fn names(self, names: &[Vec<u8>]) -> Self {
        self.extensions(&[alternative_names(names)])
    }

    /// Asks for nothing.
    #[must_use]
    pub fn without_names(mut self) -> Self {
        self.attributes.clear();
        self
    }

    /// Requests these extensions instead.
    #[must_use]
    pub fn extensions(self, extensions: &[Vec<u8>]) -> Self {
        self.attributes(vec![attribute(oid::EXTENSION_REQUEST, &[sequence(extensions)])])
    }

    /// Keeps the good name and requests one extension more.
    #[must_use]
    pub fn and_extension(self, oid: &[u8], critical: bool, value: &[u8]) -> Self {
        self.extensions(&[alternative_names(&[uri(CART)]), extension(oid, critical, value)])
    }

    /// Has these attributes instead, in the order that DER demands.
    #[must_use]
    pub fn attributes(mut self, mut attributes: Vec<Vec<u8>>) -> Self {
        attributes.sort();
        self.attributes = attributes;
        self
    }

    /// Has a subject of these relative names.
    #[must_use]
    pub fn subject(mut self, relative_names: &[Vec<u8>]) -> Self {
        self.subject = sequence(relative_names);
        self
    }

    /// Carries this key, although another signs.
    #[must_use]
    pub fn spki(mut self, spki: Vec<u8>) -> Self {
        self.spki = spki;
        self
    }

    /// Names this signature algorithm.
    #[must_use]
    pub fn algorithm(mut self, algorithm: &[u8]) -> Self {
        self.algorithm = algorithm.to_vec();
        self
    }

    /// The part that is signed.
    pub fn info(&self) -> Vec<u8> {
        let attributes =
            der(|w| w.context(0, |w| self.attributes.iter().for_each(|one| w.raw(one))));
        sequence(&[self.version.clone(), self.subject.clone(), self.spki.clone(), attributes])
    }

    /// A good signature by the draft's key over these bytes.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn signature_over(&self, bytes: &[u8]) -> Vec<u8> {
        self.key.sign(bytes).unwrap()
    }

    /// The CSR with this signature.
    pub fn with_signature(&self, signature: &[u8]) -> Vec<u8> {
        sequence(&[self.info(), self.algorithm.clone(), der(|w| w.bit_string(signature))])
    }

    /// The CSR, signed.
    pub fn der(&self) -> Vec<u8> {
        self.with_signature(&self.signature_over(&self.info()))
    }

    /// The CSR, signed, in PEM.
    pub fn pem(&self) -> String {
        pem(&self.der())
    }
}

/// A PEM block `CERTIFICATE REQUEST` of any bytes.
pub fn pem(der: &[u8]) -> String {
    labelled("CERTIFICATE REQUEST", der)
}

/// A PEM block of any label and bytes.
pub fn labelled(label: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(label, der))
}

/// What the closure writes.
pub fn der(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.into_der()
}

/// A `SEQUENCE` of these members.
pub fn sequence(members: &[Vec<u8>]) -> Vec<u8> {
    der(|w| w.sequence(|w| members.iter().for_each(|member| w.raw(member))))
}

/// An attribute with these values.
pub fn attribute(oid: &[u8], values: &[Vec<u8>]) -> Vec<u8> {
    let values = der(|w| w.set(|w| values.iter().for_each(|value| w.raw(value))));
    sequence(&[der(|w| w.oid(oid)), values])
}

/// An extension.
pub fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der(|w| w.boolean(true)) } else { Vec::new() };
    sequence(&[der(|w| w.oid(oid)), critical, der(|w| w.octet_string(value))])
}

/// The critical extension of these names.
pub fn alternative_names(names: &[Vec<u8>]) -> Vec<u8> {
    extension(oid::SUBJECT_ALT_NAME, true, &sequence(names))
}

/// A name of the type with this number (RFC 5280 §4.2.1.6).
pub fn general_name(number: u8, content: &[u8]) -> Vec<u8> {
    der(|w| w.context_primitive(number, content))
}

/// A URI.
pub fn uri(text: &str) -> Vec<u8> {
    general_name(6, text.as_bytes())
}

/// A relative name of one common name.
pub fn common_name(text: &str) -> Vec<u8> {
    let member = sequence(&[
        der(|w| w.oid(oid::COMMON_NAME)),
        der(|w| w.primitive(tag::UTF8_STRING, text.as_bytes())),
    ]);
    der(|w| w.set(|w| w.raw(&member)))
}

/// A `SubjectPublicKeyInfo`.
pub fn spki(algorithm: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
    let algorithm = sequence(&[der(|w| w.oid(algorithm)), parameters.to_vec()]);
    sequence(&[algorithm, der(|w| w.bit_string(key))])
}

/// An RSA `SubjectPublicKeyInfo` of these numbers, which need not be a key.
pub fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = sequence(&[der(|w| w.unsigned(modulus)), der(|w| w.unsigned(exponent))]);
    spki(oid::RSA_ENCRYPTION, &der(Writer::null), &key)
}
