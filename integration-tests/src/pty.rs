//! A program in a real pseudo-terminal, and the terminal emulator that reads it.

use std::io::{Read as _, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use tokio::sync::watch;
use vt100::Parser;

/// Rows above the screen that the emulator remembers.
const SCROLLBACK: usize = 10_000;

/// A running program and its terminal. Dropped, the program is killed.
pub struct Terminal {
    screen: Arc<Mutex<Parser>>,
    /// How often the screen has changed; closed when the program has ended.
    changes: watch::Receiver<u64>,
    keyboard: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    /// Runs a command in a terminal of so many columns and rows.
    ///
    /// # Errors
    /// When there is no terminal to be had, or the program cannot be run.
    pub fn run(command: CommandBuilder, columns: u16, rows: u16) -> anyhow::Result<Self> {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size)?;
        let child = pair.slave.spawn_command(command)?;
        drop(pair.slave);
        let (mut output, keyboard) = (pair.master.try_clone_reader()?, pair.master.take_writer()?);
        let screen = Arc::new(Mutex::new(Parser::new(rows, columns, SCROLLBACK)));
        let (changed, changes) = watch::channel(0);
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A terminal whose program has ended answers with an error.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let read = bytes.get(..count).unwrap_or_default();
                shown.lock().unwrap_or_else(PoisonError::into_inner).process(read);
                changed.send_modify(|changes| *changes += 1);
            }
        });
        Ok(Self { screen, changes, keyboard, child, _master: pair.master })
    }

    /// Every row that stands on the screen or has left it at the top, without the empty ones at the end.
    pub fn rows(&self) -> Vec<String> {
        let mut parser = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let columns = parser.screen().size().1;
        let screen = parser.screen_mut();
        screen.set_scrollback(usize::MAX);
        let mut rows = Vec::new();
        for above in (1..=screen.scrollback()).rev() {
            screen.set_scrollback(above);
            rows.extend(screen.rows(0, columns).next());
        }
        screen.set_scrollback(0);
        rows.extend(screen.rows(0, columns));
        let filled = rows.iter().rposition(|row| !row.trim().is_empty()).map_or(0, |last| last + 1);
        rows.truncate(filled);
        rows
    }

    /// All rows as running text: what goes on in the next row is joined to it.
    pub fn text(&self) -> String {
        let rows = self.rows();
        rows.iter().flat_map(|row| row.split_whitespace()).collect::<Vec<_>>().join(" ")
    }

    /// Types on the keyboard.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn press(&mut self, keys: &str) -> anyhow::Result<()> {
        self.keyboard.write_all(keys.as_bytes())?;
        Ok(self.keyboard.flush()?)
    }

    /// Waits until the text fulfils a condition.
    ///
    /// # Errors
    /// When it does not in time, or the program ends before; the error shows the screen.
    pub async fn until(
        &mut self,
        what: &str,
        within: Duration,
        holds: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let mut changes = self.changes.clone();
        let shown = async {
            while !holds(&self.text()) {
                if changes.changed().await.is_err() {
                    return holds(&self.text());
                }
            }
            true
        };
        let shown = tokio::time::timeout(within, shown).await.unwrap_or(false);
        anyhow::ensure!(shown, "not on the screen: {what}\n{}", self.rows().join("\n"));
        Ok(())
    }

    /// Waits until the program has ended and all that it wrote is on the screen; answers with its exit code.
    ///
    /// # Errors
    /// When it does not end in time; the error shows the screen.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<u32> {
        let mut changes = self.changes.clone();
        let closed = async { while changes.changed().await.is_ok() {} };
        let closed = tokio::time::timeout(within, closed).await;
        closed.map_err(|_| anyhow::anyhow!("it does not end\n{}", self.rows().join("\n")))?;
        Ok(self.child.wait().context("the program is lost")?.exit_code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        let _ = self.child.kill();
    }
}
