//! A bounded queue in front of a bounded number of threads that may block.
//!
//! A token answers when it likes, and a call into its module cannot be broken off. So each call runs on one of a few
//! threads of this pool, and the async side waits for the answer with a deadline. When the queue is full, a call is
//! refused at once with [`KeyError::Busy`]; what nobody waits for any more is thrown away before it starts.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use plugins::KeyError;
use tokio::sync::oneshot;

/// How long a caller is asked to wait when the queue is full.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// How long the end of a pool waits for its threads. One that hangs in the module is left behind.
const END_WITHIN: Duration = Duration::from_secs(2);

/// How much a pool takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolSize {
    pub(crate) threads: usize,
    /// Calls that may wait.
    pub(crate) queue: usize,
    /// How long a caller waits for its answer, the time in the queue included.
    pub(crate) timeout: Duration,
}

/// Threads with a worker each, and what waits for them.
pub(crate) struct Pool<W> {
    shared: Arc<Shared<W>>,
    size: PoolSize,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<W> {
    queue: Mutex<Queue<W>>,
    arrived: Condvar,
    ended: Condvar,
}

struct Queue<W> {
    jobs: VecDeque<Job<W>>,
    closed: bool,
    /// Threads that have not ended.
    threads: usize,
}

/// What a thread does with its worker. Whoever drops a job unrun answers nothing.
struct Job<W> {
    work: Box<dyn FnOnce(&mut W) + Send>,
    /// Whether somebody still waits.
    wanted: Box<dyn Fn() -> bool + Send>,
}

impl<W: Send + 'static> Pool<W> {
    /// Starts the threads; `worker` makes each one's own worker, and again after a panic.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(
        size: PoolSize,
        worker: impl Fn() -> W + Send + Sync + 'static,
    ) -> Result<Self, io::Error> {
        let queue = Queue { jobs: VecDeque::with_capacity(size.queue), closed: false, threads: 0 };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            arrived: Condvar::new(),
            ended: Condvar::new(),
        });
        let mut pool = Self { shared, size, threads: Vec::with_capacity(size.threads) };
        let worker = Arc::new(worker);
        for number in 0..size.threads {
            let (shared, worker) = (Arc::clone(&pool.shared), Arc::clone(&worker));
            let thread = thread::Builder::new().name(format!("pkcs11-{number}"));
            lock(&pool.shared.queue).threads += 1;
            match thread.spawn(move || shared.serve(worker.as_ref())) {
                Ok(thread) => pool.threads.push(thread),
                Err(error) => {
                    lock(&pool.shared.queue).threads -= 1;
                    return Err(error);
                }
            }
        }
        Ok(pool)
    }

    /// Runs work on one of the threads and waits for its answer.
    ///
    /// # Errors
    /// [`KeyError::Busy`] when the queue is full, or the work had not begun in time; [`KeyError::BackendDown`] when it
    /// had, and did not end in time; [`KeyError::Transient`] when it panicked; and what the work answers.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut W) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, KeyError> {
        let (tell, told) = oneshot::channel();
        let tell = Arc::new(Mutex::new(Some(tell)));
        let (waiting, begun) = (Arc::clone(&tell), Arc::new(AtomicBool::new(false)));
        let begins = Arc::clone(&begun);
        let job = Job {
            work: Box::new(move |worker| {
                begins.store(true, Ordering::Release);
                let tell = lock(&tell).take();
                let answer = work(worker);
                // A caller that has gone does not read it.
                let _ = tell.map(|tell| tell.send(answer));
            }),
            wanted: Box::new(move || lock(&waiting).as_ref().is_some_and(|tell| !tell.is_closed())),
        };
        self.shared.push(job, self.size.queue)?;
        match tokio::time::timeout(self.size.timeout, told).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(KeyError::Transient {
                detail: "a thread of the token's pool failed".to_owned(),
            }),
            Err(_) if begun.load(Ordering::Acquire) => {
                let waited = self.size.timeout.as_millis();
                let detail = format!(
                    "the token gave no answer within {waited} ms; look at the token and its network"
                );
                Err(KeyError::BackendDown { detail })
            }
            Err(_) => Err(KeyError::Busy { retry_after: BUSY_FOR }),
        }
    }

    /// How many calls wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.shared.queue).jobs.len()
    }

    pub(crate) const fn size(&self) -> PoolSize {
        self.size
    }
}

impl<W> Shared<W> {
    fn push(&self, job: Job<W>, most: usize) -> Result<(), KeyError> {
        let mut queue = lock(&self.queue);
        if queue.jobs.len() >= most {
            queue.jobs.retain(|job| (job.wanted)());
        }
        if queue.jobs.len() >= most {
            return Err(KeyError::Busy { retry_after: BUSY_FOR });
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.arrived.notify_one();
        Ok(())
    }

    fn serve(&self, make: &(impl Fn() -> W + ?Sized)) {
        let mut worker = make();
        while let Some(job) = self.next() {
            // What panicked may have left its worker in any state: the next job gets a new one.
            if catch_unwind(AssertUnwindSafe(|| (job.work)(&mut worker))).is_err() {
                worker = make();
            }
        }
        drop(worker);
        lock(&self.queue).threads -= 1;
        self.ended.notify_all();
    }

    /// The next job that somebody waits for; none when the pool is gone.
    fn next(&self) -> Option<Job<W>> {
        let mut queue = lock(&self.queue);
        loop {
            match queue.jobs.pop_front() {
                Some(job) if (job.wanted)() => return Some(job),
                Some(_) => {}
                None if queue.closed => return None,
                None => queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Waits for the threads: were one still in the module when the process ends, the module's own end could crash under
/// it. They are idle as a rule, and gone within milliseconds.
impl<W> Drop for Pool<W> {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.closed = true;
        // Their callers borrow the pool, so they are gone.
        queue.jobs.clear();
        self.shared.arrived.notify_all();
        let ended =
            self.shared.ended.wait_timeout_while(queue, END_WITHIN, |queue| queue.threads > 0);
        let (queue, waited) = ended.unwrap_or_else(PoisonError::into_inner);
        drop(queue);
        if waited.timed_out() {
            tracing::warn!("a thread hangs in the PKCS#11 module and is left behind");
            return;
        }
        for thread in self.threads.drain(..) {
            // A panic outside of a job: there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl<W> fmt::Debug for Pool<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("size", &self.size).finish_non_exhaustive()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
