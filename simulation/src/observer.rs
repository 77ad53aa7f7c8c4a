//! Who stands outside and sees everything: what is in the store, what was released, what each holder trusts and presents. It
//! knows the rules that must hold, and says which one is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt as _;
use ledger::Ledger;
use rotation::{Contents, SegmentId, SegmentState, State, invariants};
use rotation_driver::{RecordStore as _, SharedRecord};
use stores::Key;
use stores::spaces::{RECORD, REPLICAS};
use trust::{Bundle, Clock as _, RootId, Serial, Timestamp, Validity};

use crate::machine::Machine;
use crate::run::{Run, locked};
use crate::settings::{HANDSHAKE_MAX, LEASE};
use crate::store::{Central, Truth};

/// Who observes.
#[derive(Debug)]
pub(crate) struct Observer {
    run: Arc<Run>,
    central: Arc<Central>,
    seen: Mutex<Seen>,
}

impl Observer {
    pub(crate) fn new(run: Arc<Run>, central: Arc<Central>) -> Self {
        Self { run, central, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        locked(&self.seen)
    }

    /// What is in the store.
    pub(crate) fn state(&self) -> Option<Arc<State>> {
        self.seen().state.clone()
    }
}

/// What the observer knows.
#[derive(Debug, Default)]
struct Seen {
    /// What is in the store.
    state: Option<Arc<State>>,
    /// Each bundle that anybody was shown, by its sequence.
    digests: BTreeMap<u64, String>,
    released: BTreeMap<Serial, Released>,
    holders: BTreeMap<u64, Holder>,
    /// When the store last took the row of each server.
    renewed: BTreeMap<String, Duration>,
}

#[derive(Debug)]
struct Released {
    segment: SegmentId,
    not_after: Timestamp,
}

/// A leaf that a holder may present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) serial: Serial,
    pub(crate) root: RootId,
    pub(crate) validity: Validity,
    /// Sequence of the bundle that it was born under.
    pub(crate) born: u64,
}

/// A member of the mesh, as others meet it.
#[derive(Debug)]
struct Holder {
    name: String,
    /// By how much its wall clock is ahead, in seconds.
    ahead: i64,
    trust: Vec<Period<BTreeSet<RootId>>>,
    leaf: Vec<Period<Leaf>>,
}

/// What was so until a time: a handshake that began before may still rest on it.
#[derive(Debug)]
struct Period<T> {
    what: T,
    until: Option<Duration>,
}

impl<T> Period<T> {
    fn is_in_flight(&self, now: Duration) -> bool {
        self.until.is_none_or(|until| until + HANDSHAKE_MAX >= now)
    }
}

/// How a holder was just before it changed.
#[derive(Clone, Copy)]
struct Before {
    now: Duration,
    was_member: bool,
}

/// What was so before is in flight for a while; of one that was no member nothing is.
fn replace<T>(periods: &mut Vec<Period<T>>, what: T, before: Before) {
    periods.retain(|period| before.was_member && period.is_in_flight(before.now));
    periods.iter_mut().for_each(|period| period.until = Some(period.until.unwrap_or(before.now)));
    periods.push(Period { what, until: None });
}

impl Holder {
    /// Whether by this one's clock a leaf is good at a true time.
    fn finds_valid(&self, leaf: &Leaf, now: Timestamp) -> bool {
        leaf.validity.contains(Timestamp::from_secs(now.as_secs() + self.ahead))
    }

    /// Leaves that it may present in a handshake now, as far as it finds them valid.
    fn presents(&self, now: Duration, at: Timestamp) -> impl Iterator<Item = &Leaf> {
        let flying = self.leaf.iter().filter(move |leaf| leaf.is_in_flight(now));
        flying.map(|leaf| &leaf.what).filter(move |leaf| self.finds_valid(leaf, at))
    }

    fn trusts(&self, now: Duration) -> impl Iterator<Item = &BTreeSet<RootId>> {
        self.trust.iter().filter(move |trust| trust.is_in_flight(now)).map(|trust| &trust.what)
    }

    fn is_member(&self, now: Duration, at: Timestamp) -> bool {
        self.presents(now, at).next().is_some() && self.trusts(now).next().is_some()
    }
}

/// A holder is there.
pub(crate) fn holder_comes(observer: &Observer, id: u64, name: &str, ahead: i64) {
    let holder = Holder { name: name.to_owned(), ahead, trust: Vec::new(), leaf: Vec::new() };
    observer.seen().holders.insert(id, holder);
}

/// A holder's process has ended.
pub(crate) fn holder_goes(observer: &Observer, id: u64) {
    observer.seen().holders.remove(&id);
}

/// A holder trusts other roots from now on.
pub(crate) fn trusts(observer: &Observer, id: u64, roots: BTreeSet<RootId>) {
    let (now, at) = (observer.run.elapsed(), observer.run.true_clock.now());
    if let Some(holder) = observer.seen().holders.get_mut(&id) {
        let before = Before { now, was_member: holder.is_member(now, at) };
        replace(&mut holder.trust, roots, before);
    }
    shake_hands(observer, id);
}

/// A holder presents another leaf from now on.
pub(crate) fn presents(observer: &Observer, id: u64, leaf: Leaf) {
    let (now, at) = (observer.run.elapsed(), observer.run.true_clock.now());
    if let Some(holder) = observer.seen().holders.get_mut(&id) {
        let before = Before { now, was_member: holder.is_member(now, at) };
        replace(&mut holder.leaf, leaf, before);
    }
    shake_hands(observer, id);
}

/// A holder trusts other roots and presents another leaf, from one moment on.
pub(crate) fn installs(observer: &Observer, id: u64, roots: BTreeSet<RootId>, leaf: Leaf) {
    let (now, at) = (observer.run.elapsed(), observer.run.true_clock.now());
    if let Some(holder) = observer.seen().holders.get_mut(&id) {
        let before = Before { now, was_member: holder.is_member(now, at) };
        replace(&mut holder.trust, roots, before);
        replace(&mut holder.leaf, leaf, before);
    }
    shake_hands(observer, id);
}

/// Whoever meets this holder now, with what both pinned or sent within the longest handshake: each must trust the other.
fn shake_hands(observer: &Observer, id: u64) {
    let (now, at) = (observer.run.elapsed(), observer.run.true_clock.now());
    let seen = observer.seen();
    let Some(one) = seen.holders.get(&id) else { return };
    let (mut hands, mut failed) = (0, None);
    for (_, other) in seen.holders.iter().filter(|(other, _)| **other != id) {
        if !one.is_member(now, at) || !other.is_member(now, at) {
            continue;
        }
        for (shows, judges) in [(one, other), (other, one)] {
            for leaf in shows.presents(now, at).filter(|leaf| judges.finds_valid(leaf, at)) {
                for roots in judges.trusts(now) {
                    hands += 1;
                    if !roots.contains(&leaf.root) {
                        failed = Some(format!(
                            "handshake: {} presents a leaf of root {} born at {}, and {} does not trust it",
                            shows.name,
                            leaf.root.short(),
                            leaf.born,
                            judges.name
                        ));
                    }
                }
            }
        }
    }
    drop(seen);
    observer.run.count(|counts| counts.handshakes += hands);
    if let Some(failed) = failed {
        observer.run.violated(failed);
    }
}

/// Somebody was shown a bundle.
pub(crate) fn shown(observer: &Observer, bundle: &Bundle) {
    let (sequence, digest) = (bundle.sequence().0, bundle.digest().to_string());
    let known = observer.seen().digests.entry(sequence).or_insert_with(|| digest.clone()).clone();
    if known != digest {
        observer.run.violated(format!("sequence {sequence} has two digests"));
    }
}

/// A server lets something go: others may not take its lease for passed.
pub(crate) fn lets_go(observer: &Observer, machine: &Machine) {
    let renewed = observer.seen().renewed.get(&machine.to_string()).copied();
    if renewed.is_none_or(|renewed| observer.run.elapsed() > renewed + LEASE) {
        observer.run.violated(format!("{machine} releases something without a lease"));
    }
}

/// A leaf left a server.
pub(crate) fn released(observer: &Observer, segment: &SegmentId, leaf: &Leaf) {
    observer.run.count(|counts| counts.leaves += 1);
    let (segment, not_after) = (segment.clone(), leaf.validity.not_after());
    let state = observer.state();
    let Some(state) = state else {
        return observer.run.violated("a leaf was released before there was a record".to_owned());
    };
    let at = observer.run.true_clock.now();
    if not_after >= at
        && let Some(what) = uncounted(&state, &segment, leaf)
    {
        observer.run.violated(format!("{what}: a leaf of {segment} until {not_after}"));
    }
    observer.seen().released.insert(leaf.serial, Released { segment, not_after });
}

/// What of the record does not allow for a leaf.
fn uncounted(state: &State, segment: &SegmentId, leaf: &Leaf) -> Option<&'static str> {
    let not_after = leaf.validity.not_after();
    let Some(root) = state.roots.get(&leaf.root) else {
        return Some("released under a root that is not known");
    };
    if root.state.is_retired() {
        return Some("released under a retired root");
    }
    if root.horizon.is_none_or(|horizon| horizon < not_after) {
        return Some("released past the horizon");
    }
    let Some(counted) = state.segments.get(segment) else {
        return Some("released into a segment that is forgotten");
    };
    if counted.bounds.get(&leaf.root).is_none_or(|bound| *bound < not_after) {
        return Some("released past the bound of its segment");
    }
    // One that was closed unread counts as full until its bounds.
    let read = matches!(counted.state, SegmentState::Closed(Contents::Read));
    read.then_some("released into a segment whose rows count as known")
}

/// A server has read its ledger at its start: what it released must be there, if it says that it has read the segment.
pub(crate) fn recovered(
    observer: &Observer,
    machine: &Machine,
    ledger: &Ledger,
    read: &BTreeSet<SegmentId>,
) {
    let at = observer.run.true_clock.now();
    let seen = observer.seen();
    let lost = seen.released.iter().find(|(serial, released)| {
        released.not_after >= at
            && read.contains(&released.segment)
            && ledger.find(serial).is_none()
    });
    let lost = lost.map(|(serial, released)| {
        format!("{machine} released leaf {serial} into {} and has no row of it", released.segment)
    });
    drop(seen);
    if let Some(lost) = lost {
        observer.run.violated(lost);
    }
}

/// A key of the store was written.
pub(crate) fn wrote(observer: &Observer, key: &Key) {
    if key.space() == REPLICAS {
        let now = observer.run.elapsed();
        observer.seen().renewed.insert(key.id().to_owned(), now);
    }
    if key.space() != RECORD {
        return;
    }
    let record = SharedRecord::new(Arc::new(Truth(Arc::clone(&observer.central))));
    let Some(Ok(Some(stored))) = record.load().now_or_never() else {
        return observer.run.violated("the record cannot be read".to_owned());
    };
    match rotation::record::decode(&stored.record) {
        Ok(state) => moved(observer, state),
        Err(error) => observer.run.violated(format!("the record cannot be read: {error}")),
    }
}

/// The record is another one now.
fn moved(observer: &Observer, next: State) {
    let former = observer.state();
    let next = Arc::new(next);
    observer.seen().state = Some(Arc::clone(&next));
    let Some(former) = former else { return };
    if next.generation == former.generation && *next == *former {
        return;
    }
    if next.generation.0 != former.generation.0 + 1 {
        let (from, to) = (former.generation.0, next.generation.0);
        return observer.run.violated(format!("the record went from generation {from} to {to}"));
    }
    if let Err(violation) = invariants::check_next(&former, &next) {
        return observer.run.violated(violation.to_string());
    }
    if former.phase.name() != next.phase.name() {
        let (from, to) = (former.phase.name(), next.phase.name());
        observer.run.note(&"record", &format_args!("{} {from} -> {to}", next.generation.0));
    }
    if next.phase.is_steady() && former.phase.rotation().is_some() {
        observer.run.count(|counts| counts.rotations += 1);
    }
    gates(observer, &former, &next);
}

/// What must be so at the moment at which another root signs, and at which a root leaves the bundle.
fn gates(observer: &Observer, former: &State, next: &State) {
    let (now, at) = (observer.run.elapsed(), observer.run.true_clock.now());
    let signs = next.signing_root().filter(|root| former.signing_root() != Some(*root));
    let (before, after) = (former.bundle(), next.bundle());
    let gone: BTreeSet<_> = before.keys().filter(|root| !after.contains_key(root)).collect();
    let seen = observer.seen();
    let mut violation = None;
    for holder in seen.holders.values().filter(|holder| holder.is_member(now, at)) {
        if let Some(root) = signs
            && former.signing_root().is_some()
            && !holder.trusts(now).all(|roots| roots.contains(&root))
        {
            let (name, root) = (&holder.name, root.short());
            violation = Some(format!("root {root} signs and {name} does not trust it"));
        }
        if let Some(leaf) = holder.presents(now, at).find(|leaf| gone.contains(&leaf.root)) {
            let (name, root) = (&holder.name, leaf.root.short());
            violation = Some(format!("root {root} leaves the bundle and {name} has a leaf of it"));
        }
    }
    drop(seen);
    if let Some(violation) = violation {
        observer.run.violated(violation);
    }
}

/// Holders that have no good leaf now.
pub(crate) fn without_leaf(observer: &Observer) -> Vec<String> {
    let (now, at) = (observer.run.elapsed(), observer.run.true_clock.now());
    let seen = observer.seen();
    let lacking = seen.holders.values().filter(|holder| !holder.is_member(now, at));
    lacking.map(|holder| holder.name.clone()).collect()
}
