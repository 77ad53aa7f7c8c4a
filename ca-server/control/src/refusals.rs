//! Clients that refuse this server: how often, and whether they still do.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Whoever does not trust a server and has no other tries it again within this time; a longer silence says that they are elsewhere.
const TRY_AGAIN_WITHIN: Duration = Duration::from_secs(600);

/// When clients refused this server last.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Option<Refused>>);

/// How often they had refused it when that was looked at, and at which uptime it was more often than before.
#[derive(Clone, Copy, Debug)]
struct Refused {
    times: u64,
    last: Duration,
}

impl Refusals {
    /// How often clients refused this server, if they still do.
    pub fn lately(&self, times: u64, now: Duration) -> u64 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert(Refused { times, last: now });
        if times > known.times {
            *known = Refused { times, last: now };
        }
        if now.saturating_sub(known.last) < TRY_AGAIN_WITHIN { times } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_no_longer_refuse_it_say_nothing_and_the_next_refusal_counts_again() {
        let (refusals, at) = (Refusals::default(), Duration::from_secs);
        assert_eq!(refusals.lately(0, at(5)), 0);
        assert_eq!(refusals.lately(8, at(60)), 8);
        assert_eq!(refusals.lately(8, at(659)), 8);
        assert_eq!(refusals.lately(8, at(660)), 0, "they found another server");
        assert_eq!(refusals.lately(9, at(900)), 9);
    }
}
