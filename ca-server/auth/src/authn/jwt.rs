//! JSON Web Tokens of configured issuers (RFC 7519), judged offline.
//!
//! The algorithm is chosen by the type of the issuer's key, never by the token. A token that was verified once is
//! remembered by its SHA-256 until it expires or its issuer's keys change.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use trust::digest::sha256;
use trust::{Timestamp, TrustDomain};

pub use super::claims::{BoundPod, TokenClaims};
use super::jwks::{KeySet, KeySetCell, KeySetFault, KeySetRefused};
pub use super::jwt_parts::TOKEN_LEN_MAX;
use super::jwt_parts::{Demands, Parts, Times, algorithm, malformed, no_subject, settled, split};
use super::subject::{self, IdentityRule};
use super::{jwt_parts, jwt_ring};
use crate::bounded_cache::BoundedCache;
use crate::refusal::{Reason, Refusal, echoed};

/// Verified tokens that are remembered.
const CACHE_ENTRIES: usize = 16 * 1024;
/// Keys that are tried for one token without a key id, so that a token cannot buy much arithmetic.
pub(super) const KEYS_TRIED_MAX: usize = 4;
/// Judges tokens.
#[derive(Debug)]
pub struct JwtVerifier {
    issuers: Vec<TokenIssuer>,
    trust_domain: TrustDomain,
    /// How far an issuer's clock may be ahead of ours (`nbf`, `iat`).
    skew: Duration,
    verified: BoundedCache<[u8; 32], Remembered>,
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

/// What is configured of a cluster whose key set is fetched.
#[derive(Debug, Clone)]
pub struct ClusterIssuer {
    /// Its name in the configuration.
    pub cluster: String,
    /// Exact value of the claim `iss`.
    pub issuer: String,
    /// Values of the claim `aud` of which a token must carry one.
    pub audiences: Vec<String>,
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
    keys: KeySetCell,
    cluster: Option<String>,
}

#[derive(Debug, Clone)]
struct Remembered {
    claims: TokenClaims,
    times: Times,
    issuer: usize,
    keys: [u8; 32],
}

impl TokenIssuer {
    /// An issuer as configured.
    pub fn new(settings: IssuerSettings) -> Self {
        let IssuerSettings { issuer, audiences, jwks_file, identity, token_life_max } = settings;
        let keys = KeySetCell::of_file(&jwks_file);
        Self { issuer, audiences, identity, token_life_max, keys, cluster: None }
    }

    /// A cluster whose keys somebody fetches, see [`JwtVerifier::take_fetched`].
    pub fn of_cluster(settings: ClusterIssuer) -> Self {
        let ClusterIssuer { cluster, issuer, audiences, token_life_max } = settings;
        let (keys, identity) = (KeySetCell::fetched(), IdentityRule::Kubernetes);
        Self { issuer, audiences, identity, token_life_max, keys, cluster: Some(cluster) }
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
            let Some(path) = issuer.keys.path() else { continue };
            match issuer.keys.take_file(&issuer.issuer, read(path)) {
                Ok(true) => tracing::info!(issuer = issuer.issuer, "token issuer's key set taken"),
                Ok(false) => {}
                Err(error) => refused.push(error),
            }
        }
        refused
    }

    /// Takes a key set that was fetched, for every issuer whose keys are; says whether the keys changed.
    ///
    /// # Errors
    /// What is wrong with it; the last good one stays in force.
    pub fn take_fetched(&self, bytes: &[u8]) -> Result<bool, KeySetFault> {
        let mut changed = false;
        for issuer in self.issuers.iter().filter(|issuer| issuer.keys.path().is_none()) {
            changed |= issuer.keys.take(bytes)?;
        }
        Ok(changed)
    }

    /// Has no fetched keys any more: those that there were are too old to be believed.
    pub fn forget_fetched(&self) {
        for issuer in self.issuers.iter().filter(|issuer| issuer.keys.path().is_none()) {
            issuer.keys.forget();
        }
    }

    /// Whether tokens of this issuer are judged here.
    pub fn knows(&self, issuer: &str) -> bool {
        self.issuers.iter().any(|known| known.issuer == issuer)
    }

    /// Judges a token.
    ///
    /// # Errors
    /// A refusal of the token family, or `KEY_SET_UNAVAILABLE` while no key set of its issuer was ever read.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<TokenClaims, Refusal> {
        if token.len() > TOKEN_LEN_MAX {
            // Not even its digest is made.
            return split(token).and(Err(malformed("the token is too large")));
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
        judged.times.include(now, self.skew)?;
        Ok(judged.claims)
    }

    fn is_of_present_keys(&self, found: &Remembered) -> bool {
        let keys = self.issuers.get(found.issuer).and_then(|issuer| issuer.keys.present());
        keys.is_some_and(|keys| keys.digest() == found.keys)
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
        let demands = Demands { audiences: &issuer.audiences, life_max: issuer.token_life_max };
        let times = settled(&parts.claims, &demands)?;
        let subject = jwt_parts::subject(&parts.claims)?;
        let identity = subject::identity(&issuer.identity, &parts.claims, &self.trust_domain);
        Ok(Remembered {
            claims: TokenClaims {
                identity: identity.ok_or_else(no_subject)?,
                issuer: issuer.issuer.clone(),
                subject: subject.to_owned(),
                pod: subject::pod(&issuer.identity, &parts.claims),
                cluster: issuer.cluster.clone(),
            },
            times,
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

/// The key that the token names, if it names one.
pub(super) fn key_id<'p>(parts: &'p Parts<'_>) -> Result<Option<&'p str>, Refusal> {
    match parts.header.get("kid") {
        None => Ok(None),
        Some(Value::String(id)) => Ok(Some(id.as_str())),
        Some(_) => Err(malformed("the token's key id is not a text")),
    }
}

fn verify_signature(parts: &Parts<'_>, algorithm: Algorithm, keys: &KeySet) -> Result<(), Refusal> {
    let id = key_id(parts)?;
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
