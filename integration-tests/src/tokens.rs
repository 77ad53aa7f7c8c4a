//! An issuer of JSON Web Tokens, as a cluster is one; honest or not.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use host::SystemClock;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Map, Value, json};
use trust::Clock;

/// Seconds that a good token lives.
const LIFE_SECS: i64 = 3_600;
/// The key's id in the key set.
const KEY_ID: &str = "k1";

/// An issuer with one P-256 key. Its good tokens are for the audience `istio-ca`.
#[derive(Debug)]
pub struct TokenIssuer {
    name: String,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl TokenIssuer {
    /// The section of the configuration that believes [`of_mesh`](Self::of_mesh).
    pub const SECTION: &str = "[[jwt]]\nissuer = \"https://issuer.test\"\njwks_file = \"keys.json\"\nidentity = \"kubernetes\"\n";
    /// The file that the section names.
    pub const KEY_SET_FILE: &str = "keys.json";

    /// The issuer of [`SECTION`](Self::SECTION), with a new key.
    pub fn of_mesh() -> Self {
        Self::new("https://issuer.test")
    }

    /// A good token of a service account, by the clock of this machine.
    pub fn of_account(&self, namespace: &str, account: &str) -> String {
        self.token(&format!("spiffe://example.org/ns/{namespace}/sa/{account}"), &SystemClock)
    }

    /// An issuer with a new key.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn new(name: &str) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a key for one test; nothing depends on its value"
        )]
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self { name: name.to_owned(), key, random }
    }

    /// The value of `iss`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The uncompressed point of the public key: what everybody knows.
    pub fn public_point(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// The public key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let (x, y) = self.public_point()[1..].split_at(32);
        let (x, y) = (base64url(x), base64url(y));
        json!({"kty": "EC", "crv": "P-256", "kid": KEY_ID, "alg": "ES256", "use": "sig", "x": x, "y": y})
    }

    /// The key set, as it lies in the CA's `jwks_file`.
    pub fn key_set(&self) -> String {
        json!({ "keys": [self.jwk()] }).to_string()
    }

    /// The header of a good token.
    pub fn header(&self) -> Map<String, Value> {
        object(json!({"alg": "ES256", "kid": KEY_ID, "typ": "JWT"}))
    }

    /// The claims of a good token for a workload `spiffe://<domain>/ns/<namespace>/sa/<account>`.
    ///
    /// # Panics
    /// When the identity is not of this form.
    pub fn claims(&self, identity: &str, clock: &dyn Clock) -> Map<String, Value> {
        let mut segments = identity.split('/').skip(4).step_by(2);
        let (namespace, account) = (segments.next().unwrap(), segments.next().unwrap());
        let now = clock.now().as_secs();
        object(json!({
            "iss": self.name,
            "aud": ["istio-ca"],
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "iat": now,
            "nbf": now,
            "exp": now + LIFE_SECS,
        }))
    }

    /// A good token.
    pub fn token(&self, identity: &str, clock: &dyn Clock) -> String {
        self.sign(&self.header(), &self.claims(identity, clock))
    }

    /// A token of these parts.
    pub fn sign(&self, header: &Map<String, Value>, claims: &Map<String, Value>) -> String {
        let text = |part: &Map<String, Value>| serde_json::to_string(part).unwrap();
        self.sign_text(&text(header), &text(claims))
    }

    /// A token of these exact texts, signed with the key whatever they say.
    ///
    /// # Panics
    /// When the machine has no randomness.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = unsigned(header, claims);
        let signature = self.key.sign(&self.random, message.as_bytes()).unwrap();
        format!("{message}.{}", base64url(signature.as_ref()))
    }
}

/// Header and claims without a signature and the dot in front of it.
pub fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()))
}

/// Base64url without padding (RFC 7515 §2).
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("not an object: {other}"),
    }
}
