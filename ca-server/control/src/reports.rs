//! What the rows of each replica say, told to the others: a gate rests on all of them.
//!
//! Each replica writes a report of its own segment into the space `segments`, every second or two while a phase ends at a gate. The
//! replica that leads adds them up. A report that is not seen to be renewed counts as none: then only the bound of its
//! segment decides. The last report of a replica that was drained stays, for its rows live on.

mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rotation::SegmentId;
use stores::{Entry, Hints, Key, ReadError, Sensitivity, SharedStore, Space, WriteError};
use tokio::sync::watch;
use trust::{Clock, Generation};

use crate::counts::Counts;

/// A key for each segment.
const SEGMENTS: Space = Space::new("segments", Sensitivity::Plain);
/// A report that was not seen to be renewed for so long counts as none.
pub const FRESH: Duration = Duration::from_secs(10);
/// How often all reports are read although nobody said that one changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Reports that are read at once: each may be large.
const PAGE: usize = 16;

/// The report of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Counted up at each writing.
    pub number: u64,
    /// Segments whose rows are in the counts, each with the generation at which it was sealed when they were read.
    pub read: BTreeMap<SegmentId, Generation>,
    /// What the rows say.
    pub counts: Counts,
    /// Whether it is the last: the replica has stopped, and its rows only end.
    pub is_last: bool,
}

/// A report that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// It.
    pub report: Report,
    /// The uptime at which it was first seen.
    pub seen_at: Duration,
}

impl Seen {
    /// Whether it counts at this uptime.
    pub fn counts(&self, uptime: Duration) -> bool {
        self.report.is_last || uptime.saturating_sub(self.seen_at) <= FRESH
    }
}

/// The reports of the others, by the segment that each writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reports {
    /// Those that can be read.
    pub seen: BTreeMap<SegmentId, Seen>,
    /// One sentence for each that cannot.
    pub unreadable: Vec<String>,
}

/// Where this replica reports.
#[derive(Debug)]
pub struct Reporter {
    store: Arc<dyn SharedStore>,
    key: Key,
    number: u64,
}

impl Reporter {
    /// Into this store, for the segment that this process writes. `None` if its name makes no key, which no name of a segment does.
    pub fn new(store: Arc<dyn SharedStore>, segment: &SegmentId) -> Option<Self> {
        let key = SEGMENTS.key(segment.as_str()).ok()?;
        Some(Self { store, key, number: 0 })
    }

    /// Writes what is so now in the place of what it wrote before.
    ///
    /// # Errors
    /// What the store said; try again.
    pub async fn report(
        &mut self,
        read: BTreeMap<SegmentId, Generation>,
        counts: Counts,
        is_last: bool,
    ) -> Result<(), WriteError> {
        self.number = self.number.saturating_add(1);
        let report = Report { number: self.number, read, counts, is_last };
        let bytes = wire::encode(&report);
        // Nobody else writes this key, so whatever is there is a former report.
        let there = self.store.get(&self.key).await;
        match there.map_err(|error| WriteError::failed(&self.key, error.to_string()))? {
            Some(former) => self.store.put(&self.key, &bytes, &former.version).await?,
            None => self.store.create(&self.key, &bytes).await?,
        };
        Ok(())
    }

    /// Drops reports of segments that the record no longer has.
    pub async fn forget(&self, is_known: impl Fn(&SegmentId) -> bool) {
        let Ok(entries) = entries(self.store.as_ref()).await else { return };
        for entry in entries {
            let over = SegmentId::parse(&entry.id).is_ok_and(|id| !is_known(&id));
            if let (true, Ok(key)) = (over, SEGMENTS.key(entry.id)) {
                // Another may have been quicker.
                let _ = self.store.delete(&key, &entry.version).await;
            }
        }
    }
}

/// Follows the reports of the others until nobody reads them any more.
pub async fn watch_reports(
    store: Arc<dyn SharedStore>,
    own: SegmentId,
    clock: Arc<dyn Clock>,
    told: watch::Sender<Arc<Reports>>,
) {
    let mut reports = Reports::default();
    let mut hints: Option<Hints> = None;
    while !told.is_closed() {
        if hints.is_none() {
            hints = store.watch(SEGMENTS).await.ok();
        }
        if let Some(next) = read(store.as_ref(), &own, &reports, clock.as_ref()).await {
            reports = next;
            told.send_replace(Arc::new(reports.clone()));
        }
        match &mut hints {
            Some(hints) => {
                tokio::select! {
                    _ = hints.next() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

/// All reports but the own one; `None` when the store does not answer.
async fn read(
    store: &dyn SharedStore,
    own: &SegmentId,
    former: &Reports,
    clock: &dyn Clock,
) -> Option<Reports> {
    let mut next = Reports::default();
    for entry in entries(store).await.ok()? {
        let unreadable = |what: &str| {
            format!(
                "{}/{} was not written by this program ({what}): delete it; its replica writes it again",
                SEGMENTS.name(),
                entry.id
            )
        };
        let Ok(segment) = SegmentId::parse(&entry.id) else {
            next.unreadable.push(unreadable("it names no segment"));
            continue;
        };
        if segment == *own {
            continue;
        }
        match wire::decode(&entry.value) {
            Ok(report) => {
                let known = former.seen.get(&segment);
                let same = known.filter(|known| known.report.number == report.number);
                let seen_at = same.map_or_else(|| clock.uptime(), |known| known.seen_at);
                next.seen.insert(segment, Seen { report, seen_at });
            }
            Err(what) => next.unreadable.push(unreadable(&what)),
        }
    }
    Some(next)
}

async fn entries(store: &dyn SharedStore) -> Result<Vec<Entry>, ReadError> {
    let (mut entries, mut from) = (Vec::new(), None::<String>);
    loop {
        let page = store.list(SEGMENTS, from.as_deref(), PAGE).await?;
        entries.extend(page.entries);
        if !page.more {
            return Ok(entries);
        }
        // The first id behind the last one: no segment has a space in its name.
        from = entries.last().map(|last: &Entry| format!("{} ", last.id));
    }
}
