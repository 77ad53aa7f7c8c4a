//! Levels: what shall be so in a running CA, and what keeps it from being so.
//!
//! Whoever brings a level about tries again until it is so, after a pause that grows, and says here how it went. So a step
//! that failed right after a change is not forgotten until the next one, and `status` says it meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trust::{Clock, Timestamp};

/// Pause after a first failure; doubled after each further one.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// What shall be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Requests are served from the newest state of the record.
    Shown,
    /// The server serves with a leaf of its own under the bundle and the signer in force.
    OwnLeaf,
    /// The ledger's segment is sealed since the last change.
    Sealed,
    /// The horizon is ahead of the longest leaf.
    Horizon,
    /// The clock is noted for the next start.
    ClockNoted,
    /// Agents can get the leaves with which they look whether proxies verify the root that shall sign.
    Probes,
    /// A standby root that lasts is trusted, where policy asks for one.
    Standby,
    /// Revocation lists are as new as what they rest on, where the configuration asks for them.
    RevocationLists,
}

/// Which levels are not so, and why.
#[derive(Debug, Default)]
pub struct Levels {
    /// Held to look and to note only.
    missing: Mutex<BTreeMap<Level, Missing>>,
}

#[derive(Debug, Clone)]
struct Missing {
    since: Timestamp,
    attempts: u32,
    why: String,
    /// Uptime at which it is tried again.
    again: Duration,
}

impl Levels {
    /// Whether it may be tried now.
    pub fn is_due(&self, level: Level, clock: &dyn Clock) -> bool {
        self.missing().get(&level).is_none_or(|missing| clock.uptime() >= missing.again)
    }

    /// An attempt failed.
    pub fn failed(&self, level: Level, why: &dyn fmt::Display, clock: &dyn Clock) {
        let (now, uptime, why) = (clock.now(), clock.uptime(), why.to_string());
        let mut all = self.missing();
        let missing = all.entry(level).or_insert(Missing {
            since: now,
            attempts: 0,
            why: String::new(),
            again: uptime,
        });
        let news = missing.why != why;
        let pause = PAUSE.saturating_mul(2_u32.saturating_pow(missing.attempts)).min(PAUSE_MAX);
        missing.attempts = missing.attempts.saturating_add(1);
        missing.again = uptime.saturating_add(pause);
        missing.why.clone_from(&why);
        let attempts = missing.attempts;
        drop(all);
        if news {
            tracing::error!(error = why, "{}; it is tried again", level.missed());
        } else {
            tracing::debug!(error = why, attempts, "{}", level.missed());
        }
    }

    /// It is so.
    pub fn reached(&self, level: Level) {
        if let Some(missing) = self.missing().remove(&level) {
            tracing::info!(attempts = missing.attempts, "no more: {}", level.missed());
        }
    }

    /// What is not so, one sentence each.
    pub fn conditions(&self) -> Vec<String> {
        let said = |(level, missing): (&Level, &Missing)| {
            let Missing { since, attempts, why, .. } = missing;
            let tried =
                if *attempts == 1 { "once".to_owned() } else { format!("{attempts} times") };
            format!(
                "{} since {since}: {why}; it was tried {tried} and is tried again by itself",
                level.missed()
            )
        };
        self.missing().iter().map(said).collect()
    }

    fn missing(&self) -> MutexGuard<'_, BTreeMap<Level, Missing>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Level {
    const fn missed(self) -> &'static str {
        match self {
            Self::Shown => "requests are served from a former state of the record",
            Self::OwnLeaf => "the server serves on with its former certificate",
            Self::Sealed => "the ledger's segment is not sealed, so gates wait",
            Self::Horizon => "the horizon is not raised, and leaves get shorter",
            Self::Probes => "agents cannot probe their proxies, so the trust gate waits",
            Self::Standby => "there is no standby root that lasts, as [root.standby] asks for",
            Self::RevocationLists => "revocation lists are not signed, and former ones run out",
            Self::ClockNoted => {
                "the clock is not noted, so that a restart might believe a clock that jumped"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use trust::ManualClock;

    use super::*;

    #[test]
    fn a_level_is_tried_again_after_a_pause_that_grows_and_is_said_until_it_is_reached() {
        let (levels, clock) =
            (Levels::default(), ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert!(levels.is_due(Level::OwnLeaf, &clock));
            levels.failed(Level::OwnLeaf, &"the key is away", &clock);
            let mut pause = 0;
            while !levels.is_due(Level::OwnLeaf, &clock) {
                clock.advance(Duration::from_secs(1));
                pause += 1;
            }
            pauses.push(pause);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 8, 8, 8, 8]);
        assert!(levels.is_due(Level::Sealed, &clock), "each for itself");
        let [said] = &levels.conditions()[..] else { panic!() };
        assert!(said.contains("the key is away") && said.contains("8 times"), "{said}");
        levels.reached(Level::OwnLeaf);
        assert!(levels.conditions().is_empty());
    }
}
