//! The live view: two lines that are redrawn on a terminal, plain lines elsewhere, nothing with `--json`.

use std::time::Duration;

use console::terminal::{self, Live};
use proto::banyan::admin::v1::{Progress, Rotation};
use tokio::time::Instant;

use super::counts::Counts;

/// How often a plain line is printed where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Cells of a bar.
const BAR: u64 = 12;

/// Draws to standard error, so that standard output holds the outcome alone.
#[derive(Debug)]
pub struct View {
    silent: bool,
    live: Live,
    started: Instant,
    printed: Option<Instant>,
}

impl View {
    /// A view that fits where standard error goes.
    pub fn new(silent: bool) -> Self {
        Self { silent, live: Live::default(), started: Instant::now(), printed: None }
    }

    /// Tells something that happened.
    pub fn say(&mut self, text: &str) {
        if self.silent {
            return;
        }
        let text = format!("{:>5.1} s  {text}", self.elapsed());
        match terminal::size(std::io::stderr()) {
            Some(size) => terminal::error_text(&self.live.say(&text, size)),
            None => terminal::error_text(&format!("{text}\n")),
        }
    }

    /// Shows the counters.
    pub fn draw(&mut self, counts: &Counts, rotation: Option<&Rotation>) {
        if self.silent {
            return;
        }
        let counters = format!(
            "{:>5.1} s  {} connections, {} failed, {} renewals",
            self.elapsed(),
            counts.handshakes,
            counts.failed,
            counts.renewals.iter().sum::<u64>(),
        );
        let progress = rotation.map(in_words).unwrap_or_default();
        if let Some(size) = terminal::size(std::io::stderr()) {
            terminal::error_text(
                &self.live.draw(&format!("{counters}\n         {progress}"), size),
            );
        } else if self.printed.is_none_or(|printed| printed.elapsed() >= PLAIN_EVERY) {
            self.printed = Some(Instant::now());
            terminal::error_text(&format!("{counters}, {progress}\n"));
        }
    }

    fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}

/// The phase and two bars.
fn in_words(rotation: &Rotation) -> String {
    let (trust, leaves) = (rotation.trust.unwrap_or_default(), rotation.leaves.unwrap_or_default());
    format!("{:<12}  trust {}  new leaves {}", rotation.phase, bar(trust), bar(leaves))
}

fn bar(progress: Progress) -> String {
    let filled =
        (BAR * progress.done.min(progress.total)).checked_div(progress.total).unwrap_or(BAR);
    let cells: String = (0..BAR).map(|cell| if cell < filled { '#' } else { '.' }).collect();
    format!("{cells} {}/{}", progress.done, progress.total)
}
