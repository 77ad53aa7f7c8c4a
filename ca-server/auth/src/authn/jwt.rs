//! JSON Web Tokens of configured issuers (RFC 7519), judged offline.
//!
//! The algorithm is chosen by the type of the issuer's key, never by the token. A token that was verified once is
//! remembered by its SHA-256 until it expires or its issuer's keys change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use trust::digest::sha256;
use trust::{SpiffeId, Timestamp, TrustDomain};

use super::jwks::{KeySet, KeySetFile, KeySetRefused};
use super::subject::{self, IdentityRule};
use super::{jwt_ring, strict_json};
use crate::bounded_cache::BoundedCache;
use crate::refusal::{Reason, Refusal, echoed};

/// Largest token in bytes.
pub const TOKEN_LEN_MAX: usize = 16 * 1024;
/// Verified tokens that are remembered.
const CACHE_ENTRIES: usize = 16 * 1024;
/// Keys that are tried for one token without a key id, so that a token cannot buy much arithmetic.
const KEYS_TRIED_MAX: usize = 4;
/// Header members by which a token would bring its own key, be encrypted or compressed, or demand an extension.
const HEADERS_REFUSED: &[&str] = &["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"];

/// Judges tokens.
#[derive(Debug)]
pub struct JwtVerifier {
    issuers: Vec<TokenIssuer>,
    trust_domain: TrustDomain,
    /// How far an issuer's clock may be ahead of ours (`nbf`, `iat`).
    skew: Duration,
    verified: BoundedCache<[u8; 32], Remembered>,
}

/// What a token that verified says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// The identity of its subject.
    pub identity: SpiffeId,
    /// Its issuer.
    pub issuer: String,
    /// Its subject as the issuer names it.
    pub subject: String,
    /// The pod that a Kubernetes token is bound to.
    pub pod: Option<String>,
}

impl TokenClaims {
    /// Whose token it is, as far as it tells: what bounds count by.
    pub fn caller(&self) -> String {
        let pod = self.pod.as_ref().map(|pod| format!(", pod {pod}")).unwrap_or_default();
        format!("{} of {}{pod}", self.subject, self.issuer)
    }
}

/// What is configured of an issuer.
#[derive(Debug, Clone)]
pub struct IssuerSettings {
    /// Exact value of the claim `iss`.
    pub issuer: String,
    /// Values of the claim `aud` of which a token must carry one.
    pub audiences: Vec<String>,
    /// File with the issuer's JSON Web Key Set.
    pub jwks_file: PathBuf,
    /// How a token becomes an identity.
    pub identity: IdentityRule,
    /// Longest life, from `iat` to `exp`, of a token that is accepted.
    pub token_life_max: Duration,
}

/// One believed issuer.
#[derive(Debug)]
pub struct TokenIssuer {
    issuer: String,
    audiences: Vec<String>,
    identity: IdentityRule,
    token_life_max: Duration,
    keys: KeySetFile,
}

#[derive(Debug, Clone)]
struct Remembered {
    claims: TokenClaims,
    expires: Timestamp,
    not_before: Option<Timestamp>,
    issuer: usize,
    keys: [u8; 32],
}

struct Parts<'t> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    message: &'t [u8],
    signature: Vec<u8>,
}

impl TokenIssuer {
    /// An issuer as configured.
    pub fn new(settings: IssuerSettings) -> Self {
        let IssuerSettings { issuer, audiences, jwks_file, identity, token_life_max } = settings;
        Self { issuer, audiences, identity, token_life_max, keys: KeySetFile::new(&jwks_file) }
    }
}

impl JwtVerifier {
    /// Believes these issuers; no key set is read yet, see [`Self::reload`].
    pub fn new(issuers: Vec<TokenIssuer>, trust_domain: TrustDomain, skew: Duration) -> Self {
        Self { issuers, trust_domain, skew, verified: BoundedCache::new(CACHE_ENTRIES) }
    }

    /// Reads every key set file again with `read`, which may block; call it at the start and every few seconds.
    /// Returns the files that were not taken; their issuers go on with their last good keys.
    pub fn reload(&self, read: impl Fn(&Path) -> std::io::Result<Vec<u8>>) -> Vec<KeySetRefused> {
        let mut refused = Vec::new();
        for issuer in &self.issuers {
            match issuer.keys.take(&issuer.issuer, read(issuer.keys.path())) {
                Ok(true) => tracing::info!(issuer = issuer.issuer, "token issuer's key set taken"),
                Ok(false) => {}
                Err(error) => refused.push(error),
            }
        }
        refused
    }

    /// Judges a token.
    ///
    /// # Errors
    /// A refusal of the token family, or `KEY_SET_UNAVAILABLE` while no key set of its issuer was ever read.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<TokenClaims, Refusal> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(Refusal::new(
                Reason::TokenTooLarge,
                "the token is larger than 16384 bytes",
            ));
        }
        let name = sha256(token.as_bytes());
        let found = self.verified.find(name).filter(|found| self.is_of_present_keys(found));
        let judged = match found {
            Some(found) => found,
            None => {
                let judged = self.judge(token)?;
                self.verified.insert(name, judged.clone());
                judged
            }
        };
        self.in_time(&judged, now)?;
        Ok(judged.claims)
    }

    fn is_of_present_keys(&self, found: &Remembered) -> bool {
        let keys = self.issuers.get(found.issuer).and_then(|issuer| issuer.keys.present());
        keys.is_some_and(|keys| keys.digest() == found.keys)
    }

    fn in_time(&self, token: &Remembered, now: Timestamp) -> Result<(), Refusal> {
        if token.expires <= now {
            let text = format!("the token expired at {}: get a new one", token.expires);
            return Err(Refusal::new(Reason::TokenExpired, text));
        }
        match token.not_before {
            Some(start) if start > now.plus(self.skew) => {
                let text = format!("the token is not valid before {start}: check the clocks");
                Err(Refusal::new(Reason::TokenNotYetValid, text))
            }
            _ => Ok(()),
        }
    }

    /// Everything about a token that time does not change.
    fn judge(&self, token: &str) -> Result<Remembered, Refusal> {
        let parts = split(token)?;
        let algorithm = algorithm(&parts.header)?;
        let (index, issuer) = self.issuer_of(&parts.claims)?;
        let keys = issuer.keys.present().ok_or_else(|| {
            Refusal::new(
                Reason::KeySetUnavailable,
                "the issuer's key set could not be read yet: retry",
            )
        })?;
        verify_signature(&parts, algorithm, &keys)?;
        let expires = time_claim(&parts.claims, "exp")?.ok_or_else(|| {
            Refusal::new(Reason::TokenExpiryMissing, "the token has no expiry: `exp` is required")
        })?;
        let (issued_at, not_before) =
            (time_claim(&parts.claims, "iat")?, time_claim(&parts.claims, "nbf")?);
        // Without a beginning there is no life to bound.
        let begins = issued_at.or(not_before).ok_or_else(|| {
            let text = "the token does not say when it was issued: `iat` is required, or `nbf`";
            Refusal::new(Reason::TokenIssueTimeMissing, text)
        })?;
        if expires.since(begins) > issuer.token_life_max {
            let text =
                "the token lives longer than this server allows: get one with a shorter life";
            return Err(Refusal::new(Reason::TokenLifeTooLong, text));
        }
        if !has_audience(&parts.claims, &issuer.audiences) {
            let text = format!(
                "the token is for another audience; one of {:?} is expected",
                issuer.audiences
            );
            return Err(Refusal::new(Reason::TokenAudienceMismatch, text));
        }
        let no_subject = || {
            let text = "the token's claims make no identity of this trust domain";
            Refusal::new(Reason::TokenSubjectInvalid, text)
        };
        let subject = subject::text(&parts.claims, "sub").ok_or_else(no_subject)?;
        let identity = subject::identity(&issuer.identity, &parts.claims, &self.trust_domain);
        Ok(Remembered {
            claims: TokenClaims {
                identity: identity.ok_or_else(no_subject)?,
                issuer: issuer.issuer.clone(),
                subject: subject.to_owned(),
                pod: subject::pod(&issuer.identity, &parts.claims),
            },
            expires,
            not_before: not_before.max(issued_at),
            issuer: index,
            keys: keys.digest(),
        })
    }

    fn issuer_of(&self, claims: &Map<String, Value>) -> Result<(usize, &TokenIssuer), Refusal> {
        let named = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        let found = self.issuers.iter().enumerate().find(|(_, issuer)| issuer.issuer == named);
        found.ok_or_else(|| {
            let text = format!("the token's issuer \"{}\" is not configured here", echoed(named));
            Refusal::new(Reason::TokenIssuerUnknown, text)
        })
    }
}

fn malformed(text: &str) -> Refusal {
    Refusal::new(Reason::TokenMalformed, text)
}

fn split(token: &str) -> Result<Parts<'_>, Refusal> {
    // At most four pieces are ever looked at, however many dots there are.
    let mut pieces = token.splitn(4, '.');
    let (Some(header), Some(claims), Some(signature), None) =
        (pieces.next(), pieces.next(), pieces.next(), pieces.next())
    else {
        return Err(malformed("the token does not have three parts"));
    };
    let decode = |piece: &str| URL_SAFE_NO_PAD.decode(piece).ok();
    let object = |piece: &str| decode(piece).and_then(|bytes| strict_json::object(&bytes));
    let not_json =
        || malformed("the token's header or claims are not a JSON object without duplicates");
    let message = token.get(..header.len() + 1 + claims.len()).unwrap_or_default();
    Ok(Parts {
        header: object(header).ok_or_else(not_json)?,
        claims: object(claims).ok_or_else(not_json)?,
        message: message.as_bytes(),
        signature: decode(signature)
            .ok_or_else(|| malformed("the token's signature is not base64url"))?,
    })
}

/// The token's algorithm, if it is one of public keys; whether it fits the key is decided with the key.
fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, Refusal> {
    if let Some(name) = HEADERS_REFUSED.iter().find(|name| header.contains_key(**name)) {
        let text = format!("the token's header has `{name}`, which is not taken");
        return Err(Refusal::new(Reason::TokenHeaderRefused, text));
    }
    let named = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    match named.parse() {
        Ok(Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) | Err(_) => {
            let text = format!("the token's algorithm \"{}\" is not taken", echoed(named));
            Err(Refusal::new(Reason::TokenAlgorithmRefused, text))
        }
        Ok(algorithm) => Ok(algorithm),
    }
}

fn verify_signature(parts: &Parts<'_>, algorithm: Algorithm, keys: &KeySet) -> Result<(), Refusal> {
    let id = match parts.header.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(id.as_str()),
        Some(_) => return Err(malformed("the token's key id is not a text")),
    };
    let mut candidates = keys.candidates(algorithm, id).take(KEYS_TRIED_MAX).peekable();
    if candidates.peek().is_none() {
        let text = "no key of the issuer fits the token's key id and algorithm";
        return Err(Refusal::new(Reason::TokenKeyUnknown, text));
    }
    let verifies = |key| jwt_ring::verifies(algorithm, key, parts.message, &parts.signature);
    if candidates.any(verifies) {
        return Ok(());
    }
    Err(Refusal::new(Reason::TokenSignatureInvalid, "the token's signature does not verify"))
}

/// A NumericDate (RFC 7519 §2); fractions of a second are dropped.
fn time_claim(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let whole = value.as_i64().or_else(|| value.as_f64().and_then(whole_seconds));
    match whole {
        Some(secs) if (0..=Timestamp::MAX.as_secs()).contains(&secs) => {
            Ok(Some(Timestamp::from_secs(secs)))
        }
        _ => Err(malformed("a time in the token is not a number of seconds")),
    }
}

fn whole_seconds(value: f64) -> Option<i64> {
    // Through text, since there is no checked conversion from a float: 1800000000.5 gives "1800000000".
    let text = format!("{:.0}", value.trunc());
    text.parse().ok()
}

fn has_audience(claims: &Map<String, Value>, expected: &[String]) -> bool {
    let matches =
        |value: &Value| value.as_str().is_some_and(|found| expected.iter().any(|one| one == found));
    match claims.get("aud") {
        Some(Value::Array(audiences)) => audiences.iter().any(matches),
        Some(audience) => matches(audience),
        None => false,
    }
}
