//! A CA whose state was restored from a backup: who runs on it, and who may have a leaf while members know more than it does.

use std::collections::BTreeSet;

use auth::refusal::{Reason, Refusal};
use rotation::{ReplicaName, SegmentId};

use crate::ca::Ca;

impl Ca {
    /// Segments of servers that run on this record, as far as this one knows.
    pub fn live_segments(&self) -> BTreeSet<SegmentId> {
        let (state, uptime) = (self.driver.state(), self.clock.uptime());
        let roster = self.replication.roster.borrow().clone();
        let lives = |name: &ReplicaName| {
            *name == self.replica
                || roster.peers.get(name).is_some_and(|peer| peer.may_hold(uptime))
        };
        let open = state.segments.iter().filter(|(_, segment)| !segment.is_closed());
        open.filter(|(_, one)| lives(&one.replica)).map(|(id, _)| id.clone()).collect()
    }

    /// Whether somebody may have a leaf who takes this server's bundle with it. Not while the state is a restored one and agents
    /// hold a bundle that it never published: whoever came in now would trust other roots than they do. An agent judges its
    /// leaves by the bundle that it holds, so that leaves of members go on.
    ///
    /// # Errors
    /// The refusal, with the way out for operators.
    pub fn may_admit(&self) -> Result<(), Refusal> {
        let state = self.driver.state();
        let restored = state.lost_rows_until(self.clock.now(), &self.policy).is_some();
        let Some((agent, seen)) = state.seen.highest().filter(|_| restored) else { return Ok(()) };
        Err(Refusal::new(
            Reason::StateBehind,
            format!(
                "this CA was restored from a backup, and members hold bundle {} (agent {agent}) while it has bundle {}: its \
                 operator must read `banyan state show` and then run `banyan state continue`",
                seen.sequence, state.sequence
            ),
        ))
    }
}
