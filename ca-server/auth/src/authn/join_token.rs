//! Join tokens: the port to the registry that knows them.

use std::fmt::Debug;

use trust::join_token::JoinToken;
use trust::{SpiffeId, SpkiHash, Timestamp, TrustDomain};

use crate::refusal::{Reason, Refusal};

/// Knows the join tokens that were made here, by the SHA-256 of their secrets.
///
/// `find` only reads. Using a token up is a durable write of the registry, done with the key that uses it, before the
/// agent's leaf is issued.
pub trait JoinTokens: Send + Sync + Debug {
    /// The grant of a token, used or not.
    ///
    /// # Errors
    /// [`JoinTokenRefused`]; an unknown secret and a forgotten token are the same.
    fn find(&self, secret_hash: [u8; 32], now: Timestamp) -> Result<JoinGrant, JoinTokenRefused>;
}

/// What a join token grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGrant {
    /// Name of the agent that the token registers.
    pub agent: String,
    /// Identities that the agent may have issued for its workloads.
    pub identities: Vec<SpiffeId>,
    /// The key that used the token, and when; `None` while it is unused.
    pub used: Option<TokenUse>,
}

/// Who used a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenUse {
    /// The agent's key.
    pub spki: SpkiHash,
    /// When it was first used.
    pub at: Timestamp,
}

/// Why a join token grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenRefused {
    /// No such token.
    #[error("no such join token")]
    Unknown,
    /// Its time is over.
    #[error("the join token has expired")]
    Expired,
    /// An operator took it back.
    #[error("the join token was revoked")]
    Revoked,
    /// The registry could not be read.
    #[error("the registry of join tokens cannot be read: {0}")]
    Unreadable(String),
}

/// Judges the text of a join token.
pub(super) fn verify(
    text: &str,
    tokens: &dyn JoinTokens,
    trust_domain: &TrustDomain,
    now: Timestamp,
) -> Result<(JoinGrant, [u8; 32]), Refusal> {
    let invalid = |text: &str| Refusal::new(Reason::JoinTokenInvalid, text);
    let token = JoinToken::decode(text).map_err(|error| invalid(&error.to_string()))?;
    if token.ca_id().trust_domain() != trust_domain {
        return Err(invalid("the join token is for another trust domain"));
    }
    let hash = token.secret().hash();
    match tokens.find(hash, now) {
        Ok(grant) => Ok((grant, hash)),
        Err(JoinTokenRefused::Unknown) => Err(invalid(
            "the join token is not known here: make a new one with `banyan token create`",
        )),
        Err(JoinTokenRefused::Expired) => {
            let text = "the join token has expired: make a new one with `banyan token create`";
            Err(Refusal::new(Reason::JoinTokenExpired, text))
        }
        Err(JoinTokenRefused::Revoked) => {
            let text = "the join token was revoked by an operator of the CA: ask for a new one, made with \
                        `banyan token create`";
            Err(Refusal::new(Reason::JoinTokenRevoked, text))
        }
        Err(JoinTokenRefused::Unreadable(detail)) => {
            tracing::error!(detail, "registry of join tokens cannot be read");
            Err(Refusal::new(
                Reason::RegistryUnavailable,
                "the server cannot read its registry; its log says why",
            ))
        }
    }
}
