//! What was rehearsed with an issuer before it was taken.

use serde::{Deserialize, Serialize};

/// Handshakes that were shaken in memory with leaves of an issuer, before anything of its root was published.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Who judged the chains, and took them all.
    pub verifiers: Vec<String>,
    /// Handshakes that they took, together.
    pub handshakes: u32,
    /// What could not be rehearsed, one sentence each, with what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

impl Rehearsal {
    /// What was rehearsed, in one sentence.
    pub fn in_words(&self) -> String {
        match self.verifiers.as_slice() {
            [] => "nothing was rehearsed".to_owned(),
            verifiers => {
                format!(
                    "rehearsed in {} handshakes by {}",
                    self.handshakes,
                    verifiers.join(" and ")
                )
            }
        }
    }
}
