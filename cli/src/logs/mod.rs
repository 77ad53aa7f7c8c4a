//! Where log lines go, and how many of them.
//!
//! Nothing that serves waits for a log: lines go to a bounded `sink` that a thread of its own empties to standard
//! error, and a line of the program that repeats itself without end is bounded by a `storm` layer.

mod sink;
mod storm;

use std::io::{self, IsTerminal};
use std::sync::Arc;

use console::exit::Failure;
use tracing::Dispatch;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

use crate::args::LogFormat;
use sink::Sink;
use storm::{Storm, StormLayer};

/// The log of this process. What it still holds is written when it is dropped, for as long as that takes at most one
/// second.
#[derive(Debug)]
pub struct Logs {
    _sink: Sink,
}

/// Sends log events to standard error, with these levels (such as `info` or `warn,ca_server=debug`).
///
/// # Errors
/// [`Failure::Usage`] if the filter is malformed, [`Failure::Failed`] if there is no thread to be had.
pub fn start(format: LogFormat, filter: &str) -> Result<Logs, Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::Usage(format!("log filter {filter}: {error}").into()))?;
    let storm = Arc::new(Storm::new(Arc::new(host::SystemClock)));
    let told = Arc::clone(&storm);
    let sink = Sink::start(io::stderr(), move |dropped| tell(dropped, &told)).map_err(|error| {
        Failure::Failed(anyhow::anyhow!("cannot start the thread that writes the log: {error}"))
    })?;
    // A second subscriber in one process is refused; the first keeps working.
    let _ = subscriber(format, filter, storm, sink.lines()).try_init();
    Ok(Logs { _sink: sink })
}

/// What takes every event of the process: of the levels that are wanted, and no more of one place than a reader can use.
fn subscriber<W>(format: LogFormat, filter: EnvFilter, storm: Arc<Storm>, lines: W) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer =
        tracing_subscriber::fmt::layer().with_writer(lines).with_ansi(io::stderr().is_terminal());
    let bounded = Registry::default().with(filter).with(StormLayer(storm));
    match format {
        LogFormat::Text => Dispatch::new(bounded.with(layer)),
        LogFormat::Json => Dispatch::new(bounded.with(layer.json())),
    }
}

/// Says what is not in the log. Called by the thread that writes it.
fn tell(dropped: u64, storm: &Storm) {
    if dropped > 0 {
        tracing::warn!(
            dropped,
            "log lines were dropped: standard error is not read as fast as lines come"
        );
    }
    for (line, left_out) in storm.untold() {
        tracing::warn!(
            line,
            left_out,
            "lines like this one were left out: too many came in a second"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use trust::{ManualClock, Timestamp};

    use super::*;

    #[derive(Clone, Debug, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_process_logs_with_is_bounded_in_both_formats() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
            let (storm, written) = (Arc::new(Storm::new(clock)), Written::default());
            let lines = {
                let written = written.clone();
                move || written.clone()
            };
            let filter = EnvFilter::try_new("info").unwrap();
            tracing::dispatcher::with_default(&subscriber(format, filter, storm, lines), || {
                for number in 0..5_000 {
                    tracing::error!(number, "the disk is full");
                }
                tracing::info!("another place is heard");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            let storm = text.lines().filter(|line| line.contains("the disk is full")).count();
            assert!((1..1_000).contains(&storm), "{format:?}: {storm} lines");
            assert!(text.contains("another place is heard"), "{format:?}");
        }
    }
}
