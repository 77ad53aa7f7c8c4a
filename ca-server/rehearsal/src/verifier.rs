//! Who judges chains in a rehearsal.

use std::fmt::Debug;

use trust::{PeerRole, Timestamp};

/// What a peer presents, and what it is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// Its leaf first, then the intermediates; DER.
    pub chain: &'a [Vec<u8>],
    /// The roots of the bundle, as certificates; DER.
    pub anchors: &'a [Vec<u8>],
    /// What the owner of the leaf does in the handshake.
    pub role: PeerRole,
    /// The time of the handshake.
    pub now: Timestamp,
}

/// Why a verifier does not take a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It refuses it, and says why.
    Refused(String),
    /// It came to no judgement, so nothing is known of the chain.
    CouldNotJudge(String),
}

/// Judges chains as a TLS peer of its kind does.
pub trait Verifier: Debug + Send + Sync {
    /// What it is, with its version where that is known.
    fn name(&self) -> String;

    /// Judges a chain.
    ///
    /// # Errors
    /// [`Verdict`].
    fn verify(&self, presented: &Presented<'_>) -> Result<(), Verdict>;
}
