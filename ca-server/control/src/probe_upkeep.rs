//! Keeps probe leaves to be had: their end is on the record first, then there is a signer.

use std::sync::Arc;

use issuance::SnapshotCell;
use rotation::{Event, State};
use trust::{RootId, Timestamp};

use crate::levels::Level;
use crate::probing::{Allowed, Wanted, life, wanted};
use crate::upkeep::Upkeep;

impl Upkeep {
    /// Keeps probe leaves to be had while the trust gate asks for probes and somebody here has a listener: first their end on the
    /// record, then their signer.
    pub(crate) async fn keep_probes(&self) {
        let state = self.driver.state();
        let root = wanted(&state, self.ca.evidence.probe_policy());
        let listens = || self.ca.ledger.aggregates().tally(|row| row.listening.is_some()).rows > 0;
        // Nothing is asked before everybody is told the bundle.
        let Some(root) = root
            .filter(|_| self.ca.evidence.in_force_since(&state).is_some())
            .filter(|_| listens())
        else {
            self.ca.levels.reached(Level::Probes);
            return self.ca.probing.set(None);
        };
        if !self.ca.levels.is_due(Level::Probes, self.ca.clock.as_ref()) {
            return;
        }
        match self.probes_of(root).await {
            Ok(allowed) => {
                self.ca.levels.reached(Level::Probes);
                self.ca.probing.set(allowed);
            }
            Err(why) => self.ca.levels.failed(Level::Probes, &why, self.ca.clock.as_ref()),
        }
    }

    async fn probes_of(&self, root: RootId) -> Result<Option<Arc<Allowed>>, String> {
        let Ok(now) = self.ca.clock.agreed() else { return Ok(self.ca.probing.allowed()) };
        let (now, life) = (now.wall, life(self.ca.issuer.profile()));
        let mut state = self.driver.state();
        if until(&state, &root).is_none_or(|until| until < now.plus(life * 2)) {
            let ends = state.roots.get(&root).map(|entry| entry.not_after).unwrap_or_default();
            let until = now.plus(life * 4).min(self.policy.horizon_limit(now, ends));
            let event = Event::ProbesRequested { root, until };
            self.driver.submit(event).await.map_err(|error| error.to_string())?;
            state = self.driver.state();
        }
        // It may have ended meanwhile.
        let Some(until) = until(&state, &root)
            .filter(|_| wanted(&state, self.ca.evidence.probe_policy()) == Some(root))
        else {
            return Ok(None);
        };
        let wanted = Wanted { sequence: state.sequence, root };
        let present = self.ca.probing.allowed();
        if present
            .as_ref()
            .is_some_and(|one| one.wanted == wanted && one.snapshot.horizon() == until)
        {
            return Ok(present);
        }
        let snapshot = self.snapshots.probing(&state, root, until, now).await;
        let snapshot = snapshot.map_err(|error| error.to_string())?;
        let snapshot = SnapshotCell::new(snapshot).load();
        Ok(Some(Arc::new(Allowed { wanted, snapshot })))
    }
}

fn until(state: &State, root: &RootId) -> Option<Timestamp> {
    state.roots.get(root).and_then(|entry| entry.probed_until)
}
