//! An issuer of JWTs, as a cluster is one.

use anyhow::anyhow;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use host::SystemClock;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use trust::Clock as _;

/// The section of `banyan.toml` that believes this issuer, with its key set in `keys.json`.
const SECTION: &str =
    "[[jwt]]\nissuer = \"https://issuer.test\"\njwks_file = \"keys.json\"\nidentity = \"kubernetes\"\n";

/// One P-256 key, and tokens of service accounts signed with it.
#[derive(Debug)]
pub struct TokenIssuer {
    signer: EcdsaKeyPair,
    point: Vec<u8>,
    random: SystemRandom,
}

impl TokenIssuer {
    /// The section of the configuration that believes it.
    pub const SECTION: &str = SECTION;
    /// The file that the section names.
    pub const KEY_SET_FILE: &str = "keys.json";

    /// Makes a key.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn new() -> anyhow::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "signatures of a test's tokens need no replay")]
        let random = SystemRandom::new();
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let signer = EcdsaKeyPair::from_pkcs8(algorithm, &pair.serialize_der(), &random)
            .map_err(|error| anyhow!("{error}"))?;
        Ok(Self { signer, point: pair.der_bytes().to_vec(), random })
    }

    /// The JSON Web Key Set.
    pub fn key_set(&self) -> String {
        let half = |from: usize| {
            let coordinate: Vec<u8> = self.point.iter().skip(from).take(32).copied().collect();
            URL_SAFE_NO_PAD.encode(coordinate)
        };
        let (x, y) = (half(1), half(33));
        format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k1","alg":"ES256","use":"sig","x":"{x}","y":"{y}"}}]}}"#
        )
    }

    /// A token of a service account, good for ten minutes.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn token(&self, namespace: &str, account: &str) -> anyhow::Result<String> {
        let now = SystemClock.now().as_secs();
        let (iat, exp) = (now - 10, now + 600);
        let claims = format!(
            r#"{{"iss":"https://issuer.test","aud":["istio-ca"],"sub":"system:serviceaccount:{namespace}:{account}","iat":{iat},"exp":{exp}}}"#
        );
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#);
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature =
            self.signer.sign(&self.random, message.as_bytes()).map_err(|error| anyhow!("{error}"))?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
