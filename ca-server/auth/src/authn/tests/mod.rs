//! Hostile and good credentials, by the headings of the families: token, mTLS renewal, join token, agreement.

mod agreement;
mod certificates;
mod tokens;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ledger::LiveRow;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use trust::{ManualClock, Serial, Timestamp};

use super::join_token::{JoinGrant, JoinTokenRefused};
use super::jwt::{IssuerSettings, JwtVerifier, TokenIssuer};
use super::subject::IdentityRule;
use super::*;
use crate::fixture::{NOW, trust_domain};

pub(super) const ISSUER: &str = "https://issuer.example";

/// An issuer of tokens with a P-256 key.
pub(super) struct TokenMaker {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl TokenMaker {
    #[expect(clippy::disallowed_methods, reason = "a test's own key; nothing depends on its value")]
    pub(super) fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
                .unwrap();
        Self { key, random }
    }

    pub(super) fn jwk(&self, kid: &str) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": x, "y": y})
    }

    /// Signs these exact texts.
    pub(super) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let signature = self.key.sign(&self.random, message.as_bytes()).unwrap();
        format!("{message}.{}", base64url(signature.as_ref()))
    }

    /// A good token with some header members and claims replaced; `null` removes one.
    pub(super) fn token(&self, header: Value, claims: Value) -> String {
        let good_header = json!({"alg": "ES256", "kid": "k1", "typ": "JWT"});
        self.sign_text(
            &with(good_header, header).to_string(),
            &with(good_claims(), claims).to_string(),
        )
    }
}

pub(super) fn good_claims() -> Value {
    let (issued, expires) = (NOW.as_secs() - 60, NOW.as_secs() + 3600);
    json!({
        "iss": ISSUER, "aud": ["istio-ca"], "sub": "system:serviceaccount:shop:cart",
        "iat": issued, "nbf": issued, "exp": expires,
    })
}

pub(super) fn with(mut good: Value, changes: Value) -> Value {
    let (Value::Object(members), Value::Object(changes)) = (&mut good, changes) else {
        panic!("objects")
    };
    for (name, value) in changes {
        match value {
            Value::Null => members.remove(&name),
            value => members.insert(name, value),
        };
    }
    good
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// A verifier that believes [`ISSUER`], without keys yet.
pub(super) fn verifier_without_keys() -> JwtVerifier {
    let issuer = IssuerSettings {
        issuer: ISSUER.to_owned(),
        audiences: vec!["istio-ca".to_owned()],
        jwks_file: "/keys.json".into(),
        identity: IdentityRule::Kubernetes,
        token_life_max: Duration::from_secs(86_400),
    };
    JwtVerifier::new(vec![TokenIssuer::new(issuer)], trust_domain(), Duration::from_secs(60))
}

pub(super) fn verifier(keys: &[Value]) -> JwtVerifier {
    let verifier = verifier_without_keys();
    let set = json!({ "keys": keys }).to_string();
    assert!(verifier.reload(|_| Ok(set.clone().into_bytes())).is_empty());
    verifier
}

/// Rows and join tokens in memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) rows: Mutex<HashMap<Serial, LiveRow>>,
    pub(super) tokens: Mutex<HashMap<[u8; 32], Result<JoinGrant, JoinTokenRefused>>>,
    pub(super) shown: Mutex<Vec<Serial>>,
}

impl LiveRows for Memory {
    fn shown(&self, serial: &Serial) {
        self.shown.lock().unwrap().push(*serial);
    }

    fn find(&self, serial: &Serial) -> Option<LiveRow> {
        self.rows.lock().unwrap().get(serial).cloned()
    }
}

impl JoinTokens for Memory {
    fn find(&self, secret_hash: [u8; 32], _: Timestamp) -> Result<JoinGrant, JoinTokenRefused> {
        self.tokens
            .lock()
            .unwrap()
            .get(&secret_hash)
            .cloned()
            .unwrap_or(Err(JoinTokenRefused::Unknown))
    }
}

pub(super) fn authenticator(
    jwt: JwtVerifier,
    memory: &Arc<Memory>,
    clock: &Arc<ManualClock>,
) -> Authenticator {
    Authenticator::new(Arc::new(jwt), memory.clone(), memory.clone(), clock.clone(), 0)
}
