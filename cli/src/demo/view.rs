//! The live view: one line that is redrawn on a terminal, plain lines elsewhere, nothing with `--json`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use proto::banyan::admin::v1::{Progress, Rotation};
use tokio::time::Instant;

use super::Counts;

/// How often a plain line is printed where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Cells of a bar.
const BAR: u64 = 12;

/// Draws to standard error, so that standard output holds the outcome alone.
#[derive(Debug)]
pub struct View {
    mode: Mode,
    started: Instant,
    printed: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Terminal,
    Plain,
    Silent,
}

impl View {
    /// A view that fits where standard error goes.
    pub fn new(silent: bool) -> Self {
        let mode = match (silent, std::io::stderr().is_terminal()) {
            (true, _) => Mode::Silent,
            (false, true) => Mode::Terminal,
            (false, false) => Mode::Plain,
        };
        Self { mode, started: Instant::now(), printed: None }
    }

    /// Tells something that happened.
    pub fn say(&mut self, text: &str) {
        match self.mode {
            Mode::Terminal => write(&format!("\r\x1b[K{:>5.1} s  {text}\n", self.elapsed())),
            Mode::Plain => write(&format!("{:>5.1} s  {text}\n", self.elapsed())),
            Mode::Silent => {}
        }
    }

    /// Shows the counters.
    pub fn draw(&mut self, counts: &Counts, rotation: Option<&Rotation>) {
        let line = format!(
            "{:>5.1} s  handshakes {:>7}  failed {}  renewals {:>4}  {}",
            self.elapsed(),
            counts.handshakes,
            counts.failed,
            counts.renewals.iter().sum::<u64>(),
            rotation.map(in_words).unwrap_or_default(),
        );
        match self.mode {
            Mode::Terminal => write(&format!("\r\x1b[K{line}")),
            Mode::Plain if self.printed.is_none_or(|printed| printed.elapsed() >= PLAIN_EVERY) => {
                self.printed = Some(Instant::now());
                write(&format!("{line}\n"));
            }
            Mode::Plain | Mode::Silent => {}
        }
    }

    /// Leaves the line that is redrawn.
    pub fn end(&mut self) {
        if self.mode == Mode::Terminal {
            write("\n");
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
    let filled = (BAR * progress.done.min(progress.total)).checked_div(progress.total).unwrap_or(BAR);
    let cells: String = (0..BAR).map(|cell| if cell < filled { '#' } else { '.' }).collect();
    format!("{cells} {}/{}", progress.done, progress.total)
}

fn write(text: &str) {
    // A closed standard error must not stop the traffic.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
