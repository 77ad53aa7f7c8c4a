//! The signing snapshot: everything that one request must see in one piece, and the cell that hands it out, counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use trust::{Bundle, Certificate, CertificateId, Cohort, Generation, SpiffeId, Timestamp};

use crate::cross::CrossCertificate;
use crate::profile::Bounds;
use crate::signer::Signer;

/// One immutable view of the CA: the bundle, the signer under one of its roots, and the horizon in force.
///
/// A request loads it once and uses it to the end, so the leaf, its chain and the bundle of a reply belong together,
/// and no request ever uses a later horizon than the one that it captured.
#[derive(Debug)]
pub struct Snapshot {
    generation: Generation,
    bundle: Bundle,
    signer: Arc<Signer>,
    horizon: Timestamp,
    peer_verified: AtomicBool,
    /// What is sent behind the signer's chain, for those who trust the former root alone.
    cross: Option<Arc<CrossCertificate>>,
    /// What the leaves of a cohort are signed with, while there is one.
    canary: Option<Box<OfCohort>>,
}

/// The same view of the CA with the signer of a cohort.
#[derive(Debug)]
struct OfCohort {
    cohort: Cohort,
    snapshot: Snapshot,
}

/// A signer whose root is not in the bundle: its leaves would be trusted by nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signer's root is not in the bundle")]
pub struct SignerOutsideBundle;

impl Snapshot {
    /// Puts a snapshot together. `horizon` is the earlier of the root's durable horizon and the bound of the ledger's
    /// segment under that root.
    ///
    /// # Errors
    /// [`SignerOutsideBundle`] if the bundle lacks the signer's root.
    pub fn new(
        generation: Generation,
        bundle: Bundle,
        signer: Arc<Signer>,
        horizon: Timestamp,
    ) -> Result<Self, SignerOutsideBundle> {
        if !bundle.contains(&signer.root()) {
            return Err(SignerOutsideBundle);
        }
        let peer_verified = AtomicBool::new(false);
        Ok(Self { generation, bundle, signer, horizon, peer_verified, cross: None, canary: None })
    }

    /// Has the leaves of a cohort signed by another signer, until a horizon of its own.
    ///
    /// # Errors
    /// [`SignerOutsideBundle`] if the bundle lacks that signer's root.
    pub fn with_canary(
        mut self,
        cohort: Cohort,
        signer: Arc<Signer>,
        horizon: Timestamp,
    ) -> Result<Self, SignerOutsideBundle> {
        let snapshot = Self::new(self.generation, self.bundle.clone(), signer, horizon)?;
        self.canary = Some(Box::new(OfCohort { cohort, snapshot }));
        Ok(self)
    }

    /// Sends a cross certificate behind the chains of leaves of its root, a cohort's or everybody's.
    #[must_use]
    pub fn with_cross(mut self, cross: Option<Arc<CrossCertificate>>) -> Self {
        if let Some(canary) = &mut self.canary {
            let root = canary.snapshot.signer.root();
            canary.snapshot.cross = cross.clone().filter(|cross| cross.root() == root);
        }
        let root = self.signer.root();
        self.cross = cross.filter(|cross| cross.root() == root);
        self
    }

    /// The cross certificate that is sent, to a cohort or to everybody.
    pub fn cross(&self) -> Option<&Arc<CrossCertificate>> {
        let of_cohort = self.canary.as_ref().and_then(|canary| canary.snapshot.cross.as_ref());
        self.cross.as_ref().or(of_cohort)
    }

    /// By its fingerprint.
    pub fn sent_cross(&self) -> Option<CertificateId> {
        self.cross().map(|cross| cross.id())
    }

    /// What is sent behind a leaf: the issuer's certificate, those above it without the root, and the cross certificate if one
    /// is sent.
    pub fn intermediates(&self) -> impl Iterator<Item = &Certificate> {
        let cross = self.cross.iter().map(|cross| cross.certificate());
        self.signer.chain().iter().chain(cross)
    }

    /// The same in PEM, one certificate in each string.
    pub fn intermediates_pem(&self) -> impl Iterator<Item = &str> {
        let cross = self.cross.iter().map(|cross| cross.pem());
        self.signer.intermediates_pem().iter().map(String::as_str).chain(cross)
    }

    /// The signer of a cohort, while there is one.
    pub fn canary_signer(&self) -> Option<&Arc<Signer>> {
        self.canary.as_ref().map(|canary| canary.snapshot.signer())
    }

    /// Version of the record that this snapshot shows.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The bundle; replies carry it whole.
    pub const fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The signer.
    pub const fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }

    /// No leaf of a request that holds this snapshot ends later.
    pub const fn horizon(&self) -> Timestamp {
        self.horizon
    }

    /// The time bounds of a leaf: it outlives nothing that is sent with it.
    pub fn bounds(&self) -> Bounds {
        let signer = self.signer.validity();
        let bound = self.cross.as_ref().and_then(|cross| cross.bound(signer));
        Bounds { signer: bound.unwrap_or(signer), horizon: self.horizon }
    }

    /// Whether a TLS verifier has already accepted a leaf of this snapshot.
    pub(crate) fn is_peer_verified(&self) -> bool {
        self.peer_verified.load(Ordering::Relaxed)
    }

    /// Remembers that a TLS verifier accepted a leaf of this snapshot.
    pub(crate) fn set_peer_verified(&self) {
        self.peer_verified.store(true, Ordering::Relaxed);
    }
}

/// A snapshot that is counted as in use until the last clone of this is dropped.
#[derive(Debug, Clone)]
pub struct CountedSnapshot {
    tracked: Arc<Tracked>,
    /// Whether it is used for a member of the cohort.
    of_cohort: bool,
}

impl CountedSnapshot {
    /// With what the leaves of this identity are signed: it alone decides.
    #[must_use]
    pub fn signing_for(mut self, identity: &SpiffeId) -> Self {
        let canary = self.tracked.snapshot.canary.as_ref();
        self.of_cohort = canary.is_some_and(|canary| canary.cohort.has(identity));
        self
    }

    /// Whether that is the signer of a cohort.
    pub const fn is_of_cohort(&self) -> bool {
        self.of_cohort
    }
}

impl std::ops::Deref for CountedSnapshot {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        let whole = &self.tracked.snapshot;
        match &whole.canary {
            Some(canary) if self.of_cohort => &canary.snapshot,
            _ => whole,
        }
    }
}

/// Hands out the present snapshot and knows which former ones are still in use.
#[derive(Debug)]
pub struct SnapshotCell {
    present: ArcSwap<Tracked>,
    /// Former snapshots that were in use when last looked at. Locked only for list work, never across an await.
    former: Mutex<Vec<(Generation, Weak<Tracked>)>>,
    changed: Arc<Notify>,
}

/// A snapshot of a generation that the cell has left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("snapshot of generation {offered} refused: generation {present} is already served")]
pub struct SnapshotRefused {
    offered: Generation,
    present: Generation,
}

impl SnapshotCell {
    /// Starts with a first snapshot.
    pub fn new(first: Snapshot) -> Self {
        let changed = Arc::new(Notify::new());
        let first = Arc::new(Tracked { snapshot: first, dropped: changed.clone() });
        Self { present: ArcSwap::new(first), former: Mutex::default(), changed }
    }

    /// The present snapshot. Call it once per request, and keep the answer as long as the request lives.
    pub fn load(&self) -> CountedSnapshot {
        CountedSnapshot { tracked: self.present.load_full(), of_cohort: false }
    }

    /// Replaces the present snapshot. Offering the generation that is already served changes nothing, so that a
    /// repeated effect is harmless; unless another cross certificate goes with it, which no generation counts.
    ///
    /// # Errors
    /// [`SnapshotRefused`] for an older generation.
    pub fn swap(&self, next: Snapshot) -> Result<(), SnapshotRefused> {
        let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        let served = self.present.load();
        let (offered, present) = (next.generation, served.snapshot.generation);
        let is_news = offered > present || next.sent_cross() != served.snapshot.sent_cross();
        drop(served);
        if offered < present {
            return Err(SnapshotRefused { offered, present });
        }
        if is_news {
            let next = Arc::new(Tracked { snapshot: next, dropped: self.changed.clone() });
            let left = self.present.swap(next);
            former.retain(|(_, snapshot)| snapshot.strong_count() > 0);
            former.push((present, Arc::downgrade(&left)));
            // The lock goes first: dropping the last count wakes waiters, and they take it.
            drop(former);
            drop(left);
            self.changed.notify_waiters();
        }
        Ok(())
    }

    /// Waits until the cell serves `generation` or a later one and no request holds an earlier snapshot.
    ///
    /// It tests for that state and not for an event: called late or twice, it returns at once.
    pub async fn former_gone(&self, generation: Generation) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the test, so that nothing is missed between test and wait.
            changed.as_mut().enable();
            if self.is_former_gone(generation) {
                return;
            }
            changed.await;
        }
    }

    fn is_former_gone(&self, generation: Generation) -> bool {
        if self.present.load().snapshot.generation < generation {
            return false;
        }
        let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        former.retain(|(_, snapshot)| snapshot.strong_count() > 0);
        former.iter().all(|(former, _)| *former >= generation)
    }
}

/// A snapshot that tells when its last holder is gone.
#[derive(Debug)]
struct Tracked {
    snapshot: Snapshot,
    dropped: Arc<Notify>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.dropped.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::fixture::CaMaterial;

    fn poll<F: Future<Output = ()>>(future: std::pin::Pin<&mut F>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn former_is_gone_only_when_its_last_holder_is() {
        let ca = CaMaterial::new();
        let cell = SnapshotCell::new(ca.snapshot(1));
        let (first, again) = (cell.load(), cell.load());
        cell.swap(ca.snapshot(2)).unwrap();
        let mut gone = Box::pin(cell.former_gone(Generation(2)));
        assert!(!poll(gone.as_mut()));
        drop(first);
        assert!(!poll(gone.as_mut()));
        assert_eq!(again.generation(), Generation(1));
        drop(again);
        assert!(poll(gone.as_mut()));
        assert!(poll(Box::pin(cell.former_gone(Generation(2))).as_mut()), "a level, not an edge");
    }

    #[test]
    fn present_holders_do_not_delay_and_every_former_one_counts() {
        let ca = CaMaterial::new();
        let cell = SnapshotCell::new(ca.snapshot(1));
        let oldest = cell.load();
        cell.swap(ca.snapshot(2)).unwrap();
        cell.swap(ca.snapshot(3)).unwrap();
        let present = cell.load();
        assert!(!poll(Box::pin(cell.former_gone(Generation(3))).as_mut()));
        assert!(!poll(Box::pin(cell.former_gone(Generation(2))).as_mut()));
        drop(oldest);
        assert!(poll(Box::pin(cell.former_gone(Generation(3))).as_mut()));
        drop(present);
    }

    #[test]
    fn a_generation_not_served_yet_is_waited_for() {
        let ca = CaMaterial::new();
        let cell = SnapshotCell::new(ca.snapshot(1));
        let mut gone = Box::pin(cell.former_gone(Generation(2)));
        assert!(!poll(gone.as_mut()));
        cell.swap(ca.snapshot(2)).unwrap();
        assert!(poll(gone.as_mut()));
    }

    #[test]
    fn generations_never_go_back_and_a_repeated_one_changes_nothing() {
        let ca = CaMaterial::new();
        let cell = SnapshotCell::new(ca.snapshot(5));
        let before = cell.load();
        assert!(cell.swap(ca.snapshot(4)).is_err());
        cell.swap(ca.snapshot(5)).unwrap();
        assert!(Arc::ptr_eq(&before.tracked, &cell.load().tracked));
    }

    #[test]
    fn a_signer_outside_the_bundle_makes_no_snapshot() {
        let (ca, other) = (CaMaterial::new(), CaMaterial::new());
        let made = Snapshot::new(Generation(1), other.bundle(1), ca.signer(), Timestamp::MAX);
        assert_eq!(made.err(), Some(SignerOutsideBundle));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn loads_and_swaps_at_once_end_with_no_former_holder() {
        let ca = CaMaterial::new();
        let cell = Arc::new(SnapshotCell::new(ca.snapshot(1)));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let cell = cell.clone();
                tokio::spawn(async move {
                    for _ in 0..2000 {
                        let held = cell.load();
                        tokio::task::yield_now().await;
                        drop(held);
                    }
                })
            })
            .collect();
        for generation in 2..50 {
            cell.swap(ca.snapshot(generation)).unwrap();
            cell.former_gone(Generation(generation)).await;
            assert!(cell.load().generation() >= Generation(generation));
        }
        for reader in readers {
            reader.await.unwrap();
        }
    }
}
