//! How fast messages of one stream are taken; more wait in the connection's window, at their sender's cost.

use std::time::Duration;

use tokio::time::Instant;

/// Messages that are taken at once: all leaves of a node that change together.
const AT_ONCE: u32 = 1_000;
/// Messages that are taken in each second from then on.
const PER_SECOND: u32 = 200;
/// How long the reader rests when it has taken as many as it may.
const REST: Duration = Duration::from_millis(50);

/// What may still be taken of one stream.
#[derive(Debug)]
pub(crate) struct Intake {
    left: u32,
    filled: Instant,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self { left: AT_ONCE, filled: Instant::now() }
    }

    /// Waits until one more may be taken. Nothing is lost when it is dropped.
    pub(crate) async fn ready(&mut self) {
        self.fill();
        while self.left == 0 {
            tokio::time::sleep(REST).await;
            self.fill();
        }
    }

    /// One was taken.
    pub(crate) const fn took(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    fn fill(&mut self) {
        let passed = self.filled.elapsed();
        let more = passed.as_millis().saturating_mul(u128::from(PER_SECOND)) / 1_000;
        if more == 0 {
            return;
        }
        let more = u32::try_from(more).unwrap_or(AT_ONCE);
        self.left = self.left.saturating_add(more).min(AT_ONCE);
        self.filled = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn taken_within(intake: &mut Intake, time: Duration) -> u32 {
        let (mut taken, end) = (0, Instant::now() + time);
        while tokio::time::timeout_at(end, intake.ready()).await.is_ok() && Instant::now() < end {
            intake.took();
            taken += 1;
            assert!(taken < 100_000, "nothing bounds it");
        }
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_taken_at_a_bounded_rate_and_a_node_that_changes_as_a_whole_at_once() {
        let mut intake = Intake::new();
        assert_eq!(taken_within(&mut intake, Duration::from_millis(40)).await, 1_000);
        let storm = taken_within(&mut intake, Duration::from_secs(10)).await;
        assert!((1_900..=2_010).contains(&storm), "{storm} in ten seconds");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(
            taken_within(&mut intake, Duration::from_millis(4)).await,
            1_000,
            "it was quiet"
        );
    }
}
