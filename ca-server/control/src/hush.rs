//! Log lines that callers cause: each caller gets a few of each kind, and a count for the rest.
//!
//! Metrics and audit count everything; the log is for people, and on a disk. Without a bound any registered agent could
//! fill it, and hide what others say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trust::Clock;

/// Lines of one kind that one caller gets in each [`WINDOW`].
const LINES: u64 = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// Pairs of kind and caller that are told apart; further callers share the lines of their kind.
const CALLERS_MAX: usize = 4_096;

/// Who has said how much. Locked only for map work.
#[derive(Debug, Default)]
pub struct Hush(Mutex<HashMap<(&'static str, String), Said>>);

#[derive(Clone, Copy, Debug, Default)]
struct Said {
    since: Duration,
    lines: u64,
    left_out: u64,
}

impl Hush {
    /// Whether a line of this kind may be written for this caller; if so, how many were left out before it.
    pub fn may_say(&self, kind: &'static str, caller: &str, uptime: Duration) -> Option<u64> {
        let mut all = self.lock();
        let mut key = (kind, caller.to_owned());
        if all.len() >= CALLERS_MAX && !all.contains_key(&key) {
            all.retain(|_, said| said.left_out > 0 || !said.is_over(uptime));
            if all.len() >= CALLERS_MAX {
                key.1 = "others".to_owned();
            }
        }
        let said = all.entry(key).or_insert(Said { since: uptime, ..Said::default() });
        if said.is_over(uptime) {
            (said.since, said.lines) = (uptime, 0);
        }
        if said.lines >= LINES {
            said.left_out = said.left_out.saturating_add(1);
            return None;
        }
        said.lines += 1;
        Some(std::mem::take(&mut said.left_out))
    }

    /// Takes what was left out and is not told yet, of those who have been quiet for a window.
    fn untold(&self, uptime: Duration) -> Vec<(&'static str, String, u64)> {
        let mut all = self.lock();
        let over = |(_, said): &(&(&'static str, String), &Said)| said.is_over(uptime);
        let keys: Vec<_> = all.iter().filter(over).map(|(key, _)| key.clone()).collect();
        let taken = keys.into_iter().filter_map(|key| {
            let said = all.remove(&key)?;
            (said.left_out > 0).then_some((key.0, key.1, said.left_out))
        });
        taken.collect()
    }

    /// Writes a summary of what was left out, every now and then, for ever.
    pub async fn tell_at_times(&self, clock: &Arc<dyn Clock>) {
        loop {
            tokio::time::sleep(WINDOW).await;
            for (kind, caller, left_out) in self.untold(clock.uptime()) {
                tracing::warn!(
                    kind,
                    caller,
                    left_out,
                    "lines that this caller caused were left out of the log"
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(&'static str, String), Said>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    fn is_over(&self, uptime: Duration) -> bool {
        uptime.saturating_sub(self.since) >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_floods_the_log_gets_a_few_lines_and_a_count_and_hides_nobody() {
        let hush = Hush::default();
        let at = Duration::from_secs;
        let said = (0..10_000).filter(|_| hush.may_say("nack", "node-1", at(7)).is_some()).count();
        assert_eq!(said, 5);
        assert_eq!(hush.may_say("nack", "node-2", at(8)), Some(0), "another caller");
        assert_eq!(hush.may_say("hello", "node-1", at(8)), Some(0), "another kind");
        assert_eq!(
            hush.may_say("nack", "node-1", at(67)),
            Some(9_995),
            "the next line tells of the others"
        );
        assert_eq!(hush.untold(at(68)), []);
        for _ in 0..7 {
            hush.may_say("nack", "node-3", at(70));
        }
        assert_eq!(hush.untold(at(200)), [("nack", "node-3".to_owned(), 2)], "also if none comes");
        assert_eq!(hush.untold(at(200)), []);
    }

    #[test]
    fn memory_is_bounded_whoever_calls() {
        let hush = Hush::default();
        for number in 0..20_000 {
            hush.may_say("hello", &format!("node-{number}"), Duration::ZERO);
        }
        assert!(hush.lock().len() <= CALLERS_MAX + 1);
        assert!(hush.may_say("nack", "node-1", Duration::from_secs(61)).is_some(), "room is made");
    }
}
