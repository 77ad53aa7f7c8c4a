//! Leaves that the CA counts as this agent's and that it was not told of: released, if their keys are gone.
//!
//! An agent that was killed has lost the keys of its workloads, and the CA knows leaves that no holder was ever given. It
//! asks. The answer is certain only when every request is over that was under way when it asked, and only about leaves of
//! the time since this account of holders began: holders of a former account, of which nothing is left, may live on.

use trust::{Serial, Timestamp};

use super::Hub;
use crate::in_flight::Moment;

/// Leaves that are asked about at a time at most; the CA asks again after a reconnect.
const DOUBTS_MAX: usize = 65_536;

/// What was asked.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    open: Vec<(Moment, Serial, Timestamp)>,
    /// The latest end of what was asked about on this stream, as far as it has come.
    latest: Timestamp,
}

impl Hub {
    /// The CA asks about leaves.
    pub(super) fn doubted(&mut self, rows: &[(Serial, Timestamp)], last: bool) {
        let asked = self.parts.in_flight.now();
        for (serial, not_after) in rows {
            self.doubts.latest = self.doubts.latest.max(*not_after);
            if self.doubts.open.len() < DOUBTS_MAX {
                self.doubts.open.push((asked, *serial, *not_after));
            }
        }
        // All that the CA knows from before this account is known now: what ends later is of this account.
        if last && self.silent_until == Timestamp::from_secs(i64::MAX) {
            self.silent_until = self.doubts.latest;
            self.holders_dirty = true;
        }
    }

    /// The stream ended; on the next one everything is asked again.
    pub(super) fn doubts_end(&mut self) {
        self.doubts = Doubts::default();
    }

    /// Releases what is certain by now.
    pub(super) fn resolve_doubts(&mut self) {
        let in_flight = &self.parts.in_flight;
        let (serials, silent_until) = (&mut self.serials, self.silent_until);
        self.doubts.open.retain(|(asked, serial, not_after)| {
            let certain = in_flight.are_over(*asked);
            if certain && *not_after > silent_until && !serials.live.contains_key(serial) {
                serials.released.insert(*serial, *not_after);
            }
            !certain
        });
    }

    /// The agent ends in order: what nobody holds is given up, and nothing new is asked for.
    pub(super) async fn farewell(&mut self) {
        self.leaving = true;
        self.issuing.shutdown().await;
        for workload in self.workloads.values_mut() {
            let Some(serial) = workload.leaf.as_ref().map(|leaf| leaf.held().serial) else { continue };
            let mut holders = self.holders.values();
            if !holders.any(|holder| holder.may_hold().any(|leaf| leaf.serial == serial)) {
                workload.drop_leaf();
            }
        }
        self.settle().await;
    }
}
