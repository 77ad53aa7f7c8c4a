//! Keys and signature algorithms by the names that operators know, whether they are taken here or not.

use x509_parser::oid_registry::Oid;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};
use x509_parser::public_key::PublicKey as ParsedKey;

use crate::certificate::Certificate;
use crate::der::{Reader, oid, tag};
use crate::key::PublicKey;

/// The keys and signatures that are taken of a CA, for messages about others.
pub const TAKEN: &str = "ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits (PKCS #1 v1.5), and SHA-256 or SHA-384";

/// Names by object identifier, in dotted form.
const CURVES: &[(&str, &str)] = &[
    ("1.2.840.10045.3.1.7", "P-256"),
    ("1.3.132.0.34", "P-384"),
    ("1.3.132.0.35", "P-521"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
];
const KEYS: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.1", "RSA"),
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("1.2.840.10045.2.1", "EC"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
    ("1.2.840.10040.4.1", "DSA"),
    ("2.16.840.1.101.3.4.3.17", "ML-DSA-44"),
    ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
    ("2.16.840.1.101.3.4.3.19", "ML-DSA-87"),
];
const SIGNATURES: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.4", "RSA with MD5"),
    ("1.2.840.113549.1.1.5", "RSA with SHA-1"),
    ("1.2.840.113549.1.1.10", "RSA-PSS"),
    ("1.2.840.113549.1.1.11", "RSA with SHA-256"),
    ("1.2.840.113549.1.1.12", "RSA with SHA-384"),
    ("1.2.840.113549.1.1.13", "RSA with SHA-512"),
    ("1.2.840.10045.4.1", "ECDSA with SHA-1"),
    ("1.2.840.10045.4.3.1", "ECDSA with SHA-224"),
    ("1.2.840.10045.4.3.2", "ECDSA with SHA-256"),
    ("1.2.840.10045.4.3.3", "ECDSA with SHA-384"),
    ("1.2.840.10045.4.3.4", "ECDSA with SHA-512"),
];

impl Certificate {
    /// The certificate's key as people call it, such as `EC key on P-521` or `RSA key of 1024 bits`.
    pub fn key_text(&self) -> String {
        key_text(self.spki_der())
    }

    /// The algorithm of the certificate's signature as people call it, such as `RSA-PSS`.
    pub fn signature_text(&self) -> String {
        match X509Certificate::from_der(self.der()) {
            Ok((_, parsed)) => named(SIGNATURES, &parsed.signature_algorithm.algorithm)
                .or_else(|| named(KEYS, &parsed.signature_algorithm.algorithm))
                .unwrap_or_else(|| format!("algorithm {}", parsed.signature_algorithm.algorithm)),
            Err(_) => "an algorithm that cannot be read".to_owned(),
        }
    }

    /// What of key or signature of a self-issued certificate is not taken, if that is why its signature says nothing.
    pub(crate) fn unsupported_text(&self) -> Option<String> {
        if let Err(error) = PublicKey::parse(self.spki_der()) {
            return Some(format!("has an {}, which is not supported: {error}", self.key_text()));
        }
        let verifiable = X509Certificate::from_der(self.der()).is_ok_and(|(_, parsed)| {
            crate::SignatureAlgorithm::ALL.iter().any(|known| {
                let mut der = Vec::new();
                // An identifier is compared by its name: parameters are judged elsewhere.
                der.extend_from_slice(parsed.signature_algorithm.algorithm.as_bytes());
                known.der().windows(der.len()).any(|window| window == der)
            })
        });
        (!verifiable)
            .then(|| format!("is signed with {}, which is not supported", self.signature_text()))
    }
}

/// A SubjectPublicKeyInfo as people call it.
pub fn key_text(spki_der: &[u8]) -> String {
    let Ok((_, spki)) = SubjectPublicKeyInfo::from_der(spki_der) else {
        return "a key that cannot be read".to_owned();
    };
    let kind = named(KEYS, &spki.algorithm.algorithm)
        .unwrap_or_else(|| format!("algorithm {}", spki.algorithm.algorithm));
    let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match (spki.parsed(), curve) {
        (Ok(ParsedKey::RSA(rsa)), _) => format!("{kind} key of {} bits", rsa.key_size()),
        (_, Some(curve)) if kind == "EC" => {
            let curve = named(CURVES, &curve).unwrap_or_else(|| curve.to_string());
            format!("{kind} key on {curve}")
        }
        _ => format!("{kind} key"),
    }
}

/// A private key (PKCS#8, PKCS#1 or SEC 1) as people call it. Nothing of its secret is looked at.
pub fn private_key_text(der: &[u8]) -> Option<String> {
    let mut key = Reader::new(der).sequence().ok()?;
    let (_version, next) = (key.element().ok()?, key.element().ok()?);
    match next.tag {
        tag::SEQUENCE => {
            let mut algorithm = key.inside(next.content).ok()?;
            let kind = oid::dotted(algorithm.oid().ok()?);
            let kind = name_of(KEYS, &kind).unwrap_or_else(|| format!("algorithm {kind}"));
            match kind.as_str() {
                "EC" => Some(curve_text(algorithm.oid().ok()?)),
                "RSA" => {
                    let mut inner =
                        Reader::new(key.value(tag::OCTET_STRING).ok()?).sequence().ok()?;
                    let (_version, modulus) = (inner.element().ok()?, inner.element().ok()?);
                    Some(format!("RSA key of {} bits", bits(modulus.content)))
                }
                kind => Some(format!("{kind} key")),
            }
        }
        tag::INTEGER => Some(format!("RSA key of {} bits", bits(next.content))),
        tag::OCTET_STRING => {
            let parameters = key.element().ok()?;
            Some(curve_text(key.inside(parameters.content).ok()?.oid().ok()?))
        }
        _ => None,
    }
}

fn curve_text(curve: &[u8]) -> String {
    let curve = oid::dotted(curve);
    format!("EC key on {}", name_of(CURVES, &curve).unwrap_or(curve))
}

/// The length of a positive integer.
fn bits(content: &[u8]) -> usize {
    let leading: usize = content.iter().take_while(|byte| **byte == 0).count();
    let first = content.get(leading).map_or(0, |byte| byte.leading_zeros());
    (content.len() - leading) * 8 - usize::try_from(first).unwrap_or(0)
}

fn named(names: &[(&str, &str)], oid: &Oid<'_>) -> Option<String> {
    name_of(names, &oid.to_id_string())
}

fn name_of(names: &[(&str, &str)], dotted: &str) -> Option<String> {
    names.iter().find(|(known, _)| *known == dotted).map(|(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384};

    use super::*;

    #[test]
    fn keys_and_signatures_have_the_names_that_operators_know() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let made = CertificateParams::default().self_signed(&key).unwrap();
        let certificate = Certificate::parse(made.der()).unwrap();
        assert_eq!(certificate.key_text(), "EC key on P-384");
        assert_eq!(certificate.signature_text(), "ECDSA with SHA-384");
        assert_eq!(certificate.unsupported_text(), None);
        assert_eq!(key_text(b"x"), "a key that cannot be read");
        assert_eq!(private_key_text(&key.serialize_der()).as_deref(), Some("EC key on P-384"));
        assert_eq!(private_key_text(b"x"), None);
    }

    #[test]
    fn a_root_on_an_unsupported_curve_is_told_as_that() {
        // A self-signed root with a key on P-521, made with openssl.
        let root = pem::parse(include_str!("../tests/fixtures/p521-root.pem")).unwrap();
        let told = crate::Root::parse(root.contents()).unwrap_err().to_string();
        assert!(told.contains("P-521") && !told.contains("self-signed"), "{told}");
    }
}
