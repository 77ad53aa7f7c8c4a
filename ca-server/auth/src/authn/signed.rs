//! Whether a token was signed with a key that is known, for whoever leaves everything else to the cluster: then a forgery is found
//! without asking it.
//!
//! What is not proven here is no verdict: a cluster may sign with keys that it publishes late, or never.

use super::jwks::{KeySetCell, KeySetFault};
use super::jwt::{KEYS_TRIED_MAX, key_id};
use super::jwt_parts::{algorithm, split};
use super::jwt_ring;
use crate::refusal::{Reason, Refusal};

/// The keys of one cluster that are known now.
#[derive(Debug)]
pub struct KnownKeys(KeySetCell);

/// What they say of a token's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// One of them made it.
    ByKnown,
    /// It names one of them, and that one did not make it.
    Forged,
    /// It names none of them, or not which.
    ByUnknown,
    /// None is known.
    Unjudged,
}

impl Default for KnownKeys {
    fn default() -> Self {
        Self(KeySetCell::fetched())
    }
}

impl KnownKeys {
    /// Takes a key set that was fetched.
    ///
    /// # Errors
    /// What is wrong with it; the last good one stays.
    pub fn take(&self, bytes: &[u8]) -> Result<(), KeySetFault> {
        self.0.take(bytes).map(drop)
    }

    /// Knows none any more: those that there were are too old.
    pub fn forget(&self) {
        self.0.forget();
    }

    /// What they say of a token.
    pub fn judge(&self, token: &str) -> Signed {
        let Some(keys) = self.0.present() else { return Signed::Unjudged };
        let Ok(parts) = split(token) else { return Signed::Forged };
        let (Ok(algorithm), Ok(id)) = (algorithm(&parts.header), key_id(&parts)) else {
            return Signed::Forged;
        };
        let candidates = || keys.candidates(algorithm, id);
        let verifies = |key| jwt_ring::verifies(algorithm, key, parts.message, &parts.signature);
        if candidates().take(KEYS_TRIED_MAX).any(verifies) {
            return Signed::ByKnown;
        }
        // Without a key id it may be of any key, also of one that is not known.
        match id.is_some() && candidates().next().is_some() {
            true => Signed::Forged,
            false => Signed::ByUnknown,
        }
    }
}

/// What is told to who shows a forgery.
pub fn forged(cluster: &str) -> Refusal {
    let text = format!(
        "the token's signature is not of the key of cluster \"{cluster}\" that it names: get a new one, and send its cluster's \
         name as clusterid"
    );
    Refusal::new(Reason::TokenSignatureInvalid, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::authn::tests::TokenMaker;

    #[test]
    fn a_forgery_is_one_only_where_it_names_a_key_that_is_known() {
        let (one, two) = (TokenMaker::new(), TokenMaker::new());
        let set = |keys: &[serde_json::Value]| json!({ "keys": keys }).to_string();
        let of = |maker: &TokenMaker, kid: serde_json::Value| {
            maker.token(json!({ "kid": kid }), json!({}))
        };
        let keys = KnownKeys::default();
        assert_eq!(keys.judge(&of(&one, json!("k1"))), Signed::Unjudged);
        keys.take(set(&[one.jwk("k1")]).as_bytes()).unwrap();
        for (token, wanted) in [
            (of(&one, json!("k1")), Signed::ByKnown),
            (of(&one, json!(null)), Signed::ByKnown),
            (of(&two, json!("k1")), Signed::Forged),
            (of(&two, json!("k2")), Signed::ByUnknown),
            (of(&two, json!(null)), Signed::ByUnknown),
            (of(&one, json!("k2")), Signed::ByUnknown),
            (of(&one, json!(1)), Signed::Forged),
            ("a.b".to_owned(), Signed::Forged),
        ] {
            assert_eq!(keys.judge(&token), wanted, "{token:.60}");
        }
        assert!(keys.take(b"{}").is_err());
        assert_eq!(keys.judge(&of(&one, json!("k1"))), Signed::ByKnown, "the last good set stays");
        keys.take(set(&[one.jwk("k1"), two.jwk("k2")]).as_bytes()).unwrap();
        assert_eq!(keys.judge(&of(&two, json!("k2"))), Signed::ByKnown);
        keys.forget();
        assert_eq!(keys.judge(&of(&two, json!("k1"))), Signed::Unjudged);
    }
}
