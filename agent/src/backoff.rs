//! Waiting between attempts: full jitter, so that agents that lost the same CA do not come back as a herd.

use std::time::Duration;

use trust::Randomness;
use trust::randomness::random_bytes;

/// First bound.
const FIRST: Duration = Duration::from_millis(500);
/// Highest bound.
const CAP: Duration = Duration::from_secs(30);
/// Least time left that a wait before an end is drawn from.
const SHORT: Duration = Duration::from_secs(1);

/// Doubles its bound at each failure, to 30 s, and draws each wait evenly from zero to the bound.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait.
    pub(crate) fn wait(&mut self, randomness: &dyn Randomness) -> Duration {
        self.wait_within(CAP, randomness)
    }

    /// The next wait before something that ends after `left`: never drawn from more than a quarter of that, so that an
    /// outage which is over leaves time for several attempts. Below a second left, the bound stays a quarter second.
    pub(crate) fn wait_before_end(
        &mut self,
        left: Duration,
        randomness: &dyn Randomness,
    ) -> Duration {
        self.wait_within(left.max(SHORT) / 4, randomness)
    }

    fn wait_within(&mut self, most: Duration, randomness: &dyn Randomness) -> Duration {
        let bound = FIRST
            .saturating_mul(1_u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX))
            .min(CAP);
        self.failures = self.failures.saturating_add(1);
        spread(bound.min(most), randomness)
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

    #[test]
    fn a_wait_before_an_end_leaves_time_for_more_attempts() {
        let randomness = SeededRandomness::new(2);
        let mut backoff = Backoff { failures: 40 };
        let mut longest = |left| {
            (0..200).map(|_| backoff.wait_before_end(left, &randomness)).max().unwrap_or_default()
        };
        let some = longest(Duration::from_secs(8));
        assert!(some < Duration::from_secs(2) && some > Duration::from_secs(1), "{some:?}");
        assert!(
            longest(Duration::from_secs(86_400)) > CAP / 2,
            "a long life keeps the usual bound"
        );
        assert!(
            longest(Duration::ZERO) > Duration::ZERO,
            "what has ended is asked for again, but not in a loop"
        );
    }
}
