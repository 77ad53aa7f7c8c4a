//! Lines on their way to a writer that may stall: a bounded queue and a thread.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait at most; further lines are dropped and counted.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest line; the rest of it is cut.
const LINE_MAX: usize = 16 * 1024;
/// How often the thread looks whether there is something to tell.
const LOOK: Duration = Duration::from_secs(5);
/// Time for what is left when the process ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The queue and its thread. Dropping it waits a little for the last lines.
#[derive(Debug)]
pub(super) struct Sink(Arc<Shared>);

/// Takes lines; never waits.
#[derive(Clone, Debug)]
pub(super) struct LineWriter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something was queued, or the end has come.
    queued: Condvar,
    /// All is written.
    done: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    closing: bool,
    ended: bool,
}

impl Sink {
    /// Starts the thread. `tell` is called by it with the count of lines that were dropped since it was called last, after
    /// each batch and every few seconds; it may log.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || theirs.write_to(out, tell))?;
        Ok(Self(shared))
    }

    pub(super) fn lines(&self) -> LineWriter {
        LineWriter(Arc::clone(&self.0))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closing = true;
        self.0.queued.notify_one();
        // A reader that stalls is not waited for.
        let _ = self.0.done.wait_timeout_while(queue, LAST_LINES, |queue| !queue.ended);
    }
}

impl Shared {
    fn push(&self, line: &[u8]) {
        let mut queue = self.lock();
        let line = line.get(..LINE_MAX).map_or_else(|| line.to_vec(), |cut| [cut, b"\n"].concat());
        if queue.bytes.saturating_add(line.len()) > BYTES_MAX {
            queue.dropped = queue.dropped.saturating_add(1);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        self.queued.notify_one();
    }

    fn write_to(&self, mut out: impl Write, tell: impl Fn(u64)) {
        loop {
            let (lines, dropped, closing) = self.take();
            for line in &lines {
                // Nobody can be told that the log cannot be written.
                let _ = out.write_all(line);
                let mut queue = self.lock();
                queue.bytes = queue.bytes.saturating_sub(line.len());
            }
            let _ = out.flush();
            tell(dropped);
            if closing && self.lock().lines.is_empty() {
                self.lock().ended = true;
                self.done.notify_all();
                return;
            }
        }
    }

    /// What waits, once there is something or a few seconds are over.
    fn take(&self) -> (VecDeque<Vec<u8>>, u64, bool) {
        let nothing = |queue: &mut Queue| queue.lines.is_empty() && !queue.closing;
        let waited = self.queued.wait_timeout_while(self.lock(), LOOK, nothing);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut queue.lines), std::mem::take(&mut queue.dropped), queue.closing)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for LineWriter {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A reader that reads nothing until it is let, then all.
    struct Stalled {
        go: mpsc::Receiver<()>,
        seen: mpsc::Sender<Vec<u8>>,
        gone: bool,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.gone {
                self.go.recv().map_err(io::Error::other)?;
                self.gone = true;
            }
            self.seen.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stalls_stops_nobody_and_is_told_how_much_it_missed() {
        let ((go, wait), (seen, lines), (told, tell)) =
            (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let sink = Sink::start(Stalled { go: wait, seen, gone: false }, move |dropped| {
            let _ = told.send(dropped);
        })
        .unwrap();
        let mut writer = sink.lines();
        let line = [b'x'; 1024];
        // Far more than may wait: it would block for ever if anything waited.
        for _ in 0..20_000 {
            writer.write_all(&line).unwrap();
        }
        assert!(sink.0.lock().bytes <= BYTES_MAX);
        go.send(()).unwrap();
        let first: u64 =
            std::iter::from_fn(|| tell.recv().ok()).find(|dropped| *dropped > 0).unwrap();
        writer.write_all(b"after\n").unwrap();
        drop(sink);
        let dropped = first + tell.iter().sum::<u64>();
        let written: Vec<_> = lines.iter().collect();
        assert_eq!(written.len() as u64 - 1 + dropped, 20_000);
        assert_eq!(written.last().unwrap(), b"after\n", "it goes on");
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_stalls() {
        let ((_go, wait), (seen, _lines)) = (mpsc::channel(), mpsc::channel());
        let sink = Sink::start(Stalled { go: wait, seen, gone: false }, |_| {}).unwrap();
        sink.lines().write_all(b"last words\n").unwrap();
        drop(sink);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let (seen, lines) = mpsc::channel();
        let ((go, wait), _) = (mpsc::channel(), ());
        go.send(()).unwrap();
        let sink = Sink::start(Stalled { go: wait, seen, gone: false }, |_| {}).unwrap();
        sink.lines().write_all(&vec![b'x'; 1024 * 1024]).unwrap();
        drop(sink);
        let line = lines.recv().unwrap();
        assert_eq!((line.len(), line.last()), (LINE_MAX + 1, Some(&b'\n')));
    }
}
