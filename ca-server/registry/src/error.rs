//! Why the registry did not change, or cannot be read, in words that say what to do.

use std::path::PathBuf;

use stores::{ReadError, WriteError};
use trust::Timestamp;

/// The registry could not be read from the shared store. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryUnreadable {
    /// The store does not answer.
    #[error("the registry of agents cannot be read: {0}")]
    Store(#[from] ReadError),
    /// A row must not be left out, and cannot be read.
    #[error(
        "the registry of agents has a row that cannot be read and that rotations wait for: {row}"
    )]
    Row {
        /// Its key, what is wrong with it, and what to do.
        row: String,
    },
}

/// A former file could not be taken over. It was not changed, and it does no harm to begin anew.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The file cannot be read.
    #[error("the registry of agents {} cannot be read ({reason}): keep the file and restore the latest backup of the data directory", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A row does not fit into the store.
    #[error(
        "the row {row} of the former registry cannot be stored: {reason}; start the release that wrote it and remove the row"
    )]
    Row {
        /// Which.
        row: String,
        /// Why.
        reason: String,
    },
    /// The store does not say what is there.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store does not take a row.
    #[error(transparent)]
    Write(#[from] WriteError),
}

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
    /// Nobody banned that.
    #[error("there is no ban of {0}")]
    BanUnknown(String),
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
    /// There is no waiver of this name.
    #[error("there is no waiver {0:?}")]
    WaiverUnknown(String),
    /// This CA is not federated with such a trust domain.
    #[error("there is no federation with the trust domain {0:?}")]
    FederationUnknown(String),
    /// Somebody else keeps it.
    #[error("the federation with {domain} is kept by {owner}")]
    FederationOwned {
        /// The trust domain.
        domain: String,
        /// Who keeps it.
        owner: String,
    },
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
    /// A name that no key of the store can have.
    #[error("the name {name:?} cannot be stored: {why}")]
    NameUnfit {
        /// How it begins.
        name: String,
        /// Why.
        why: String,
    },
    /// The row cannot be read.
    #[error("the row of {0:?} cannot be read")]
    RowUnreadable(String),
    /// The store did not take a write, or did not say whether it did.
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
            Self::BanUnknown(_) => "`banyan ban list` shows those that there are",
            Self::RelyingPartyUnknown(_) => {
                "`banyan relying-party list` shows those that there are"
            }
            Self::WaiverUnknown(_) => "`banyan waiver list` shows those that there are",
            Self::FederationUnknown(_) => "`banyan federation list` shows those that there are",
            Self::FederationOwned { .. } => {
                "change it there, or say `--force`: then its keeper may change it back"
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
            Self::NameUnfit { .. } => "choose a shorter one, without control characters",
            Self::RowUnreadable(_) => "`banyan status` of the CA says what is wrong with it",
            Self::Broken => {
                "retry in 2 s; `banyan status` of the CA says what is wrong with its store"
            }
        }
    }
}
