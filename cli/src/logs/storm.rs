//! Lines of the program that come without end: each place in the code that logs may do so many times in a second.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use trust::Clock;

/// Lines of one place at once, and per second from then on.
const BURST: u32 = 200;
const PER_SECOND: u32 = 50;
/// What was left out is told when its place has been quiet for so long, or with everything else after a while.
const QUIET: Duration = Duration::from_secs(5);

/// How often each place has logged. Levels below `INFO` are wanted by somebody who set them, and are not bounded.
#[derive(Debug)]
pub(super) struct Storm {
    clock: Arc<dyn Clock>,
    places: Mutex<HashMap<Identifier, Place>>,
}

#[derive(Debug)]
struct Place {
    name: String,
    left: u32,
    since: Duration,
    left_out: u64,
    left_out_since: Duration,
}

/// Stands before whatever writes lines, behind the filter of levels.
#[derive(Debug)]
pub(super) struct StormLayer(pub(super) Arc<Storm>);

impl Storm {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, places: Mutex::default() }
    }

    fn admits(&self, metadata: &Metadata<'_>) -> bool {
        if *metadata.level() > Level::INFO {
            return true;
        }
        let now = self.clock.uptime();
        let mut places = self.lock();
        let place = places.entry(metadata.callsite()).or_insert_with(|| Place {
            name: format!("{}:{}", metadata.target(), metadata.line().unwrap_or_default()),
            left: BURST,
            since: now,
            left_out: 0,
            left_out_since: now,
        });
        place.admits(now)
    }

    /// Takes what was left out and is to be told now: the place, and how many lines.
    pub(super) fn untold(&self) -> Vec<(String, u64)> {
        let now = self.clock.uptime();
        let mut places = self.lock();
        let due = places.values_mut().filter(|place| {
            place.left_out > 0 && now.saturating_sub(place.left_out_since) >= QUIET
        });
        due.map(|place| (place.name.clone(), std::mem::take(&mut place.left_out))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn admits(&mut self, now: Duration) -> bool {
        let seconds = now.saturating_sub(self.since).as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(PER_SECOND);
            self.left = self.left.saturating_add(more).min(BURST);
            self.since = now;
        }
        if self.left > 0 {
            self.left -= 1;
            return true;
        }
        if self.left_out == 0 {
            self.left_out_since = now;
        }
        self.left_out = self.left_out.saturating_add(1);
        false
    }
}

impl<S: Subscriber> Layer<S> for StormLayer {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        self.0.admits(event.metadata())
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{EnvFilter, Registry};
    use trust::{ManualClock, Timestamp};

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Written(Arc<Mutex<String>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'w> MakeWriter<'w> for Written {
        type Writer = Self;

        fn make_writer(&'w self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_place_that_logs_without_end_is_bounded_counted_and_hides_no_other() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_000)));
        let storm = Arc::new(Storm::new(clock.clone()));
        let written = Written::default();
        let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(written.clone());
        let bounded =
            Registry::default().with(EnvFilter::new("debug")).with(StormLayer(Arc::clone(&storm)));
        let lines = |word: &str| written.0.lock().unwrap().matches(word).count();
        tracing::subscriber::with_default(bounded.with(layer), || {
            let storm_of = |count: u32| (0..count).for_each(|_| tracing::warn!("again"));
            storm_of(10_000);
            assert_eq!(lines("again"), BURST as usize);
            tracing::error!("another place");
            assert_eq!(lines("another place"), 1);
            for _ in 0..1_000 {
                tracing::debug!("wanted");
            }
            assert_eq!(lines("wanted"), 1_000);
            clock.advance(Duration::from_secs(6));
            let [(place, left_out)] = storm.untold().try_into().unwrap();
            assert!(place.contains("storm"), "{place}");
            assert_eq!(left_out, 10_000 - u64::from(BURST));
            assert_eq!(storm.untold(), []);
            storm_of(1_000);
            assert_eq!(lines("again"), BURST as usize + BURST as usize);
        });
    }
}
