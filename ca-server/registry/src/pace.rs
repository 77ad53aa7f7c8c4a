//! How fast one JWT caller may register new keys. Each registration leaves a certificate of an agent behind, which counts
//! until its end, so a bound of agents alone would not bound what one caller costs.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use auth::bounded_cache::BoundedCache;

/// Over this time a caller may register as many new keys as it may have agents.
const WINDOW: Duration = Duration::from_secs(3_600);
/// Callers that are remembered; one that is forgotten begins anew.
const CALLERS_MAX: usize = 16 * 1024;

/// The paces of all callers. By uptime, which nobody sets.
#[derive(Debug)]
pub(super) struct Pace {
    burst: u32,
    /// When each caller would have used up nothing.
    idle_at: BoundedCache<String, Duration>,
    /// One call at a time. Held for map work only.
    turn: Mutex<()>,
}

impl Pace {
    pub(super) fn new(burst: usize) -> Self {
        let burst = u32::try_from(burst).unwrap_or(u32::MAX).max(1);
        Self { burst, idle_at: BoundedCache::new(CALLERS_MAX), turn: Mutex::default() }
    }

    /// Takes one registration of a caller, if it has one left.
    pub(super) fn take(&self, caller: &str, uptime: Duration) -> bool {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let former = self.idle_at.find(caller.to_owned()).unwrap_or_default();
        let next = former.max(uptime) + WINDOW / self.burst;
        if next.saturating_sub(uptime) > WINDOW {
            return false;
        }
        self.idle_at.insert(caller.to_owned(), next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_callers_haste_is_bounded_and_costs_no_other() {
        let pace = Pace::new(4);
        let at = Duration::from_secs;
        assert!((0..4).all(|_| pace.take("a", at(9))), "a burst");
        assert!(!pace.take("a", at(9)));
        assert!(pace.take("b", at(9)));
        assert!(!pace.take("a", at(900)));
        assert!(pace.take("a", at(910)), "a quarter of an hour buys one");
        assert!(!pace.take("a", at(910)));
        assert!((0..4).all(|_| pace.take("a", at(9_000))));
    }
}
