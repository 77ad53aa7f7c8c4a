//! How fast one identity gets leaves: a bucket of permits each, which fills up again while nobody takes.
//!
//! Only identities that took lately have a bucket, so that there are few; one that is full again is forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use trust::{Clock, SpiffeId};

use crate::refusal::{Reason, Refusal};

/// A full bucket lasts for so many seconds' worth of leaves at once: a whole deployment that comes up together.
const BURST_SECS: u64 = 20;
/// Buckets that are remembered; full ones are dropped beyond it.
const BUCKETS_MAX: usize = 65_536;

/// Buckets by identity.
#[derive(Debug)]
pub struct Pace {
    per_second: u64,
    clock: Arc<dyn Clock>,
    /// Held for arithmetic only.
    buckets: Mutex<HashMap<SpiffeId, Bucket>>,
}

/// Permits that were taken and have not come back, in thousandths, at a moment of uptime.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    taken_millis: u64,
    at: Duration,
}

impl Pace {
    /// `per_second` leaves a second for each identity, and 20 times as many at once.
    pub fn new(per_second: u64, clock: Arc<dyn Clock>) -> Self {
        Self { per_second, clock, buckets: Mutex::default() }
    }

    /// Takes a permit for one leaf.
    ///
    /// # Errors
    /// A refusal that names identity, limit and setting.
    pub fn take(&self, identity: &SpiffeId) -> Result<(), Refusal> {
        let now = self.clock.uptime();
        let most = self.per_second.saturating_mul(BURST_SECS).saturating_mul(1_000);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(identity) {
            buckets.retain(|_, bucket| self.taken(bucket, now) > 0);
            if buckets.len() >= BUCKETS_MAX {
                // So many identities at once: the limits on requests as a whole hold here.
                return Ok(());
            }
        }
        let bucket = buckets.entry(identity.clone()).or_insert(Bucket { taken_millis: 0, at: now });
        let taken = self.taken(bucket, now).saturating_add(1_000);
        if taken > most {
            let limit = self.per_second;
            let text = format!(
                "{identity} asks for more than {limit} leaves a second; retry in 1 s, or have the operator raise \
                 limits.leaves_per_second"
            );
            return Err(Refusal::new(Reason::IdentityTooFast, text));
        }
        *bucket = Bucket { taken_millis: taken, at: now };
        Ok(())
    }

    fn taken(&self, bucket: &Bucket, now: Duration) -> u64 {
        let passed = u64::try_from(now.saturating_sub(bucket.at).as_millis()).unwrap_or(u64::MAX);
        bucket.taken_millis.saturating_sub(passed.saturating_mul(self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use trust::{ManualClock, Timestamp};

    use super::*;

    #[test]
    fn one_identity_that_is_too_fast_is_refused_until_time_passes_and_others_are_not() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let pace = Pace::new(5, Arc::<ManualClock>::clone(&clock));
        let [greedy, modest] = ["a", "b"]
            .map(|name| SpiffeId::parse(&format!("spiffe://example.org/{name}")).unwrap());
        assert_eq!(
            (0..1_000).filter(|_| pace.take(&greedy).is_ok()).count(),
            100,
            "a deployment at once"
        );
        let refused = pace.take(&greedy).unwrap_err();
        assert_eq!(refused.reason(), Reason::IdentityTooFast);
        assert!(refused.text().contains("example.org/a asks for more than 5 leaves"), "{refused}");
        pace.take(&modest).unwrap();
        clock.advance(Duration::from_secs(1));
        assert_eq!((0..1_000).filter(|_| pace.take(&greedy).is_ok()).count(), 5);
        clock.advance(Duration::from_secs(60));
        assert_eq!((0..1_000).filter(|_| pace.take(&greedy).is_ok()).count(), 100);
    }

    #[test]
    fn buckets_that_are_full_again_are_forgotten() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let pace = Pace::new(100, Arc::<ManualClock>::clone(&clock));
        for number in 0..BUCKETS_MAX * 2 {
            pace.take(&SpiffeId::parse(&format!("spiffe://example.org/w{number}")).unwrap())
                .unwrap();
            clock.advance(Duration::from_millis(1));
        }
        assert!(pace.buckets.lock().unwrap().len() <= BUCKETS_MAX);
    }
}
