//! A CSR under construction, every part of which a test may spoil before it is signed.

use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use trust::SignatureAlgorithm;
use trust::der::{Writer, oid, tag};

/// The identity that drafts ask for unless told otherwise.
pub(crate) const IDENTITY: &str = "spiffe://example.org/ns/shop/sa/cart";

/// Parts of a CSR, each in DER.
pub(crate) struct Draft {
    pub(crate) key: KeyPair,
    pub(crate) version: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
    pub(crate) attributes: Vec<Vec<u8>>,
    pub(crate) algorithm: Vec<u8>,
}

impl Draft {
    /// A good P-256 draft with an empty subject and the critical URI name, as ztunnel sends it.
    pub(crate) fn new() -> Self {
        Self::with_key(KeyPair::generate().unwrap(), SignatureAlgorithm::EcdsaP256Sha256)
    }

    pub(crate) fn with_key(key: KeyPair, algorithm: SignatureAlgorithm) -> Self {
        let spki = key.subject_public_key_info();
        let draft = Self {
            key,
            version: der(|w| w.unsigned(&[0])),
            subject: der(|w| w.sequence(|_| {})),
            spki,
            attributes: Vec::new(),
            algorithm: algorithm.der().to_vec(),
        };
        draft.names(&[uri(IDENTITY)])
    }

    pub(crate) fn spki(mut self, spki: Vec<u8>) -> Self {
        self.spki = spki;
        self
    }

    pub(crate) fn algorithm(mut self, algorithm: Vec<u8>) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn subject(mut self, relative_names: &[Vec<u8>]) -> Self {
        self.subject = der(|w| w.sequence(|w| relative_names.iter().for_each(|name| w.raw(name))));
        self
    }

    pub(crate) fn attributes(mut self, mut attributes: Vec<Vec<u8>>) -> Self {
        attributes.sort();
        self.attributes = attributes;
        self
    }

    /// Requests these extensions and nothing else.
    pub(crate) fn extensions(self, extensions: &[Vec<u8>]) -> Self {
        let requested =
            der(|w| w.sequence(|w| extensions.iter().for_each(|extension| w.raw(extension))));
        self.attributes(vec![attribute(oid::EXTENSION_REQUEST, &[requested])])
    }

    /// Requests these subject alternative names and nothing else.
    pub(crate) fn names(self, names: &[Vec<u8>]) -> Self {
        self.extensions(&[alternative_names(names)])
    }

    /// The names of a good draft, and one extension more.
    pub(crate) fn extension(self, oid: &[u8], critical: bool, value: &[u8]) -> Self {
        self.extensions(&[alternative_names(&[uri(IDENTITY)]), extension(oid, critical, value)])
    }

    /// The part that is signed.
    pub(crate) fn info(&self) -> Vec<u8> {
        der(|w| {
            w.sequence(|w| {
                w.raw(&self.version);
                w.raw(&self.subject);
                w.raw(&self.spki);
                w.context(0, |w| self.attributes.iter().for_each(|attribute| w.raw(attribute)));
            });
        })
    }

    /// The CSR, signed with the draft's key whatever its other parts say.
    pub(crate) fn sign(&self) -> Vec<u8> {
        self.assemble(&self.key.sign(&self.info()).unwrap())
    }

    /// The CSR with this signature.
    pub(crate) fn assemble(&self, signature: &[u8]) -> Vec<u8> {
        der(|w| {
            w.sequence(|w| {
                w.raw(&self.info());
                w.raw(&self.algorithm);
                w.bit_string(signature);
            });
        })
    }
}

pub(crate) fn der(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.into_der()
}

pub(crate) fn attribute(oid: &[u8], values: &[Vec<u8>]) -> Vec<u8> {
    der(|w| {
        w.sequence(|w| {
            w.oid(oid);
            w.set(|w| values.iter().for_each(|value| w.raw(value)));
        });
    })
}

pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    der(|w| {
        w.sequence(|w| {
            w.oid(oid);
            if critical {
                w.boolean(true);
            }
            w.octet_string(value);
        });
    })
}

pub(crate) fn alternative_names(names: &[Vec<u8>]) -> Vec<u8> {
    let value = der(|w| w.sequence(|w| names.iter().for_each(|name| w.raw(name))));
    extension(oid::SUBJECT_ALT_NAME, true, &value)
}

pub(crate) fn general_name(number: u8, content: &[u8]) -> Vec<u8> {
    der(|w| w.context_primitive(number, content))
}

pub(crate) fn uri(text: &str) -> Vec<u8> {
    general_name(6, text.as_bytes())
}

/// A relative distinguished name of one attribute with a text of this type.
pub(crate) fn relative_name(oid: &[u8], text_tag: u8, text: &[u8]) -> Vec<u8> {
    der(|w| {
        w.set(|w| {
            w.sequence(|w| {
                w.oid(oid);
                w.primitive(text_tag, text);
            });
        });
    })
}

pub(crate) fn common_name(text: &str) -> Vec<u8> {
    relative_name(oid::COMMON_NAME, tag::UTF8_STRING, text.as_bytes())
}

/// An EC SubjectPublicKeyInfo of these parameters and point.
pub(crate) fn ec_spki(parameters: &[u8], point: &[u8]) -> Vec<u8> {
    spki(oid::EC_PUBLIC_KEY, parameters, point)
}

pub(crate) fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = der(|w| {
        w.sequence(|w| {
            w.unsigned(modulus);
            w.unsigned(exponent);
        });
    });
    spki(oid::RSA_ENCRYPTION, &der(Writer::null), &key)
}

pub(crate) fn spki(algorithm: &[u8], parameters: &[u8], key: &[u8]) -> Vec<u8> {
    der(|w| {
        w.sequence(|w| {
            w.sequence(|w| {
                w.oid(algorithm);
                w.raw(parameters);
            });
            w.bit_string(key);
        });
    })
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(label, der))
}
