//! What the operator chose, as far as the machine needs it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust::Timestamp;

/// Limits of one trust domain. The same for all its replicas. Entries of a journal keep the policy they were judged
/// by; a limit that an old entry does not name had its default then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Bound on the difference between any two wall clocks. Default 60 s.
    pub skew: Duration,
    /// Longest leaf that any profile issues. Default 24 h.
    pub leaf_lifetime_max: Duration,
    /// How far ahead of the longest leaf a horizon may be extended at once. Longer means fewer writes of the record
    /// and a longer wait for the last leaf in a rotation. Default 1 h.
    pub horizon_step_max: Duration,
    /// Longest handshake in flight: how long a gate's conditions must hold before it opens. Default 30 s.
    pub settle: Duration,
    /// Shortest leaf worth issuing: a root with less life left does not sign again. Default 10 min.
    pub leaf_lifetime_min: Duration,
    /// How long to wait for those who still trust a root that left the bundle, before the rotation counts as over.
    /// Default 1 h.
    pub withdrawal_max: Duration,
    /// How long the cohort of a canary must be seen to be well before the new root signs for everybody. Default 1 h.
    // What is as usual is not written: entries without a canary stay as they were.
    #[serde(skip_serializing_if = "is_usual_observe")]
    pub canary_observe: Duration,
    /// Above how many hundredths of what a cohort does going wrong holds a canary. Default 1.
    #[serde(skip_serializing_if = "is_usual_limit")]
    pub canary_limit_percent: u8,
}

fn is_usual_observe(observe: &Duration) -> bool {
    *observe == Policy::default().canary_observe
}

fn is_usual_limit(limit: &u8) -> bool {
    *limit == Policy::default().canary_limit_percent
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            skew: Duration::from_secs(60),
            leaf_lifetime_max: Duration::from_secs(24 * 3_600),
            horizon_step_max: Duration::from_secs(3_600),
            settle: Duration::from_secs(30),
            leaf_lifetime_min: Duration::from_secs(600),
            withdrawal_max: Duration::from_secs(3_600),
            canary_observe: Duration::from_secs(3_600),
            canary_limit_percent: 1,
        }
    }
}

impl Policy {
    /// The latest horizon that may be asked for at `now`, as far as the root's own end allows.
    pub fn horizon_limit(&self, now: Timestamp, root_not_after: Timestamp) -> Timestamp {
        now.plus(self.leaf_lifetime_max).plus(self.horizon_step_max).min(root_not_after)
    }

    /// The longest time from the request for a new root to the end of the former one's last leaf, if nobody ever confirms
    /// anything: both gates open by time alone.
    pub fn rotation_at_most(&self) -> Duration {
        let gate = self.leaf_lifetime_max + self.horizon_step_max + self.skew * 2 + self.settle;
        gate.saturating_mul(2)
    }

    /// The first second at which `bound` has passed by everybody's clock.
    pub fn over_at(&self, bound: Timestamp) -> Timestamp {
        bound.plus(self.skew.saturating_mul(2)).plus(Duration::from_secs(1))
    }

    /// Whether `bound` has passed by everybody's clock: `now` is later than `bound` and twice the skew.
    pub fn has_passed(&self, bound: Timestamp, now: Timestamp) -> bool {
        now > bound.plus(self.skew.saturating_mul(2))
    }
}
