//! One private key from a file, as a key backend that can make no other.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use plugins::{
    Health, KeyBackend, KeyBackendDescription, KeyError, KeyHandle, KeyId, KeySpec, RequestId,
};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use trust::described::{TAKEN, private_key_text};
use trust::{KeyKind, PublicKey, SignatureAlgorithm};
use zeroize::Zeroizing;

/// How a key of the old form says that it is encrypted.
const ENCRYPTED: &[u8] = b"Proc-Type: 4,ENCRYPTED";

fn encrypted(how: &str) -> String {
    format!(
        "the private key is encrypted ({how}), and there is no passphrase for it here; write it decrypted (openssl pkey -in \
         FILE -out NEW) into a file that only this server may read, or keep the key in a token (docs/plugins/pkcs11.md)"
    )
}

/// A key that signs. Its `Debug` shows the public half only.
pub(crate) struct FileKey {
    key: Arc<dyn SigningKey>,
    public: PublicKey,
    id: KeyId,
}

impl FileKey {
    /// Reads PKCS#8, PKCS#1 or SEC 1 in PEM.
    pub(crate) fn parse(pem: &[u8]) -> Result<Self, String> {
        // What follows would say of it that it is no key.
        if pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
            return Err(encrypted("Proc-Type: 4,ENCRYPTED"));
        }
        let blocks = pem::parse_many(pem).map_err(|error| format!("is not PEM ({error})"))?;
        let block = blocks
            .into_iter()
            .find(|block| block.tag().ends_with("PRIVATE KEY"))
            .ok_or("holds no private key in PEM")?;
        let form = block.tag().to_owned();
        let der = Zeroizing::new(block.into_contents());
        let typed = match form.as_str() {
            "PRIVATE KEY" => PrivateKeyDer::Pkcs8(der.as_slice().into()),
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.as_slice().into()),
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.as_slice().into()),
            other if other.contains("ENCRYPTED") => return Err(encrypted(other)),
            other => {
                return Err(format!(
                    "holds a \"{other}\"; write PKCS#8, PKCS#1 or SEC 1 (openssl pkey)"
                ));
            }
        };
        let key = any_supported_type(&typed).map_err(|error| {
            let kind = private_key_text(&der)
                .map_or_else(|| error.to_string(), |kind| format!("it is an {kind}"));
            format!("holds no key that is taken here: {kind}; use a CA with {TAKEN}")
        })?;
        let spki = key.public_key().ok_or("holds a key without a public half")?;
        let public =
            PublicKey::parse(&spki).map_err(|error| format!("holds an unfit key: {error}"))?;
        let id = KeyId::parse("in-file").map_err(|error| error.to_string())?;
        Ok(Self { key, public, id })
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn id(&self) -> &KeyId {
        &self.id
    }

    fn known(&self, id: &KeyId) -> Result<(), KeyError> {
        if *id == self.id { Ok(()) } else { Err(KeyError::NotFound { id: id.clone() }) }
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKey").field("public", &self.public).finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyBackend for FileKey {
    fn describe(&self) -> KeyBackendDescription {
        KeyBackendDescription::new("file", env!("CARGO_PKG_VERSION"), &[])
    }

    async fn generate(&self, _: &RequestId, _: KeySpec) -> Result<KeyHandle, KeyError> {
        Err(KeyError::Denied { reason: "this key came from a file; no other is made".to_owned() })
    }

    async fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        self.known(id).map(|()| self.public.clone())
    }

    async fn sign(
        &self,
        id: &KeyId,
        message: &[u8],
        algorithm: SignatureAlgorithm,
    ) -> Result<Vec<u8>, KeyError> {
        self.known(id)?;
        let unsupported = || KeyError::Unsupported {
            detail: format!("the key in the file does not sign {algorithm:?}"),
        };
        let scheme = match (algorithm, self.public.kind()) {
            (SignatureAlgorithm::EcdsaP256Sha256, KeyKind::P256) => {
                SignatureScheme::ECDSA_NISTP256_SHA256
            }
            (SignatureAlgorithm::EcdsaP384Sha384, KeyKind::P384) => {
                SignatureScheme::ECDSA_NISTP384_SHA384
            }
            (SignatureAlgorithm::Ed25519, KeyKind::Ed25519) => SignatureScheme::ED25519,
            (SignatureAlgorithm::RsaPkcs1Sha256, KeyKind::Rsa { .. }) => {
                SignatureScheme::RSA_PKCS1_SHA256
            }
            _ => return Err(unsupported()),
        };
        let signer = self.key.choose_scheme(&[scheme]).ok_or_else(unsupported)?;
        signer.sign(message).map_err(|error| KeyError::Permanent { detail: error.to_string() })
    }

    async fn list(&self) -> Result<Vec<KeyHandle>, KeyError> {
        Ok(vec![KeyHandle::new(self.id.clone(), self.public.clone())])
    }

    async fn destroy(&self, _: &KeyId) -> Result<(), KeyError> {
        Err(KeyError::Denied { reason: "whoever wrote the file removes it".to_owned() })
    }

    async fn check(&self) -> Health {
        Health::ok()
    }
}
