//! Requests for leaves that are under way. Until one is over, the CA may know a leaf that this agent has yet to receive.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All that are under way. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    open: BTreeSet<u64>,
}

/// One that is under way, until it is dropped: when what it brought is in place, or nothing can come of it any more.
#[derive(Debug)]
pub(crate) struct UnderWay {
    all: InFlight,
    number: u64,
}

/// A moment: which requests had begun by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl InFlight {
    /// One begins.
    pub(crate) fn begin(&self) -> UnderWay {
        let mut open = self.lock();
        let number = open.next;
        open.next += 1;
        open.open.insert(number);
        drop(open);
        UnderWay { all: self.clone(), number }
    }

    /// This moment.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.lock().next)
    }

    /// Whether everything is over that had begun by that moment.
    pub(crate) fn are_over(&self, by: Moment) -> bool {
        self.lock().open.first().is_none_or(|oldest| *oldest >= by.0)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.lock().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_over_when_everything_is_that_began_before_it() {
        let all = InFlight::default();
        assert!(all.are_over(all.now()));
        let (first, second) = (all.begin(), all.begin());
        let moment = all.now();
        let third = all.begin();
        drop(first);
        assert!(!all.are_over(moment));
        drop(second);
        assert!(all.are_over(moment), "what began later does not count");
        assert!(!all.are_over(all.now()));
        drop(third);
        assert!(all.are_over(all.now()));
    }
}
