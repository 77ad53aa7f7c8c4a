//! The canary: the new root signs for a cohort, which may grow, until it signs for everybody or not at all. Trouble that is seen
//! holds it, whoever else wants it to go on.

use std::time::Duration;

use trust::{Cohort, Timestamp};

use super::draft::Draft;
use super::switch::{Passes, switch};
use crate::{Canary, Distributing, Draining, Phase, RootState};

/// The trust gate is open, so everybody trusts both: nothing else has to be waited for.
pub(super) fn begin(draft: &mut Draft, phase: &Distributing, cohort: Cohort, now: Timestamp) {
    let Distributing { rotation, from, to, bundle, .. } = phase.clone();
    draft.set_root(to, RootState::Canary);
    draft.state.phase = Phase::Canary(Box::new(Canary {
        rotation,
        from,
        to,
        bundle,
        cohort,
        since: now,
        settling: None,
        observing: None,
        observer: None,
        trouble: None,
        accepted: None,
    }));
}

/// It signs for everybody from now on.
pub(super) fn finish(draft: &mut Draft, phase: &Canary, now: Timestamp) {
    let Canary { rotation, from, to, bundle, .. } = phase.clone();
    switch(draft, Passes { rotation, from, to, bundle }, now);
}

/// It signs for nobody any more, and its leaves are waited for. Who held it for what was seen has their answer by that.
pub(super) fn back(draft: &mut Draft, phase: &Canary, now: Timestamp) {
    let Canary { mut rotation, from, to, bundle, trouble, .. } = phase.clone();
    if trouble.is_some() {
        rotation.held_since = None;
    }
    draft.switch(to, from);
    draft.state.phase = Phase::Draining(Draining {
        rotation,
        from: to,
        to: from,
        bundle,
        switched: draft.state.generation,
        rolled_back: true,
        since: now,
        settling: None,
        observer: None,
    });
}

/// Whoever lets a canary go on that was held for what was seen accepts that much of it.
pub(super) fn resumed(draft: &mut Draft) {
    if let Phase::Canary(canary) = &mut draft.state.phase
        && let Some(trouble) = canary.trouble.take()
    {
        canary.accepted = Some(trouble);
    }
}

impl Draft {
    /// Has the time in which the cohort is watched begin at this uptime, or says that it has not begun.
    pub(super) fn set_observing(&mut self, began: Option<Duration>) {
        if let Phase::Canary(canary) = &mut self.state.phase {
            canary.observing = began;
        }
    }
}
