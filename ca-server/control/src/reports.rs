//! What the rows of each replica say, told to the others: a gate rests on all of them.
//!
//! Each replica writes a report of its own segment into the space `segments`, every second or two while a phase ends at a gate. The
//! replica that leads adds them up. A report that is not seen to be renewed counts as none: then only the bound of its
//! segment decides. The last report of a replica that was drained stays, for its rows live on.

mod wire;

pub use wire::Report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rotation::SegmentId;
use stores::spaces::SEGMENTS;
use stores::{Hints, Key, SharedStore, WriteError, settle};
use tokio::sync::watch;
use trust::{Clock, Generation};

use crate::counts::Counts;

/// A report that was not seen to be renewed for so long counts as none.
pub const FRESH: Duration = Duration::from_secs(10);
/// How often all reports are read although nobody said that one changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

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
        let Ok(entries) = settle::all(self.store.as_ref(), SEGMENTS).await else { return };
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
    for entry in settle::all(store, SEGMENTS).await.ok()? {
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

#[cfg(test)]
mod tests {
    use host::RealDisk;
    use stores_redb::RedbStore;
    use trust::{ManualClock, Timestamp};

    use super::*;

    async fn within<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), what).await.unwrap()
    }

    #[tokio::test]
    async fn a_report_is_seen_by_the_others_until_it_is_forgotten_and_one_that_was_edited_is_named()
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let store: Arc<dyn SharedStore> =
            Arc::new(RedbStore::create(Arc::new(RealDisk), &path).unwrap());
        let segment = |name: &str| name.parse::<SegmentId>().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let (told, mut seen) = watch::channel(Arc::<Reports>::default());
        tokio::spawn(watch_reports(Arc::clone(&store), segment("b-1"), clock, told));

        let mut reporter = Reporter::new(Arc::clone(&store), &segment("a-1")).unwrap();
        let read = BTreeMap::from([(segment("a-1"), Generation(4))]);
        reporter.report(read.clone(), Counts::default(), false).await.unwrap();
        reporter.report(read.clone(), Counts::default(), true).await.unwrap();
        let last = |reports: &Arc<Reports>| {
            reports.seen.values().any(|seen| seen.report.number == 2 && seen.report.is_last)
        };
        let reports = within(seen.wait_for(last)).await.unwrap().clone();
        assert_eq!(reports.seen[&segment("a-1")].report.read, read);

        let key = SEGMENTS.key("c-1").unwrap();
        store.create(&key, b"{}").await.unwrap();
        let named = |reports: &Arc<Reports>| {
            reports.unreadable.iter().any(|said| said.contains("segments/c-1"))
        };
        within(seen.wait_for(named)).await.unwrap();
        // Its own is no report of another.
        Reporter::new(Arc::clone(&store), &segment("b-1"))
            .unwrap()
            .report(BTreeMap::new(), Counts::default(), false)
            .await
            .unwrap();
        reporter.forget(|id| *id == segment("b-1")).await;
        let none =
            |reports: &Arc<Reports>| reports.seen.is_empty() && reports.unreadable.is_empty();
        within(seen.wait_for(none)).await.unwrap();
        assert!(store.get(&SEGMENTS.key("b-1").unwrap()).await.unwrap().is_some());
    }
}
