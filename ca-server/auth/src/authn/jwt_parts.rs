//! The parts of a token, and what is said of them whoever judges the signature: form, times, audience, subject.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use trust::Timestamp;

use super::{strict_json, subject};
use crate::refusal::{Reason, Refusal, echoed};

/// Largest token in bytes.
pub const TOKEN_LEN_MAX: usize = 16 * 1024;
/// Header members by which a token would bring its own key, be encrypted or compressed, or demand an extension.
const HEADERS_REFUSED: &[&str] = &["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"];

/// A token taken apart. Nothing in it is believed yet.
pub(super) struct Parts<'t> {
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
    pub(super) message: &'t [u8],
    pub(super) signature: Vec<u8>,
}

/// When a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) expires: Timestamp,
    pub(super) not_before: Option<Timestamp>,
}

/// What the claims of a token must say.
pub(super) struct Demands<'d> {
    /// Of these it must be for one.
    pub(super) audiences: &'d [String],
    /// Longest life.
    pub(super) life_max: Duration,
}

pub(super) fn malformed(text: &str) -> Refusal {
    Refusal::new(Reason::TokenMalformed, text)
}

/// Takes a token apart.
pub(super) fn split(token: &str) -> Result<Parts<'_>, Refusal> {
    if token.len() > TOKEN_LEN_MAX {
        return Err(Refusal::new(Reason::TokenTooLarge, "the token is larger than 16384 bytes"));
    }
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
pub(super) fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, Refusal> {
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

/// Whether the claims are as demanded; answers with the times in which the token is good.
pub(super) fn settled(
    claims: &Map<String, Value>,
    demands: &Demands<'_>,
) -> Result<Times, Refusal> {
    let expires = time_claim(claims, "exp")?.ok_or_else(|| {
        Refusal::new(Reason::TokenExpiryMissing, "the token has no expiry: `exp` is required")
    })?;
    let (issued_at, not_before) = (time_claim(claims, "iat")?, time_claim(claims, "nbf")?);
    // Without a beginning there is no life to bound.
    let begins = issued_at.or(not_before).ok_or_else(|| {
        let text = "the token does not say when it was issued: `iat` is required, or `nbf`";
        Refusal::new(Reason::TokenIssueTimeMissing, text)
    })?;
    if expires.since(begins) > demands.life_max {
        let text = "the token lives longer than this server allows: get one with a shorter life";
        return Err(Refusal::new(Reason::TokenLifeTooLong, text));
    }
    if !has_audience(claims, demands.audiences) {
        let expected = demands.audiences;
        let text = format!("the token is for another audience; one of {expected:?} is expected");
        return Err(Refusal::new(Reason::TokenAudienceMismatch, text));
    }
    Ok(Times { expires, not_before: not_before.max(issued_at) })
}

/// Who the token says that its bearer is.
pub(super) fn subject(claims: &Map<String, Value>) -> Result<&str, Refusal> {
    subject::text(claims, "sub").ok_or_else(no_subject)
}

pub(super) fn no_subject() -> Refusal {
    let text = "the token's claims make no identity of this trust domain";
    Refusal::new(Reason::TokenSubjectInvalid, text)
}

impl Times {
    /// That the token is good now, where the issuer's clock may be ahead of ours by `skew`.
    pub(super) fn include(&self, now: Timestamp, skew: Duration) -> Result<(), Refusal> {
        if self.expires <= now {
            let text = format!("the token expired at {}: get a new one", self.expires);
            return Err(Refusal::new(Reason::TokenExpired, text));
        }
        match self.not_before {
            Some(start) if start > now.plus(skew) => {
                let text = format!("the token is not valid before {start}: check the clocks");
                Err(Refusal::new(Reason::TokenNotYetValid, text))
            }
            _ => Ok(()),
        }
    }
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
