//! The port to the other servers: what is asked of one, and what can become of it.

use std::fmt::Debug;

use async_trait::async_trait;
use auth::authn::mtls::RowWord;
use ledger::EvidenceClass;
use rotation::ReplicaName;
use trust::{CertificateId, Sequence, Serial};

/// Statements of one call.
pub const STATEMENTS_MAX: usize = 256;
/// Leaves that one call asks to renew.
pub const RENEWALS_MAX: usize = 1_024;

/// Another server, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its name, which its certificate must have.
    pub name: ReplicaName,
    /// `host:port`, as it says itself.
    pub address: String,
}

/// One sentence of an agent about one leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Who says it.
    pub agent: String,
    /// About which leaf.
    pub serial: Serial,
    /// What.
    pub word: Word,
}

/// What an agent says of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its holders have applied the bundle of this sequence.
    Applied(Sequence, EvidenceClass),
    /// Nobody holds it.
    Released,
}

/// Leaves of one agent.
pub type AgentLeaves = (String, Vec<Serial>);

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection, or one that broke; or the server that answered is another one.
    #[error("{0}")]
    Unreachable(String),
    /// It refused.
    #[error("it refuses: {0}")]
    Refused(String),
    /// It answered something else than was asked.
    #[error("its answer does not fit: {0}")]
    Malformed(&'static str),
}

impl CallError {
    /// The metric label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// Calls another server of this CA. Deadlines are the caller's.
#[async_trait]
pub trait PeerCalls: Send + Sync + Debug {
    /// What it says of a leaf of its own issuer; `None` if it knows none.
    async fn look_up(
        &self,
        peer: &Place,
        issuer: CertificateId,
        serial: Serial,
    ) -> Result<Option<RowWord>, CallError>;

    /// Tells it what agents said; answers which of the leaves are its own. At most [`STATEMENTS_MAX`].
    async fn tell(
        &self,
        peer: &Place,
        statements: Vec<Statement>,
    ) -> Result<Vec<Serial>, CallError>;

    /// Has it ask its agents to renew leaves. At most [`RENEWALS_MAX`].
    async fn ask_to_renew(&self, peer: &Place, leaves: Vec<AgentLeaves>) -> Result<(), CallError>;
}

/// For a server that is the only one of its CA: nobody is there.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

#[async_trait]
impl PeerCalls for Nobody {
    async fn look_up(
        &self,
        _: &Place,
        _: CertificateId,
        _: Serial,
    ) -> Result<Option<RowWord>, CallError> {
        Err(nobody())
    }

    async fn tell(&self, _: &Place, _: Vec<Statement>) -> Result<Vec<Serial>, CallError> {
        Err(nobody())
    }

    async fn ask_to_renew(&self, _: &Place, _: Vec<AgentLeaves>) -> Result<(), CallError> {
        Err(nobody())
    }
}

fn nobody() -> CallError {
    CallError::Unreachable("this CA has one server".to_owned())
}
