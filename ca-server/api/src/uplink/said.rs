//! What an agent says of what its holders refuse, and of the revocation lists that they have.

use auth::refusal::echoed;
use ledger::LiveRow;
use proto::banyan::agent::v1::{ListsApplied, Nack, Refusals};
use trust::Serial;

use super::Uplink;

/// Refusals of one agent that are kept.
const REFUSING_MAX: usize = 64;
/// Rows of one message that are looked at.
const ROWS_MAX: usize = 1_024;

impl Uplink {
    pub(super) fn refusals(&self, refusals: Refusals) {
        let refused = refusals.refused.into_iter().take(REFUSING_MAX);
        let refusing =
            refused.map(|refused| (Serial::from_bytes(&refused.serial), echoed(&refused.reason)));
        let refusing = refusing.collect();
        self.session.note(self.ca.clock.now(), |session| session.refusing = refusing);
    }

    pub(super) fn nack(&self, nack: &Nack) {
        let reason = echoed(&nack.reason);
        if let Some(left_out) = self.may_say("nack") {
            let (agent, sequence) = (&self.agent, nack.sequence);
            tracing::warn!(agent, sequence, reason, left_out, "a holder refused a secret");
        }
        if let Some(serial) = Serial::from_bytes(&nack.serial) {
            self.ca.note_refusal(&self.agent, &serial, &reason);
        }
        self.session.note(self.ca.clock.now(), |session| {
            session.nacks = session.nacks.saturating_add(1);
            session.last_nack = reason;
        });
    }

    /// Notes what is said of the agent's own leaves. No gate depends on it.
    pub(super) fn lists_applied(&self, said: &ListsApplied) {
        let now = self.ca.clock.now();
        let is_own = |live: &LiveRow| live.row.agent.as_deref() == Some(&self.agent);
        for row in said.rows.iter().take(ROWS_MAX) {
            let Some(serial) = Serial::from_bytes(&row.serial) else { continue };
            if self.ca.ledger.find(&serial).is_some_and(|live| is_own(&live)) {
                self.ca.crl.heard(serial, row.number, now);
            }
        }
        self.session.note(now, |_| {});
    }
}
