//! What an agent is told on one stream of leaves that were revoked.

use std::collections::BTreeSet;

use proto::banyan::agent::v1::{DoubtedRow, Revoke};
use trust::{Serial, Timestamp};

use control::ca::Ca;

/// Leaves that are named in one message.
const TOLD_MAX: usize = 1_024;

/// What an agent was told, and whether there may be more to tell.
#[derive(Debug, Default)]
pub(crate) struct Revocations {
    told: BTreeSet<Serial>,
    may_be_more: bool,
}

impl Revocations {
    /// Some may have been revoked since.
    pub(crate) const fn look(&mut self) {
        self.may_be_more = true;
    }

    /// Leaves of which the agent was not told yet.
    pub(crate) fn news(&mut self, ca: &Ca, agent: &str) -> Option<Revoke> {
        if !std::mem::take(&mut self.may_be_more) {
            return None;
        }
        let all = ca.registry.revoked_of(agent).into_iter();
        let news: Vec<_> = all.filter(|(serial, _)| !self.told.contains(serial)).collect();
        self.may_be_more = news.len() > TOLD_MAX;
        let row = |(serial, until): &(Serial, Timestamp)| DoubtedRow {
            serial: serial.as_bytes().to_vec(),
            not_after: until.as_secs(),
        };
        let rows: Vec<_> = news.iter().take(TOLD_MAX).map(row).collect();
        self.told.extend(news.iter().take(TOLD_MAX).map(|(serial, _)| *serial));
        (!rows.is_empty()).then_some(Revoke { rows })
    }
}
