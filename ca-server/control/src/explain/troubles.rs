//! What goes wrong with a rotation, one sentence each.

use rotation::State;
use rotation_driver::EffectError;
use trust::plain::counted;

use crate::ca::Ca;
use crate::canary;

/// What goes wrong with the cohort of a canary.
pub(super) fn of_cohort(ca: &Ca, state: &State) -> Vec<String> {
    if state.phase.canary().is_none() {
        return Vec::new();
    }
    let mut said = canary::conditions(state, ca.evidence.cohort().as_ref());
    said.extend(ca.evidence.canary().sentences());
    said
}

/// Work that fails and is tried again.
pub(super) fn of_effects(ca: &Ca) -> Vec<String> {
    let troubles = ca.driver.troubles().borrow().clone();
    let said = troubles.iter().map(|trouble| {
        let effect = trouble.pending.effect.doing();
        match &trouble.last {
            EffectError::NotYet { reason, .. } => format!("{effect} waits: {reason}"),
            last => {
                format!(
                    "{effect} failed {}; retrying: {last}",
                    counted(trouble.attempts, "time", "times")
                )
            }
        }
    });
    said.collect()
}
