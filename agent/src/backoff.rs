//! Waiting between attempts: full jitter, so that agents that lost the same CA do not come back as a herd.

use std::time::Duration;

use trust::Randomness;
use trust::randomness::random_bytes;

/// First bound.
const FIRST: Duration = Duration::from_millis(500);
/// Highest bound.
const CAP: Duration = Duration::from_secs(30);

/// Doubles its bound at each failure, to 30 s, and draws each wait evenly from zero to the bound.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait.
    pub(crate) fn wait(&mut self, randomness: &dyn Randomness) -> Duration {
        let bound =
            FIRST.saturating_mul(1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        spread(bound, randomness)
    }

    /// Something worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random duration below `bound`.
pub(crate) fn spread(bound: Duration, randomness: &dyn Randomness) -> Duration {
    let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(u64::from_be_bytes(random_bytes(randomness)) % millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trust::SeededRandomness;

    #[test]
    fn waits_are_spread_up_to_a_bound_that_grows_to_thirty_seconds() {
        let randomness = SeededRandomness::new(1);
        let mut first: Vec<_> = (0..200).map(|_| Backoff::default().wait(&randomness)).collect();
        assert!(first.iter().all(|wait| *wait < FIRST));
        first.sort_unstable();
        assert!(first[0] < FIRST / 10 && first[199] > FIRST * 9 / 10, "the whole range is used");
        let mut backoff = Backoff { failures: 40 };
        let late: Vec<_> = (0..200).map(|_| backoff.wait(&randomness)).collect();
        assert!(late.iter().all(|wait| *wait < CAP) && late.iter().any(|wait| *wait > CAP / 2));
        backoff.reset();
        assert!(backoff.wait(&randomness) < FIRST);
    }
}
