//! Has it looked at the cohort of a canary, and hears what holders say of their leaves.

use trust::Serial;

use crate::ca::Ca;
use crate::canary::Look;

impl Ca {
    /// Looks at the cohort of a canary, if there is one.
    pub fn look_at_cohort(&self) {
        let Ok(now) = self.clock.agreed() else { return };
        let life = self.issuer.profile().settings().ttl_default;
        let renewed_by = now.wall.plus(life / 4);
        let (ledger, sessions, handshakes) = (&*self.ledger, &self.sessions, &self.handshakes);
        let look = Look { ledger, sessions, handshakes, renewed_by };
        self.evidence.canary().look(&self.driver.state(), look, || self.clock.uptime());
    }

    /// A holder behind an agent refused a leaf.
    pub fn note_refusal(&self, agent: &str, serial: &Serial, said: &str) {
        let state = self.driver.state();
        if state.phase.canary().is_none() {
            return;
        }
        // An agent speaks for its own rows.
        let row = self.ledger.find(serial).filter(|live| live.row.agent.as_deref() == Some(agent));
        if let Some(live) = row {
            self.evidence.canary().refused(&state, &live.row, said);
        }
    }
}
