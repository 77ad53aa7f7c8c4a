//! Private keys: P-256, made here, wiped when dropped, shown to nobody but their owner.

use std::fmt;

use pem::Pem;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use trust::{SpiffeId, SpkiHash};
use zeroize::{Zeroize as _, Zeroizing};

const PEM_LABEL: &str = "PRIVATE KEY";

/// A P-256 private key in PKCS#8. No `Clone`, no `Serialize`; `Debug` shows the public half's fingerprint.
pub(crate) struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    spki: SpkiHash,
}

/// A key that cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
#[error("private key: {0}")]
pub(crate) struct KeyError(String);

impl PrivateKey {
    /// Makes a new key from the operating system's generator.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self::take).map_err(said)
    }

    /// Reads a PKCS#8 PEM block.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let block = pem::parse(text).map_err(said)?;
        if block.tag() != PEM_LABEL {
            return Err(KeyError(format!("the PEM block is `{}`, not `{PEM_LABEL}`", block.tag())));
        }
        let der = Zeroizing::new(block.into_contents());
        let key = PrivatePkcs8KeyDer::from(der.as_slice());
        KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
            .map(Self::take)
            .map_err(said)
    }

    /// The PKCS#8 PEM text.
    pub(crate) fn pem(&self) -> Zeroizing<String> {
        let block = Pem::new(PEM_LABEL, self.pkcs8.to_vec());
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let text = Zeroizing::new(pem::encode_config(&block, config));
        block.into_contents().zeroize();
        text
    }

    /// The form that rustls takes.
    pub(crate) fn rustls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }

    /// Fingerprint of the public half.
    pub(crate) fn spki(&self) -> SpkiHash {
        self.spki
    }

    /// A PKCS#10 request in DER with empty subject and, if given, one URI name.
    pub(crate) fn request(&self, identity: Option<&SpiffeId>) -> Result<Vec<u8>, KeyError> {
        let key = PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        let mut pair =
            KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).map_err(said)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(identity) = identity {
            params.subject_alt_names =
                vec![SanType::URI(identity.as_str().try_into().map_err(said)?)];
        }
        let request = params.serialize_request(&pair).map_err(said);
        pair.zeroize();
        Ok(request?.der().to_vec())
    }

    /// A certificate of this key in PEM that no bundle has: it names nobody, and nobody believes it.
    pub(crate) fn certificate_of_nobody(&self) -> Result<String, KeyError> {
        let key = PrivatePkcs8KeyDer::from(self.pkcs8.as_slice());
        let mut pair =
            KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).map_err(said)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "revoked");
        let certificate = params.self_signed(&pair).map_err(said);
        pair.zeroize();
        let block = Pem::new("CERTIFICATE", certificate?.der().to_vec());
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        Ok(pem::encode_config(&block, config))
    }

    fn take(mut pair: KeyPair) -> Self {
        let spki = SpkiHash::of(&rcgen::PublicKeyData::subject_public_key_info(&pair));
        let key = Self { pkcs8: Zeroizing::new(pair.serialize_der()), spki };
        pair.zeroize();
        key
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.spki.short())
    }
}

fn said(error: impl fmt::Display) -> KeyError {
    KeyError(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_pem_form_and_shows_itself_to_nobody() {
        let key = PrivateKey::generate().unwrap();
        let again = PrivateKey::from_pem(key.pem().as_bytes()).unwrap();
        assert_eq!(again.spki(), key.spki());
        assert_eq!(format!("{key:?}"), format!("PrivateKey(of {})", key.spki().short()));
    }

    #[test]
    fn other_blocks_and_broken_ones_are_refused() {
        let text = PrivateKey::generate().unwrap().pem();
        assert!(PrivateKey::from_pem(text.replace("PRIVATE", "PUBLIC").as_bytes()).is_err());
        assert!(PrivateKey::from_pem(&text.as_bytes()[..text.len() / 2]).is_err());
        assert!(PrivateKey::from_pem(b"").is_err());
    }

    #[test]
    fn a_request_has_the_key_and_exactly_one_name() {
        let key = PrivateKey::generate().unwrap();
        let id = SpiffeId::parse("spiffe://example.org/a").unwrap();
        let der = key.request(Some(&id)).unwrap();
        let holds = |needle: &[u8]| der.windows(needle.len()).any(|window| window == needle);
        assert!(holds(id.as_str().as_bytes()));
    }
}
