//! Roots that count as compromised: who said so and why, and by whose word one left the bundle early.

use serde::{Deserialize, Serialize};
use trust::Timestamp;

use crate::AuthorityName;
use crate::codec;

/// Why a root counts as compromised.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Taint {
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    #[serde(with = "codec::seconds")]
    pub since: Timestamp,
    /// Who makes the root that takes its place, while no standby root is there to do so.
    pub authority: AuthorityName,
    /// By whose word it left the bundle before its last leaf was over, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// A root was taken out of the bundle before its leaf gate was open.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Cut {
    /// Who wanted it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    #[serde(with = "codec::seconds")]
    pub at: Timestamp,
}
