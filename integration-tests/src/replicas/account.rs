//! The account from outside: every certificate that a client was given must be among the rows of some server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use trust::{Serial, Timestamp};

use crate::mesh::{Received, Rows};

/// How often rows are read: a server may lose its disk, and drops rows that have ended.
const EVERY: Duration = Duration::from_secs(4);

/// What the rows of all servers were, as often as they were read, and since when each root may have no leaf.
#[derive(Debug)]
pub struct Account {
    seen: Arc<Mutex<Seen>>,
    ledgers: Vec<PathBuf>,
    _reading: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    rows: BTreeSet<Serial>,
    /// By the name of a root, in DER.
    withdrawn: BTreeMap<Vec<u8>, Timestamp>,
}

/// What came of a test, as it was counted from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Handshakes of two sides whose leaves lived for as long as it took.
    pub handshakes: u64,
    /// Those of them that failed.
    pub failed: usize,
    /// Certificates that clients were given.
    pub received: usize,
    /// Those of them that are in no row.
    pub uncounted: usize,
    /// Those of them that were given under a root that no leaf might live under any more.
    pub of_retired: usize,
    /// The longest rotation.
    pub rotation: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handshakes, failed, received, uncounted, of_retired, rotation } = self;
        write!(
            f,
            "handshakes {handshakes}, failed {failed}, received {received}, uncounted {uncounted}, of a retired root \
             {of_retired}, longest rotation {:.1} s",
            rotation.as_secs_f32()
        )
    }
}

impl Figures {
    /// That nothing went wrong, and something happened.
    ///
    /// # Errors
    /// Names what did.
    pub fn verdict(&self) -> anyhow::Result<()> {
        let Self { handshakes, failed, received, uncounted, of_retired, .. } = self;
        anyhow::ensure!(*handshakes > 0 && *received > 0, "nothing was counted: {self}");
        anyhow::ensure!(*failed == 0 && *uncounted == 0 && *of_retired == 0, "{self}");
        Ok(())
    }
}

impl Account {
    /// Reads the rows in these folders again and again.
    pub fn of(ledgers: Vec<PathBuf>) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let (into, folders) = (Arc::clone(&seen), ledgers.clone());
        let reading = tokio::spawn(async move {
            loop {
                read(&folders, &into).await;
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { seen, ledgers, _reading: AbortOnDropHandle::new(reading) }
    }

    /// From now on no leaf may live under the root of this name.
    pub fn withdrawn(&self, root_subject: Vec<u8>, at: Timestamp) {
        lock(&self.seen).withdrawn.entry(root_subject).or_insert(at);
    }

    /// Reads the rows now.
    pub async fn read(&self) {
        read(&self.ledgers, &self.seen).await;
    }

    /// Compares what clients were given with the rows.
    pub async fn compare(&self, received: &Received) -> Figures {
        self.read().await;
        let (all, seen) = (received.all(), lock(&self.seen));
        let uncounted: Vec<_> =
            all.iter().filter(|(serial, _)| !seen.rows.contains(*serial)).collect();
        let of_retired: Vec<_> = all
            .iter()
            .filter(|(_, leaf)| {
                seen.withdrawn.get(&leaf.root_subject).is_some_and(|at| leaf.at > *at)
            })
            .collect();
        for (what, leaves) in [("in no row", &uncounted), ("of a retired root", &of_retired)] {
            for (serial, leaf) in leaves {
                println!("{what}: {serial} of {}, given at {}", leaf.identity, leaf.at);
            }
        }
        Figures {
            received: all.len(),
            uncounted: uncounted.len(),
            of_retired: of_retired.len(),
            ..Figures::default()
        }
    }
}

async fn read(ledgers: &[PathBuf], seen: &Mutex<Seen>) {
    for ledger in ledgers {
        let ledger = ledger.clone();
        // One that is not there yet, or lost its disk, has none.
        if let Ok(Ok(rows)) = tokio::task::spawn_blocking(move || Rows::read(&ledger)).await {
            lock(seen).rows.extend(rows.intents.into_keys());
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
