//! What replicas do to the record: each of them may drive.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use rotation::evidence::{RelyingParties, Tally};
use rotation::{Contents, Effect, Event, Evidence, Phase, Policy, Segment, SegmentState, State};
use trust::{Generation, Sequence};

use super::start::{NAMES, issuer};
use super::{C, OVER, Request, Row, Setting, Snapshot, Without, World};
use crate::entities::Root;
use crate::fingerprint::Fingerprints;
use crate::kept::Kept;
use crate::words::{FAR, at, policy, request, root, segment, stepped};

/// The second replica's clock that nobody sets began long before.
const UPTIMES: [u64; 2] = [0, 1_000];

type Answers = HashMap<(Kept<State>, Event, i64, i64), Option<Kept<State>>, Fingerprints>;

thread_local! {
    static KNOWN: RefCell<Answers> = RefCell::default();
}

fn limits(setting: &Setting) -> Policy {
    policy(setting.handshake.unsigned_abs(), 0)
}

impl World {
    /// The record after an event; what the machine said once it says again.
    fn take(&self, event: &Event, setting: &Setting) -> Option<Kept<State>> {
        let key = (self.record, event.clone(), self.tick, setting.handshake);
        if let Some(known) = KNOWN.with_borrow(|known| known.get(&key).copied()) {
            return known;
        }
        let answer = stepped(&self.record, event, self.tick, &limits(setting)).map(Kept::record);
        KNOWN.with_borrow_mut(|known| known.insert(key, answer));
        answer
    }

    fn with(&self, record: Option<Kept<State>>) -> Option<Self> {
        Some(Self { record: record?, ..self.clone() })
    }

    /// Whether a replica runs and reaches the record.
    pub(super) fn acts(&self, who: usize) -> bool {
        self.replicas[who].up && self.replicas[who].connected
    }

    fn is_closed(&self, who: usize) -> bool {
        let own = self.record.segments.get(&segment(self.replicas[who].segment));
        own.is_none_or(Segment::is_closed)
    }
}

/// A replica looks at the record: it raises its bound, serves from what it sees, and seals what it can.
pub(super) fn look(world: &World, setting: &Setting, who: usize) -> Option<World> {
    let mut next = raise(world, setting, who).unwrap_or_else(|| world.clone());
    next = show(&next, who).unwrap_or(next);
    next = seal(&next, setting, who).unwrap_or(next);
    (next != *world).then_some(next)
}

/// A replica raises its bound under the root that signs, once the former one is near.
fn raise(world: &World, setting: &Setting, who: usize) -> Option<World> {
    let (root, own) = (world.record.signing_root()?, segment(world.replicas[who].segment));
    let far = Root::of(root) == Root::B;
    let until = if far { FAR } else { world.tick + setting.bound };
    let present = world.record.leaf_limit(&root, &own);
    if !world.acts(who) || present.is_some_and(|present| present >= at(world.tick)) {
        return None;
    }
    world.with(
        world.take(&Event::HorizonRequested { root, segment: own, until: at(until) }, setting),
    )
}

/// A replica serves from the record as it is now.
fn show(world: &World, who: usize) -> Option<World> {
    let replica = &world.replicas[who];
    let signer = world.record.signer_of(&NAMES[who].parse().unwrap())?;
    let limit = world.record.leaf_limit(&signer.root, &segment(replica.segment))?;
    let snapshot = Snapshot {
        generation: world.record.generation.0,
        bundle: world.bundle(),
        root: Root::of(signer.root),
        limit: limit.as_secs() - 1_000,
    };
    // A newer generation alone is no other world.
    let same = replica.snapshot.is_some_and(|former| {
        Snapshot { generation: former.generation, ..snapshot } == former && !lacks_seal(world, who)
    });
    if !world.acts(who) || same || replica.snapshot == Some(snapshot) {
        return None;
    }
    let mut next = world.clone();
    next.replicas[who].snapshot = Some(snapshot);
    Some(next)
}

fn since(state: &State) -> Option<Generation> {
    state.phase.decided_at()
}

fn lacks_seal(world: &World, who: usize) -> bool {
    let own = world.record.segments.get(&segment(world.replicas[who].segment));
    let sealed = |own: &Segment| match own.state {
        SegmentState::Sealed { generation } => Some(generation) >= since(&world.record),
        _ => false,
    };
    since(&world.record).is_some() && !own.is_some_and(sealed)
}

/// Whatever was released on an older snapshot is in the rows of this replica; and what it owes for all is done.
fn seal(world: &World, setting: &Setting, who: usize) -> Option<World> {
    let (since, replica) = (since(&world.record)?, &world.replicas[who]);
    let is_older = |snapshot: Snapshot| snapshot.generation < since.0;
    let held = matches!(replica.request, Some(Request::Captured(snapshot)) if is_older(snapshot));
    if !world.acts(who) || held || replica.snapshot.is_none_or(is_older) {
        return None;
    }
    let mut next = world.clone();
    for pending in &world.record.pending {
        let event = match pending.effect.clone() {
            Effect::PublishBundle { sequence } => Event::BundlePublished { sequence },
            Effect::SwitchSigner { root, issuer } => Event::SignerSwitched { root, issuer },
            Effect::StageRoot { .. } | Effect::RequestIssuer { .. } => continue,
        };
        next.record = next.take(&event, setting).unwrap_or(next.record);
    }
    let sealed = Event::SegmentSealed { segment: segment(replica.segment), generation: since };
    next.record = next.take(&sealed, setting).unwrap_or(next.record);
    // With its seal a replica writes what its rows say.
    let own = next.rows.iter_mut().filter(|row| usize::from(row.segment) % 2 == who);
    own.for_each(|row| row.reported = Some(row.applied));
    if next.record == world.record {
        return None;
    }
    note_in_force(&mut next, setting);
    Some(next)
}

/// The bundle is in force once it is out, and nobody who may answer has a former one.
pub(super) fn note_in_force(world: &mut World, setting: &Setting) {
    let sequence = world.bundle().sequence;
    let publishes = |effect: &Effect| matches!(effect, Effect::PublishBundle { .. });
    let is_out = !world.record.pending.iter().any(|owed| publishes(&owed.effect));
    let behind = |who: usize| {
        let replica = &world.replicas[who];
        let former = replica.snapshot.is_some_and(|known| known.bundle.sequence < sequence);
        // Others count a lease from when they saw it, which is no earlier.
        replica.up && former && replica.lease > world.tick
    };
    let waits = setting.without != Without::InForceAtAll && (0..2).any(behind);
    if is_out && !waits && world.in_force.is_none_or(|(known, _)| known != sequence) {
        world.in_force = Some((sequence, world.tick));
    }
}

/// One replica reports what all of them say.
pub(super) fn report(world: &World, setting: &Setting, who: usize) -> Option<World> {
    if !world.acts(who) || world.is_closed(who) {
        return None;
    }
    let mut next = world.clone();
    note_in_force(&mut next, setting);
    // Whoever reaches the record has written what its rows say now.
    for replica in (0..2).filter(|replica| world.acts(*replica)) {
        let rows = next.rows.iter_mut();
        rows.filter(|row| usize::from(row.segment) % 2 == replica)
            .for_each(|row| row.reported = Some(row.applied));
    }
    let evidence = evidence(&next, setting, who);
    let event = Event::EvidenceReported { evidence };
    let record = next.take(&event, setting)?;
    next.record = unclosed(&world.record, record, setting);
    Some(next)
}

/// Where a passed bound may come back, a gate closes nothing.
fn unclosed(former: &State, record: Kept<State>, setting: &Setting) -> Kept<State> {
    if setting.without != Without::PassedBound {
        return record;
    }
    let mut state = (*record).clone();
    for (id, segment) in &mut state.segments {
        if let Some(before) = former.segments.get(id).filter(|before| !before.is_closed()) {
            segment.state = before.state;
        }
    }
    Kept::record(state)
}

fn evidence(world: &World, setting: &Setting, who: usize) -> Evidence {
    let sequence = world.bundle().sequence;
    let now = at(world.tick);
    let tally = |wanted: &dyn Fn(&Row, u8) -> bool| {
        let live = world.rows.iter().filter(|row| !limits(setting).has_passed(at(row.end), now));
        let known = live.filter_map(|row| Some((row, row.reported?)));
        known.filter(|(row, applied)| wanted(row, *applied)).fold(
            Tally::default(),
            |tally, (row, _)| Tally {
                count: tally.count + 1,
                latest: tally.latest.max(Some(at(row.end))),
            },
        )
    };
    let lacks =
        |row: &Row, applied: u8| !(row.member == C && row.born >= sequence || applied >= sequence);
    let read = world.record.segments.iter().filter_map(|(id, one)| match one.state {
        SegmentState::Sealed { generation } => Some((id.clone(), generation)),
        SegmentState::Closed(Contents::Read) => Some((id.clone(), Generation(0))),
        _ => None,
    });
    let stale = setting.staleness > 0;
    let known = world.in_force.filter(|(known, _)| *known == sequence);
    let until = known.map_or(FAR, |(_, since)| since + setting.staleness);
    let waits = stale && until >= world.tick;
    let observer =
        (setting.without != Without::Observer).then(|| segment(world.replicas[who].segment));
    Evidence {
        uptime: Duration::from_secs(world.tick.unsigned_abs() + UPTIMES[who]),
        unproven: tally(&lacks),
        live: [Root::A, Root::B].map(|root| (root.id(), tally(&|row, _| row.root == root))).into(),
        read: read.collect(),
        relying_parties: RelyingParties {
            bounded: Tally { count: u64::from(waits), latest: waits.then(|| at(until)) },
            unbounded: 0,
        },
        observer,
        ..Evidence::of_nothing(now, Sequence(u64::from(sequence)))
    }
}

/// A replica that starts, or finds its segment closed: another segment; what it had not written is gone, replies may still
/// be on their way.
pub(super) fn incarnate(world: &World, setting: &Setting, who: usize, has_disk: bool) -> World {
    let mut next = world.clone();
    let former = next.replicas[who].segment;
    let replica = &mut next.replicas[who];
    replica.segment += 2;
    replica.up = true;
    replica.snapshot = None;
    replica.lease = world.tick + setting.lease;
    if !matches!(replica.request, Some(Request::Checked(..))) {
        replica.request = None;
    }
    let opened_as = replica.segment;
    if !has_disk {
        let lost = next.rows.iter_mut().filter(|row| usize::from(row.segment) % 2 == who);
        lost.for_each(|row| row.end = OVER);
    }
    let own = world.record.segments.keys().filter(|id| {
        (0..=former).filter(|number| usize::from(*number) % 2 == who).any(|n| segment(n) == **id)
    });
    let says = has_disk && !world.is_closed(who) || setting.without == Without::SegmentBound;
    let read = if says { own.cloned().collect() } else { [].into() };
    let opened = Event::SegmentOpened {
        replica: NAMES[who].parse().unwrap(),
        segment: segment(opened_as),
        read,
    };
    next.record = next.take(&opened, setting).unwrap();
    if !has_disk {
        for name in ["A", "B"] {
            let wanted =
                next.record.roots.get(&root(name)).is_some_and(|one| !one.state.is_retired());
            let signed = wanted.then(|| issuer(&next.record, who, name, next.tick)).flatten();
            next.record = signed.map_or(next.record, Kept::record);
        }
    }
    next
}

/// A replica finds its segment closed.
pub(super) fn reopen(world: &World, setting: &Setting, who: usize) -> Option<World> {
    (world.acts(who) && world.is_closed(who)).then(|| incarnate(world, setting, who, true))
}

pub(super) fn roll_back(world: &World, setting: &Setting) -> Option<World> {
    let draining = matches!(world.record.phase, Phase::Draining(_));
    if !setting.rolls_back || !draining {
        return None;
    }
    let event = Event::RollbackRequested { request_id: request("back") };
    world.with(world.take(&event, setting))
}
