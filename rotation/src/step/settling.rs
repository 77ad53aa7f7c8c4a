//! Whether a phase may end, and on whose clock the time is counted that its gate must have been open for.

use std::time::Duration;

use super::guards;
use crate::evidence::Evidence;
use crate::{Observer, Policy, Rotation, Segment, State};

/// Whether phases may end by themselves: nobody holds the rotation, and nobody a bundle that is not known here.
pub(super) fn is_free(state: &State, rotation: &Rotation) -> bool {
    rotation.held_since.is_none() && guards::none_open(state).is_ok()
}

/// The settle time of a gate, on the clock that nobody sets.
#[derive(Clone, Copy)]
pub(super) struct Settling<'a> {
    /// When it began, if it did.
    pub(super) began: Option<Duration>,
    /// On whose clock.
    pub(super) by: Option<&'a Observer>,
    pub(super) evidence: &'a Evidence,
    pub(super) policy: &'a Policy,
}

impl Settling<'_> {
    /// Whether this report is of the one that counts.
    pub(super) fn is_counted(&self) -> bool {
        self.by.map(|by| &by.segment) == self.evidence.observer.as_ref()
    }

    /// Whether the count begins anew with this report: nobody has begun one, or whoever did has been gone for so long that
    /// it should have ended. Until then another one's report changes nothing, so that two who report never keep each other
    /// from getting to the end.
    pub(super) fn begins(&self, state: &State) -> bool {
        let Some(by) = self.by.filter(|_| self.began.is_some() && !self.is_counted()) else {
            return self.began.is_none() || !self.is_counted();
        };
        let is_gone = state.segments.get(&by.segment).is_none_or(Segment::is_closed);
        let late = by.since.plus(self.policy.settle * 2).plus(self.policy.skew * 2);
        is_gone || self.evidence.at > late
    }
}
