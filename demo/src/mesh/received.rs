//! Every certificate that a workload received, compared from outside with the rows of all servers: one without a row was
//! released uncounted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use console::admin_socket;
use host::SystemClock;
use proto::banyan::admin::v1::ListLeavesRequest;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use trust::{Certificate, Clock as _, Serial, Timestamp};

/// How often the rows are read.
const EVERY: Duration = Duration::from_millis(500);
/// Longest wait for one server, which may be dead or paused.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long servers that are all up may take, on a busy machine, to show the last rows.
const SHOWN_WITHIN: Duration = Duration::from_secs(20);

/// What workloads received. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Received(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    /// Not found in a row yet, with their ends.
    open: BTreeMap<Serial, Timestamp>,
    /// Those of them that were in no row when all servers were asked while they lived: a row is there before its certificate.
    missing: BTreeSet<Serial>,
    counted: BTreeSet<Serial>,
    /// Certificates so far.
    total: u64,
}

impl Received {
    /// A workload received this certificate.
    pub(super) fn note(&self, leaf: &Certificate) {
        let Some(serial) = leaf.serial() else { return };
        let mut seen = self.seen();
        if !seen.counted.contains(&serial) && !seen.open.contains_key(&serial) {
            seen.total += 1;
            seen.open.insert(serial, leaf.validity().not_after());
        }
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.seen().total
    }

    /// How many were in no row of any server, or live and could not be looked for yet.
    pub fn uncounted(&self) -> u64 {
        let (seen, now) = (self.seen(), SystemClock.now());
        let looked_for =
            |(serial, ends): &(&Serial, &Timestamp)| **ends > now || seen.missing.contains(*serial);
        seen.open.iter().filter(looked_for).count() as u64
    }

    /// How many ended before the rows of all servers could be read, as when one was dead for so long: their rows are over, too.
    pub fn unread(&self) -> u64 {
        let uncounted = self.uncounted();
        (self.seen().open.len() as u64).saturating_sub(uncounted)
    }

    /// Reads the rows of all servers again and again, until the handle is aborted.
    pub fn watch(&self, sockets: Vec<PathBuf>) -> JoinHandle<()> {
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                this.compare(&sockets).await;
                tokio::time::sleep(EVERY).await;
            }
        })
    }

    /// Reads the rows until each certificate was found in one, for as long as servers may take that are all up.
    pub async fn compare_last(&self, sockets: &[PathBuf]) {
        let until = Instant::now() + SHOWN_WITHIN;
        self.compare(sockets).await;
        while self.uncounted() > 0 && Instant::now() < until {
            tokio::time::sleep(EVERY).await;
            self.compare(sockets).await;
        }
    }

    /// Reads the rows of all servers that answer.
    async fn compare(&self, sockets: &[PathBuf]) {
        let asked: Vec<_> = self.seen().open.keys().copied().collect();
        let mut all = true;
        for socket in sockets {
            // Who is dead now is asked again when it is back.
            let rows = tokio::time::timeout(ANSWER_WITHIN, rows(socket)).await;
            let Ok(Ok(rows)) = rows else {
                all = false;
                continue;
            };
            let mut seen = self.seen();
            for serial in rows {
                if seen.open.remove(&serial).is_some() {
                    seen.counted.insert(serial);
                }
            }
        }
        if all {
            let (mut seen, now) = (self.seen(), SystemClock.now());
            let lives = |serial: &Serial| seen.open.get(serial).is_some_and(|ends| *ends > now);
            let missing: Vec<_> = asked.into_iter().filter(lives).collect();
            seen.missing.extend(missing);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn rows(socket: &Path) -> anyhow::Result<Vec<Serial>> {
    let mut client = admin_socket::leaves(socket).await?;
    let (mut serials, mut after) = (Vec::new(), Vec::new());
    loop {
        // One that was given up meanwhile was counted, too.
        let asked = ListLeavesRequest { after, ended: true, ..ListLeavesRequest::default() };
        let page = client.list_leaves(asked).await?.into_inner();
        serials.extend(page.leaves.iter().filter_map(|leaf| Serial::from_bytes(&leaf.serial)));
        if page.next.is_empty() {
            return Ok(serials);
        }
        after = page.next;
    }
}
