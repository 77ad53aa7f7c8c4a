//! Why the registry did not change, in words that say what to do.

use trust::Timestamp;

/// Why the registry did not change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// No such token was handed out.
    #[error("the join token is not known here")]
    TokenUnknown,
    /// Its time is over.
    #[error("the join token expired at {0}")]
    TokenExpired(Timestamp),
    /// Another key was registered with it, or the time for a retry is over.
    #[error("the join token was used before")]
    TokenUsed,
    /// It was taken back.
    #[error("the join token was revoked by an operator of the CA")]
    TokenRevoked,
    /// No token has this id.
    #[error("no join token has an id that begins with {0:?}")]
    TokenIdUnknown(String),
    /// Several tokens have ids that begin so.
    #[error("several join tokens have ids that begin with {0:?}")]
    TokenIdAmbiguous(String),
    /// The agent may not join again.
    #[error("the name {0:?} is banned here")]
    Banned(String),
    /// Nobody of this name is registered.
    #[error("no agent {0:?} is registered")]
    AgentUnknown(String),
    /// The name is not banned.
    #[error("{0:?} is not banned")]
    NotBanned(String),
    /// One JWT caller has as many agents as it may, and all are connected.
    #[error("{caller} has {most} agents, all connected, which is the most for one caller")]
    CallerFull {
        /// Whose JWT.
        caller: String,
        /// The bound.
        most: usize,
    },
    /// One JWT caller registers new keys faster than it may.
    #[error(
        "{caller} registered {most} new agents within the last hour, which is the most for one caller"
    )]
    CallerTooFast {
        /// Whose JWT.
        caller: String,
        /// The bound.
        most: usize,
    },
    /// No place for an agent is left.
    #[error(
        "{most} agents are registered, as many as may be, and none of them was away for long enough to give way"
    )]
    AgentsFull {
        /// The bound that counts for this one.
        most: usize,
    },
    /// There is no relying party of this name.
    #[error("there is no relying party {0:?}")]
    RelyingPartyUnknown(String),
    /// A confirmation is about a bundle of the future.
    #[error("bundle {0} was not published yet")]
    BundleOfTheFuture(trust::Sequence),
    /// There is a downstream CA of this name.
    #[error("there is a downstream CA {0:?}")]
    DownstreamExists(String),
    /// There is no downstream CA of this name.
    #[error("there is no downstream CA {0:?}")]
    DownstreamUnknown(String),
    /// A downstream CA used a request id for two issuers.
    #[error("request id {0:?} was used for an issuer under another root")]
    DownstreamRequestReused(String),
    /// The registry is full.
    #[error("the registry is full ({0})")]
    Full(&'static str),
    /// A write failed, now or before.
    #[error("the registry cannot be written")]
    Broken,
}

impl RegistryError {
    /// What to do about it.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::TokenUnknown | Self::TokenExpired(_) | Self::TokenUsed => {
                "make a new one with `banyan token create`"
            }
            Self::TokenRevoked => "ask for a new one, made with `banyan token create`",
            Self::TokenIdUnknown(_) => "`banyan token list` shows those that there are",
            Self::TokenIdAmbiguous(_) => "write more digits",
            Self::Banned(_) => {
                "ask the CA's operator, who can take it back with `banyan agent unban`"
            }
            Self::AgentUnknown(_) => "`banyan agent list` shows those that are",
            Self::NotBanned(_) => "`banyan agent list --banned` shows the names that are",
            Self::RelyingPartyUnknown(_) => {
                "`banyan relying-party list` shows those that there are"
            }
            Self::BundleOfTheFuture(_) => "confirm the present one or a former one",
            Self::DownstreamExists(_) => "choose another name, or remove it first",
            Self::DownstreamUnknown(_) => "`banyan downstream list` shows those that there are",
            Self::DownstreamRequestReused(_) => "use a new one",
            Self::Full(_) => "let old entries expire, or raise its bound",
            Self::CallerFull { .. } => {
                "stop one, or have the CA's operator raise agents.per_caller"
            }
            Self::CallerTooFast { .. } => {
                "keep the agent's state_dir across restarts, or have the CA's operator raise agents.per_caller"
            }
            Self::AgentsFull { .. } => {
                "have the CA's operator remove some with `banyan agent remove`, or raise agents.max"
            }
            Self::Broken => {
                "free space on the disk of the CA, or see its log; it is tried again every few seconds"
            }
        }
    }
}
