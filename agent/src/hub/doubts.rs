//! Leaves that the CA counts as this agent's and that it was not told of: released, if their keys are gone.
//!
//! An agent that was killed has lost the keys of its workloads, and the CA knows leaves that no holder was ever given. It
//! asks. The answer is certain only when every request is over that was under way when it asked, and only about leaves of
//! the time since this account of holders began: holders of a former account, of which nothing is left, may live on.

use trust::{Serial, Timestamp};

use super::state::{Doubts, Hub};
use crate::in_flight::Moment;

/// Leaves that are asked about at a time at most; the CA asks again after a reconnect.
const DOUBTS_MAX: usize = 65_536;

impl Hub {
    /// The CA asks about leaves.
    pub(super) fn doubted(&mut self, rows: &[(Serial, Timestamp)], last: bool) {
        let asked = self.parts.in_flight.now();
        let room = DOUBTS_MAX.saturating_sub(self.doubts.open.len());
        let rows = rows.iter().take(room).map(|(serial, not_after)| (asked, *serial, *not_after));
        self.doubts.open.extend(rows);
        self.doubts.complete |= last;
    }

    /// The stream ended; on the next one everything is asked again.
    pub(super) fn doubts_end(&mut self) {
        self.doubts = Doubts::default();
    }

    /// Releases what is certain by now.
    pub(super) fn resolve_doubts(&mut self) {
        if self.silent_until == Timestamp::from_secs(i64::MAX) {
            self.begin_account();
            return;
        }
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

    /// All that the CA knows and this agent does not is from before this account: what ends later will be of this account.
    fn begin_account(&mut self) {
        let is_over =
            |(asked, ..): &(Moment, Serial, Timestamp)| self.parts.in_flight.are_over(*asked);
        if !self.doubts.complete || !self.doubts.open.iter().all(is_over) {
            return;
        }
        let of_this = |serial: &Serial| {
            self.serials.live.contains_key(serial) || self.serials.released.contains_key(serial)
        };
        let before = self.doubts.open.iter().filter(|(_, serial, _)| !of_this(serial));
        self.silent_until = before.map(|(.., not_after)| *not_after).max().unwrap_or_default();
        self.doubts.open.clear();
        self.holders_dirty = true;
    }

    /// The agent ends in order: what nobody holds is given up, and nothing new is asked for.
    pub(super) async fn farewell(&mut self) {
        self.leaving = true;
        self.issuing.shutdown().await;
        for workload in self.workloads.values_mut() {
            let Some(serial) = workload.leaf.as_ref().map(|leaf| leaf.held().serial) else {
                continue;
            };
            let mut holders = self.holders.values();
            if !holders.any(|holder| holder.may_hold().any(|leaf| leaf.serial == serial)) {
                workload.drop_leaf();
            }
        }
        self.settle().await;
    }
}
