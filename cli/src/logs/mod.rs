//! Where log lines go, and how many of them.
//!
//! Nothing that serves waits for a log: lines go to a bounded `sink` that a thread of its own empties to standard
//! error, and a line of the program that repeats itself without end is bounded by a `storm` layer.

mod sink;
mod storm;

use std::io::{self, IsTerminal};
use std::sync::Arc;

use console::exit::Failure;
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
    let layer =
        tracing_subscriber::fmt::layer().with_writer(sink.lines()).with_ansi(io::stderr().is_terminal());
    let bounded = Registry::default().with(filter).with(StormLayer(storm));
    // A second subscriber in one process is refused; the first keeps working.
    let _ = match format {
        LogFormat::Text => bounded.with(layer).try_init(),
        LogFormat::Json => bounded.with(layer.json()).try_init(),
    };
    Ok(Logs { _sink: sink })
}

/// Says what is not in the log. Called by the thread that writes it.
fn tell(dropped: u64, storm: &Storm) {
    if dropped > 0 {
        tracing::warn!(dropped, "log lines were dropped: standard error is not read as fast as lines come");
    }
    for (line, left_out) in storm.untold() {
        tracing::warn!(line, left_out, "lines like this one were left out: too many came in a second");
    }
}
