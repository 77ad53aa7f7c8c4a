//! Places at the webhook's port, which everybody in the cluster may reach: nobody keeps one from an API server by doing nothing.
//!
//! When all places are taken, the oldest connection goes that has not brought its review yet, of the source that has the most
//! connections; when as many reviews are being read as may be, the oldest of those likewise. So whoever opens many loses their own,
//! and an API server, which brings its review at once, loses none.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// All places of the port.
#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    last: u64,
    /// In the order in which they came.
    all: BTreeMap<u64, Guest>,
}

struct Guest {
    source: IpAddr,
    progress: Progress,
    ends: CancellationToken,
}

/// One that is taken; free again when it is dropped.
pub(super) struct Place {
    number: u64,
    taken: Arc<Mutex<Taken>>,
    /// Ends the connection.
    pub(super) ends: CancellationToken,
    pub(super) progress: Progress,
    _permit: OwnedSemaphorePermit,
}

/// How far a connection has come.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

const IDLE: u8 = 0;
const READS: u8 = 1;
const REVIEWS: u8 = 2;

impl Progress {
    /// Its review is being read.
    pub(super) fn reads(&self) {
        self.0.store(READS, Ordering::Relaxed);
    }

    /// All of it is here.
    pub(super) fn reviews(&self) {
        self.0.store(REVIEWS, Ordering::Relaxed);
    }

    fn is(&self, one_of: &[u8]) -> bool {
        one_of.contains(&self.0.load(Ordering::Relaxed))
    }
}

impl Places {
    pub(super) fn new(places: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(places)), taken: Arc::default() }
    }

    /// A place for a connection that has come; waits only while all others bring reviews.
    pub(super) async fn take(&self, source: IpAddr) -> Option<Place> {
        let permit = match Arc::clone(&self.free).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.end_one(&[IDLE, READS]);
                Arc::clone(&self.free).acquire_owned().await.ok()?
            }
        };
        let (progress, ends) = (Progress::default(), CancellationToken::new());
        let mut taken = lock(&self.taken);
        taken.last += 1;
        let number = taken.last;
        let guest = Guest { source, progress: progress.clone(), ends: ends.clone() };
        taken.all.insert(number, guest);
        let taken = Arc::clone(&self.taken);
        Some(Place { number, taken, ends, progress, _permit: permit })
    }

    /// So many reviews are being read that no other can be.
    pub(super) fn end_one_that_reads(&self) {
        self.end_one(&[READS]);
    }

    /// Ends one that has come so far. One that was told to end already is on its way.
    fn end_one(&self, one_of: &[u8]) {
        let taken = lock(&self.taken);
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for guest in taken.all.values() {
            *counts.entry(guest.source).or_default() += 1;
        }
        let may_go = |guest: &&Guest| guest.progress.is(one_of) && !guest.ends.is_cancelled();
        // Of equals the last is taken, which is the oldest.
        let all = taken.all.values().filter(may_go).rev();
        if let Some(goes) = all.max_by_key(|guest| counts.get(&guest.source).copied()) {
            goes.ends.cancel();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).all.remove(&self.number);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn from(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test(start_paused = true)]
    async fn who_opens_many_loses_its_own_and_one_that_brings_a_review_stays() {
        let places = Places::new(4);
        let server = places.take(from(1)).await.unwrap();
        let mut crowd = Vec::new();
        for _ in 0..3 {
            crowd.push(places.take(from(2)).await.unwrap());
        }
        crowd[0].progress.reviews();
        // The server has come first, but others have more; of those the first brings a review.
        let waits = places.take(from(3));
        tokio::pin!(waits);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut waits).await.is_err());
        let ended: Vec<_> = crowd.iter().map(|place| place.ends.is_cancelled()).collect();
        assert_eq!((ended, server.ends.is_cancelled()), (vec![false, true, false], false));
        drop(crowd.remove(1));
        let third = waits.await.unwrap();
        // Of equals the oldest goes.
        drop(crowd.pop());
        let _again = places.take(from(1)).await.unwrap();
        let waits = places.take(from(4));
        tokio::pin!(waits);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut waits).await.is_err());
        assert!(server.ends.is_cancelled() && !third.ends.is_cancelled());
    }

    #[tokio::test]
    async fn of_those_that_read_the_oldest_of_the_largest_crowd_goes() {
        let places = Places::new(8);
        let server = places.take(from(1)).await.unwrap();
        server.progress.reads();
        let idle = places.take(from(2)).await.unwrap();
        let (slow, slower) =
            (places.take(from(2)).await.unwrap(), places.take(from(2)).await.unwrap());
        slow.progress.reads();
        slower.progress.reads();
        places.end_one_that_reads();
        let ended = [&server, &idle, &slow, &slower].map(|place| place.ends.is_cancelled());
        assert_eq!(ended, [false, false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn while_all_bring_reviews_the_next_one_waits() {
        let places = Places::new(1);
        let busy = places.take(from(1)).await.unwrap();
        busy.progress.reviews();
        let waits = places.take(from(2));
        tokio::pin!(waits);
        assert!(tokio::time::timeout(Duration::from_secs(60), &mut waits).await.is_err());
        assert!(!busy.ends.is_cancelled());
        drop(busy);
        assert!(waits.await.is_some());
    }
}
