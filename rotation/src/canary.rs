//! The canary of a rotation: the new root signs for a cohort, and what is seen of that decides whether it signs for everybody.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust::{Cohort, RootId, Timestamp};

use crate::codec;
use crate::{BundleChange, Observer, Policy, Rotation};

/// Both roots are in the bundle, `to` signs for the cohort and `from` for everybody else. Ends when the cohort was seen to be
/// well for long enough, or by somebody's word.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Canary {
    /// The rotation.
    pub rotation: Rotation,
    /// The root that signs for everybody else.
    #[serde(with = "codec::text")]
    pub from: RootId,
    /// The root that signs for the cohort.
    #[serde(with = "codec::text")]
    pub to: RootId,
    /// The bundle of both.
    pub bundle: BundleChange,
    /// For whom `to` signs now.
    #[serde(with = "codec::text")]
    pub cohort: Cohort,
    /// When this phase began.
    #[serde(with = "codec::seconds")]
    pub since: Timestamp,
    /// Uptime of the driver at which the conditions of the trust gate were first seen to hold.
    pub settling: Option<Duration>,
    /// Uptime at which the cohort was first seen to be well besides.
    pub observing: Option<Duration>,
    /// Whose uptime that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<Observer>,
    /// What holds it: nobody said so, it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// What somebody went on despite: only more than that holds it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Trouble>,
}

/// How many of how many.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Share {
    /// How many went wrong.
    pub bad: u64,
    /// Of how many.
    pub of: u64,
}

/// What goes wrong with leaves of the new root, counted since the canary began.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Trouble {
    /// Leaves that could not be issued under it, of all that were asked for.
    #[serde(default)]
    pub issue_errors: Share,
    /// Leaves of it that their holders refused, of all that holders got.
    #[serde(default)]
    pub refused: Share,
    /// Holders that were seen not to verify it, of all that hold leaves of it.
    #[serde(default)]
    pub unable: Share,
    /// Handshakes that failed where leaves of it are held, of all that were counted.
    #[serde(default)]
    pub handshakes: Share,
}

/// What was seen of a cohort.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct CohortSeen {
    /// Live leaves of the new root whose holders are there, as far as that can be known.
    pub taken: u64,
    /// Live leaves of the new root behind agents that are away.
    pub silent: u64,
    /// Live leaves of the former root that members of the cohort hold.
    pub waiting: u64,
    /// What went wrong.
    pub trouble: Trouble,
}

impl CohortSeen {
    /// All leaves of the cohort.
    pub const fn all(&self) -> u64 {
        self.taken.saturating_add(self.silent).saturating_add(self.waiting)
    }

    /// Whether it says something of the new root: at least half of the cohort has a leaf of it, and is there.
    pub const fn is_telling(&self) -> bool {
        self.taken > 0 && self.taken.saturating_mul(2) >= self.all()
    }

    /// Adds what another server saw.
    pub fn join(&mut self, other: &Self) {
        self.taken = self.taken.saturating_add(other.taken);
        self.silent = self.silent.saturating_add(other.silent);
        self.waiting = self.waiting.saturating_add(other.waiting);
        let mine = self.trouble.shares_mut();
        for (share, theirs) in mine.into_iter().zip(other.trouble.shares()) {
            share.bad = share.bad.saturating_add(theirs.bad);
            share.of = share.of.saturating_add(theirs.of);
        }
    }
}

impl Trouble {
    /// Each kind of it.
    pub const fn shares(&self) -> [Share; 4] {
        [self.issue_errors, self.refused, self.unable, self.handshakes]
    }

    const fn shares_mut(&mut self) -> [&mut Share; 4] {
        [&mut self.issue_errors, &mut self.refused, &mut self.unable, &mut self.handshakes]
    }

    /// Whether some kind of it is above the limit of the policy, and more than what was accepted.
    pub fn is_above(&self, accepted: Option<&Self>, policy: &Policy) -> bool {
        let accepted = accepted.copied().unwrap_or_default();
        let limit = u64::from(policy.canary_limit_percent);
        let above = |(share, accepted): (Share, Share)| {
            share.bad > accepted.bad
                && share.bad.saturating_mul(100) > share.of.saturating_mul(limit)
        };
        self.shares().into_iter().zip(accepted.shares()).any(above)
    }

    /// The kinds of which there is some, in words.
    pub fn in_words(&self) -> String {
        let told = |share: Share, what: &str| {
            (share.bad > 0).then(|| format!("{} of {} {what}", share.bad, share.of))
        };
        let parts = [
            told(self.issue_errors, "leaves could not be issued"),
            told(self.refused, "leaves were refused by their holders"),
            told(self.unable, "holders cannot verify it"),
            told(self.handshakes, "handshakes failed"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}
