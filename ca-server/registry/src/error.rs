//! Why the registry did not change, in words that say what to do.

use trust::Timestamp;

/// Why the registry did not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// No such token was handed out.
    #[error("the join token is not known here: make a new one with `banyan token create`")]
    TokenUnknown,
    /// Its time is over.
    #[error("the join token expired at {0}: make a new one with `banyan token create`")]
    TokenExpired(Timestamp),
    /// Another key was registered with it, or the time for a retry is over.
    #[error("the join token was used before: make a new one with `banyan token create`")]
    TokenUsed,
    /// It was taken back.
    #[error(
        "the join token was revoked by an operator of the CA: ask for a new one, made with `banyan token create`"
    )]
    TokenRevoked,
    /// No token has this id.
    #[error("no join token has an id that begins with {0:?}: `banyan token list` shows those that there are")]
    TokenIdUnknown(String),
    /// Several tokens have ids that begin so.
    #[error("several join tokens have ids that begin with {0:?}: write more digits")]
    TokenIdAmbiguous(String),
    /// The agent may not join again.
    #[error(
        "the name {0:?} is banned here: ask the CA's operator, who can take it back with `banyan agent unban`"
    )]
    Banned(String),
    /// Nobody of this name is registered.
    #[error("no agent {0:?} is registered: `banyan agent list` shows those that are")]
    AgentUnknown(String),
    /// The name is not banned.
    #[error("{0:?} is not banned: `banyan agent list --banned` shows the names that are")]
    NotBanned(String),
    /// One JWT caller has as many agents as it may, and all are connected.
    #[error(
        "{caller} has {most} agents, all connected, which is the most for one caller: stop one, or have the CA's operator \
         raise agents.per_caller"
    )]
    CallerFull {
        /// Whose JWT.
        caller: String,
        /// The bound.
        most: usize,
    },
    /// One JWT caller registers new keys faster than it may.
    #[error(
        "{caller} registered {most} new agents within the last hour, which is the most for one caller: keep the agent's \
         state_dir across restarts, or have the CA's operator raise agents.per_caller"
    )]
    CallerTooFast {
        /// Whose JWT.
        caller: String,
        /// The bound.
        most: usize,
    },
    /// No place for an agent is left.
    #[error(
        "{most} agents are registered, as many as may be, and none of them was away for long enough to give way: have the CA's \
         operator remove some with `banyan agent remove`, or raise agents.max"
    )]
    AgentsFull {
        /// The bound that counts for this one.
        most: usize,
    },
    /// There is no relying party of this name.
    #[error("there is no relying party {0:?}: `banyan relying-party list` shows those that there are")]
    RelyingPartyUnknown(String),
    /// A confirmation is about a bundle of the future.
    #[error("bundle {0} was not published yet: confirm the present one or a former one")]
    BundleOfTheFuture(trust::Sequence),
    /// There is a downstream CA of this name.
    #[error("there is a downstream CA {0:?}: choose another name, or remove it first")]
    DownstreamExists(String),
    /// There is no downstream CA of this name.
    #[error("there is no downstream CA {0:?}: `banyan downstream list` shows those that there are")]
    DownstreamUnknown(String),
    /// A downstream CA used a request id for two issuers.
    #[error("request id {0:?} was used for an issuer under another root: use a new one")]
    DownstreamRequestReused(String),
    /// The registry is full.
    #[error("the registry is full ({0}): let old entries expire, or raise its bound")]
    Full(&'static str),
    /// A write failed, now or before.
    #[error(
        "the registry cannot be written: free space on the disk of the CA, or see its log; it is tried again every few seconds"
    )]
    Broken,
}
