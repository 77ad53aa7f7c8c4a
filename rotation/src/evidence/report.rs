//! A report about the mesh: counts, and when the last of what is counted ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust::{Generation, RootId, Sequence, Timestamp};

use crate::codec;
use crate::{CohortSeen, ReplicaName, SegmentId};

/// Everything that gates rest on, as it was at one instant.
///
/// It is true of that instant or of an earlier one: counts only shrink once the segments that they were read from are
/// sealed, so a late report opens no gate too early.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// Wall-clock time when the reading was over. Whether an end has passed is judged by it.
    #[serde(with = "codec::seconds")]
    pub at: Timestamp,
    /// Uptime at the same instant, on the clock that nobody sets. Settle times are counted on it.
    pub uptime: Duration,
    /// The bundle that `unproven` and `relying_parties` are about.
    #[serde(with = "codec::sequence")]
    pub sequence: Sequence,
    /// Rows whose holders are not known to have applied that bundle, by evidence of the class that policy asks for. Rows
    /// that an operator waived are not among them, nor those in `own_trust`.
    pub unproven: Tally,
    /// Such rows whose holders take their trust from elsewhere than from their agents, and for which nobody else has given
    /// a word. Their successors are the same again, so no end of theirs counts: `latest` is the time at which policy
    /// assumes their trust, `None` if it never does. Entries of former releases have none.
    #[serde(default, skip_serializing_if = "Tally::is_empty")]
    pub own_trust: Tally,
    /// Rows whose holders have applied that bundle and were seen by a probe not to verify a leaf of the root that shall sign. Their
    /// successors are the same again, so no end of theirs counts. Entries of former releases have none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unable: u64,
    /// Rows that would be unproven, had no operator waived them. No gate asks for it; the journal keeps it.
    pub waived: u64,
    /// Live rows by root. A root without a live row may be missing.
    #[serde(with = "codec::text_keys")]
    pub live: BTreeMap<RootId, Tally>,
    /// The segments whose rows are counted, each with the generation that it was known to be sealed at before its
    /// rows were read.
    #[serde(with = "codec::seals")]
    pub read: BTreeMap<SegmentId, Generation>,
    /// Who relies on the bundle without a leaf of ours.
    // Journals have the first name of this field.
    #[serde(rename = "subscribers")]
    pub relying_parties: RelyingParties,
    /// For a root under which others issue too: the latest end of any leaf of theirs, as somebody attested by name.
    #[serde(with = "codec::bounds")]
    pub foreign: BTreeMap<RootId, Timestamp>,
    /// Shared roots that their owner has let go: by its own gates nobody else issues or lives under them any more, so
    /// counts of our own rows decide. Entries of former releases have none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "codec::text_set")]
    pub let_go: BTreeSet<RootId>,
    /// The segment of the driver that reports: its uptime is meant. Entries of former releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<SegmentId>,
    /// Replicas that release no new leaf any more, and are about to go: nobody waits for an issuer of theirs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub draining: BTreeSet<ReplicaName>,
    /// What was seen of the cohort of a canary; `None` while there is no canary, and while nobody has looked since it began or
    /// changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cohort: Option<CohortSeen>,
}

impl Evidence {
    /// A report in which nobody and nothing occurs. It opens no gate: no segment was read.
    pub fn of_nothing(at: Timestamp, sequence: Sequence) -> Self {
        Self {
            at,
            uptime: Duration::ZERO,
            sequence,
            unproven: Tally::default(),
            own_trust: Tally::default(),
            unable: 0,
            waived: 0,
            live: BTreeMap::new(),
            read: BTreeMap::new(),
            relying_parties: RelyingParties::default(),
            foreign: BTreeMap::new(),
            let_go: BTreeSet::new(),
            observer: None,
            draining: BTreeSet::new(),
            cohort: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How many, and when the last of them ends.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// The latest end among them; `None` when there are none.
    #[serde(with = "codec::optional_seconds")]
    pub latest: Option<Timestamp>,
}

impl Tally {
    /// Whether there is nothing.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Relying parties that are not known to have the bundle of the report.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct RelyingParties {
    /// Those that have it at the latest when their staleness bound is over, counted since the bundle was published.
    pub bounded: Tally,
    /// Those that only a confirmation by name proves.
    pub unbounded: u64,
}
