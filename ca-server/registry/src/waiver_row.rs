//! A waiver as it is stored.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use trust::{Cover, Timestamp};

/// One waiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WaiverForm", into = "WaiverForm")]
pub struct WaiverRow {
    /// Whose trust is not waited for.
    pub covers: BTreeSet<Cover>,
    /// When it is over.
    pub until: Timestamp,
    /// Whose word.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it was given.
    pub at: Timestamp,
}

impl WaiverRow {
    /// Whether it still stands.
    pub fn stands(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WaiverForm {
    covers: BTreeSet<String>,
    until: i64,
    by: String,
    reason: String,
    at: i64,
}

impl From<WaiverRow> for WaiverForm {
    fn from(row: WaiverRow) -> Self {
        let WaiverRow { covers, until, by, reason, at } = row;
        let covers = covers.iter().map(ToString::to_string).collect();
        Self { covers, until: until.as_secs(), by, reason, at: at.as_secs() }
    }
}

impl TryFrom<WaiverForm> for WaiverRow {
    type Error = String;

    fn try_from(form: WaiverForm) -> Result<Self, String> {
        let WaiverForm { covers, until, by, reason, at } = form;
        let cover = |text: &String| text.parse().map_err(|error| format!("{text:?}: {error}"));
        let covers = covers.iter().map(cover).collect::<Result<_, _>>()?;
        let (until, at) = (Timestamp::from_secs(until), Timestamp::from_secs(at));
        Ok(Self { covers, until, by, reason, at })
    }
}
