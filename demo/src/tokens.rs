//! Service-account tokens for the benchmark and the demo: an issuer of its own, whose key set the server reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::anyhow;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use trust::Clock;

/// Issuer of the tokens.
pub const ISSUER: &str = "https://bench.invalid";
/// Audience that the server expects.
pub const AUDIENCE: &str = "istio-ca";
/// Tokens that are signed ahead for each second of a row that shows each one once: more than two cores can use.
const FRESH_PER_SECOND: u64 = 12_000;
/// Tokens that are used again and again elsewhere.
const REPEATED: u64 = 64;

/// Signs tokens.
#[derive(Debug)]
pub struct TokenSource {
    key: EcdsaKeyPair,
    randomness: SystemRandom,
    expires: i64,
}

/// Hands out tokens to the clients.
#[derive(Debug, Clone)]
pub struct Supply {
    source: Arc<Tokens>,
}

#[derive(Debug)]
struct Tokens {
    tokens: Vec<String>,
    next: AtomicUsize,
    fresh: bool,
}

impl TokenSource {
    /// Makes a P-256 key of an issuer.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn new() -> anyhow::Result<Self> {
        let randomness = system_randomness();
        let refused = |_| anyhow!("cannot make a key for tokens");
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &randomness)
            .map_err(refused)?;
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            document.as_ref(),
            &randomness,
        )
        .map_err(|error| anyhow!("a fresh key is refused: {error}"))?;
        Ok(Self { key, randomness, expires: host::SystemClock.now().as_secs() + 7_200 })
    }

    /// The key set in the form of RFC 7517.
    pub fn jwks(&self) -> String {
        let point = self.key.public_key().as_ref();
        // An uncompressed point: one byte 0x04, then two coordinates of 32 bytes.
        let coordinate =
            |from: usize| BASE64URL.encode(point.get(from..from + 32).unwrap_or_default());
        serde_json::json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "bench",
            "x": coordinate(1), "y": coordinate(33),
        }]})
        .to_string()
    }

    /// Tokens for one row of this many seconds: a few that are used again and again, or more than it can use, each once.
    ///
    /// # Errors
    /// If a token cannot be signed.
    pub fn supply(&self, fresh: bool, seconds: u64) -> anyhow::Result<Supply> {
        let count = if fresh { (seconds + 1) * FRESH_PER_SECOND } else { REPEATED };
        let tokens =
            (0..count).map(|number| self.token(number, fresh)).collect::<Result<_, _>>()?;
        Ok(Supply { source: Arc::new(Tokens { tokens, next: AtomicUsize::new(0), fresh }) })
    }

    /// The token of a service account.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn service_account(&self, namespace: &str, name: &str) -> anyhow::Result<String> {
        self.signed(&format!("system:serviceaccount:{namespace}:{name}"), name)
    }

    fn token(&self, number: u64, fresh: bool) -> anyhow::Result<String> {
        let subject = format!("system:serviceaccount:bench:w{}", number % REPEATED);
        self.signed(&subject, &format!("{fresh}-{number}"))
    }

    fn signed(&self, subject: &str, id: &str) -> anyhow::Result<String> {
        let header = BASE64URL.encode(r#"{"alg":"ES256","kid":"bench","typ":"JWT"}"#);
        let now = self.expires - 7_200;
        let claims = serde_json::json!({
            "iss": ISSUER,
            "aud": [AUDIENCE],
            "sub": subject,
            "jti": id,
            "iat": now,
            "nbf": now,
            "exp": self.expires,
        });
        let message = format!("{header}.{}", BASE64URL.encode(claims.to_string()));
        let signature = self
            .key
            .sign(&self.randomness, message.as_bytes())
            .map_err(|_| anyhow!("cannot sign a token"))?;
        Ok(format!("{message}.{}", BASE64URL.encode(signature)))
    }
}

impl Supply {
    /// The next token; `None` when each was used once.
    pub fn next(&self) -> Option<&str> {
        let turn = self.source.next.fetch_add(1, Ordering::Relaxed);
        let tokens = &self.source.tokens;
        let place = if self.source.fresh { turn } else { turn % tokens.len().max(1) };
        tokens.get(place).map(String::as_str)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "ring signs with its own source only; these keys live for one run"
)]
fn system_randomness() -> SystemRandom {
    SystemRandom::new()
}
