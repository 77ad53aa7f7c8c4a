//! What the operator chose, as far as the machine needs it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust::Timestamp;

/// Limits of one trust domain. The same for all its replicas.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Bound on the difference between any two wall clocks. Default 60 s.
    pub skew: Duration,
    /// Longest leaf that any profile issues. Default 24 h.
    pub leaf_lifetime_max: Duration,
    /// How far ahead of the longest leaf a horizon may be extended at once. Longer means fewer writes of the record
    /// and a longer wait for the last leaf in a rotation. Default 1 h.
    pub horizon_step_max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            skew: Duration::from_secs(60),
            leaf_lifetime_max: Duration::from_secs(24 * 3_600),
            horizon_step_max: Duration::from_secs(3_600),
        }
    }
}

impl Policy {
    /// The latest horizon that may be asked for at `now`, as far as the root's own end allows.
    pub fn horizon_limit(&self, now: Timestamp, root_not_after: Timestamp) -> Timestamp {
        now.plus(self.leaf_lifetime_max).plus(self.horizon_step_max).min(root_not_after)
    }

    /// Whether `bound` has passed by everybody's clock: `now` is later than `bound` and twice the skew.
    pub fn has_passed(&self, bound: Timestamp, now: Timestamp) -> bool {
        now > bound.plus(self.skew.saturating_mul(2))
    }
}
