//! What the writer runs on, and how its end is awaited.

use std::io;
use std::thread;

use tokio::task;

use crate::settings::WritesOn;

/// A writer that runs. A panic of it was printed when it happened; there is nothing left to do about it at its end.
#[derive(Debug)]
pub(crate) enum Running {
    Thread(thread::JoinHandle<()>),
    Task(task::JoinHandle<()>),
}

impl Running {
    /// Starts what a writer does. A thread has a runtime of its own, only to wait on the queue and on timers.
    pub(crate) fn start(
        on: WritesOn,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        match on {
            WritesOn::Thread => {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_time().build()?;
                let named = thread::Builder::new().name("ledger-writer".to_owned());
                named.spawn(move || runtime.block_on(work)).map(Self::Thread)
            }
            WritesOn::Task => Ok(Self::Task(task::spawn(work))),
        }
    }

    /// Waits until it has written everything, without blocking the runtime.
    pub(crate) async fn ended(self) {
        match self {
            Self::Thread(thread) => _ = task::spawn_blocking(move || thread.join()).await,
            Self::Task(task) => _ = task.await,
        }
    }

    /// Waits for a thread, for about one commit. A task goes on by itself to its end.
    pub(crate) fn join(self) {
        if let Self::Thread(thread) = self {
            let _ = thread.join();
        }
    }
}
