//! What the replica, its driver, its clock and an operator do.

use std::cell::RefCell;
use std::collections::HashMap;

use rotation::{Effect, Event, Phase, Policy, RequestId, Segment, State};
use trust::Generation;

use crate::distrust;
use crate::entities::{P, Q, Request, Row};
use crate::evidence::{Counted, counted, end, is_over, report};
use crate::fingerprint::Fingerprints;
use crate::kept::Kept;
use crate::mesh::{Further, Setting, Without, World};
use crate::moves::Next;
use crate::words::{FAR, at, naming, policy, root, segment, taken, trusted_further, widening};

pub(crate) fn moves(next: &mut Next<'_>) {
    let (world, setting) = (next.world, next.setting);
    next.happens("change in force", in_force(world, setting));
    next.happens("evidence", judged(world, setting));
    for (name, world) in operated(world, setting) {
        next.happens(name, Some(world));
    }
    for (name, world) in distrust::said(world, setting) {
        next.happens(name, Some(world));
    }
    further(next);
    next.happens("the replica restarts", crash(world, setting));
    next.happens("the wall clock steps", step_clock(world, setting));
    next.happens("rows that are over are dropped", expire(world, setting));
}

/// The policy of the machine; what it is told may be less than what the mesh does.
pub(crate) fn limits(world: &World, setting: &Setting) -> Policy {
    let none = match setting.without {
        Without::SettleAtT => matches!(world.record.phase, Phase::Distributing(_)),
        Without::SettleAtL => matches!(world.record.phase, Phase::Draining(_)),
        _ => false,
    };
    let settle = if none { 0 } else { setting.handshake };
    let skew = if setting.without == Without::TwiceTheSkew { 0 } else { setting.skew };
    policy(settle.unsigned_abs(), skew.unsigned_abs())
}

/// What the machine is asked, so that it is asked once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// Are the changes in force that are owed, in this segment with this bound, while the clock may raise a horizon?
    InForce {
        segment: u8,
        wall: i64,
        bound: Option<i64>,
    },
    Evidence(Counted),
    Verb(&'static str, Counted),
    Word(&'static str),
}

type Answers = HashMap<(Kept<State>, Question, Policy), Option<Kept<State>>, Fingerprints>;

thread_local! {
    static KNOWN: RefCell<Answers> = RefCell::default();
}

/// The record after a question; `None` if nothing changes.
pub(crate) fn asked(
    world: &World,
    setting: &Setting,
    question: Question,
    ask: impl FnOnce() -> Option<Kept<State>>,
) -> Option<Kept<State>> {
    let key = (world.record, question, limits(world, setting));
    if let Some(known) = KNOWN.with_borrow(|known| known.get(&key).copied()) {
        return known;
    }
    let answer = ask();
    KNOWN.with_borrow_mut(|known| known.insert(key, answer));
    answer
}

impl World {
    pub(crate) fn take(&self, event: &Event, setting: &Setting) -> Option<Kept<State>> {
        taken(&self.record, event, self.wall(), &limits(self, setting)).map(Kept::record)
    }
}

/// Bundle or signer are in force and the segment is sealed: no request without a row is older than the change.
pub(crate) fn in_force(world: &World, setting: &Setting) -> Option<World> {
    let since = match &world.record.phase {
        Phase::Distributing(phase) => phase.bundle.generation,
        Phase::Canary(phase) => phase.bundle.generation,
        Phase::Draining(phase) => phase.switched,
        Phase::Withdrawing(phase) => phase.bundle.generation,
        // A bundle with other further roots.
        _ if setting.further != Further::No => world.record.pending.first()?.generation,
        _ => return None,
    };
    let older = |request: &Request| {
        request.leaf.is_none() && request.generation < since.0 && request.segment == world.segment
    };
    let waits =
        setting.without != Without::RowBeforeSignature && setting.without != Without::TrustGate;
    if waits && world.requests.iter().flatten().any(older) {
        return None;
    }
    let bound = (!world.is_off(setting)).then_some(setting.bound);
    let question = Question::InForce { segment: world.segment, wall: world.wall(), bound };
    let record = asked(world, setting, question, || {
        let record = sealed(world, setting, since);
        (record != world.record).then_some(record)
    })?;
    Some(World { record, ..world.clone() })
}

fn sealed(world: &World, setting: &Setting, since: Generation) -> Kept<State> {
    let mut next = world.clone();
    for pending in &world.record.pending {
        let event = match pending.effect {
            Effect::PublishBundle { sequence } => Event::BundlePublished { sequence },
            Effect::SwitchSigner { root, issuer } => Event::SignerSwitched { root, issuer },
            Effect::StageRoot { .. } | Effect::RequestIssuer { .. } => continue,
        };
        next.record = next.take(&event, setting).unwrap();
    }
    raise(&mut next, setting);
    let seal = Event::SegmentSealed { segment: segment(world.segment), generation: since };
    next.take(&seal, setting).unwrap_or(next.record)
}

/// Gives the present segment a bound under each root that signs, if it has none.
pub(crate) fn raise(world: &mut World, setting: &Setting) {
    let of_cohort = world.record.phase.canary().map(|canary| canary.to);
    for signs in world.record.signing_root().into_iter().chain(of_cohort) {
        let id = segment(world.segment);
        if world.record.leaf_limit(&signs, &id).is_none() && !world.is_off(setting) {
            let ahead = if signs == root("A") { setting.bound } else { FAR };
            let until = at(world.wall() + ahead);
            let request = Event::HorizonRequested { root: signs, segment: id, until };
            world.record = world.take(&request, setting).unwrap_or(world.record);
        }
    }
}

/// The driver tells the machine what the ledger says; while the clock is off it has nothing to say.
pub(crate) fn judged(world: &World, setting: &Setting) -> Option<World> {
    if world.is_off(setting) && setting.without != Without::ClockFence {
        return None;
    }
    let mut next = world.clone();
    report(&mut next, setting, P);
    report(&mut next, setting, Q);
    let counted = counted(&next, setting);
    next.record = asked(world, setting, Question::Evidence(counted), || {
        let evidence = counted.report(&world.record);
        world.take(&Event::EvidenceReported { evidence }, setting)
    })?;
    next.record = without_further_rules(world, next.record, setting);
    next.record = without_seals(world, next.record, setting);
    // A closed segment of a replica that runs: it opens another one.
    let closed = next.record.segments.get(&segment(next.segment)).is_some_and(Segment::is_closed);
    if closed {
        incarnate(&mut next, setting, true);
    }
    Some(next)
}

/// The authority changes what it says of the further root; and the replica brings it about, as soon as the machine lets it.
fn further(next: &mut Next<'_>) {
    let (world, setting) = (next.world, next.setting);
    if setting.further == Further::No {
        return;
    }
    let changed = world.namings.checked_sub(1);
    let changed = changed.map(|namings| World { namings, named: !world.named, ..world.clone() });
    next.happens("the authority changes its further roots", changed);
    if world.record.further.is_empty() == world.named {
        let record = world.take(&naming(world.named), setting);
        next.happens(
            "a further root comes or goes",
            record.map(|record| World { record, ..world.clone() }),
        );
    }
}

/// The record after a rotation has withdrawn a root, where the rules of further roots do not hold.
fn without_further_rules(world: &World, record: Kept<State>, setting: &Setting) -> Kept<State> {
    let withdraws = |state: &State| matches!(state.phase, Phase::Withdrawing(_));
    if withdraws(&world.record) || !withdraws(&record) {
        return record;
    }
    let mut state = (*record).clone();
    match setting.without {
        Without::FurtherOutlives => state.further.clear(),
        Without::FurtherAlone if world.named => {
            state.further.insert(root("F"), trusted_further());
        }
        _ => {}
    }
    Kept::record(state)
}

/// The record after a canary has ended, where nobody asks for seals of the time before that.
fn without_seals(world: &World, record: Kept<State>, setting: &Setting) -> Kept<State> {
    if setting.without != Without::SealAtTheEnd || world.record.phase.canary().is_none() {
        return record;
    }
    let mut state = (*record).clone();
    if let Phase::Draining(phase) = &mut state.phase {
        phase.switched = phase.bundle.generation;
        state.pending.clear();
    }
    Kept::record(state)
}

/// What an operator asks for, each once: a request id is carried out once.
fn operated(world: &World, setting: &Setting) -> Vec<(&'static str, World)> {
    if !(setting.operator || setting.canary.is_some()) || world.is_off(setting) {
        return Vec::new();
    }
    let counted = counted(world, setting);
    let verbs = ["hold", "resume", "abort", "roll back", "go forward"];
    let skipped = match (setting.operator, setting.holds) {
        (true, true) => 0,
        (true, false) => 2,
        (false, _) => verbs.len(),
    };
    let asked_for = verbs.into_iter().skip(skipped).chain(setting.canary.verbs().iter().copied());
    let moved = asked_for.filter_map(|verb| {
        let record = asked(world, setting, Question::Verb(verb, counted), || {
            world.take(&request(verb, &counted, &world.record), setting)
        })?;
        let record = without_further_rules(world, record, setting);
        let record = without_seals(world, record, setting);
        Some((verb, World { record, ..world.clone() }))
    });
    moved.collect()
}

fn request(verb: &str, counted: &Counted, record: &State) -> Event {
    let request_id: RequestId = verb.replace(' ', "-").parse().unwrap();
    match verb {
        "hold" => Event::HoldRequested { request_id },
        "resume" => Event::ResumeRequested { request_id },
        "abort" => Event::AbortRequested { request_id },
        "widen" => widening(request_id),
        "roll back" => Event::RollbackRequested { request_id },
        _ => Event::ActivateRequested { request_id, evidence: counted.report(record) },
    }
}

fn crash(world: &World, setting: &Setting) -> Option<World> {
    let mut next = world.clone();
    next.replica_crashes = world.replica_crashes.checked_sub(1)?;
    incarnate(&mut next, setting, !setting.disk_is_lost);
    Some(next)
}

/// The replica opens a new segment. What it had not written is gone; replies may still be on their way.
fn incarnate(world: &mut World, setting: &Setting, has_read: bool) {
    let former = world.segment;
    world.segment += 1;
    if setting.without == Without::ClockMark {
        world.believed = world.ahead;
    }
    for request in &mut world.requests {
        *request = request.filter(|request| request.leaf.is_some());
    }
    if !has_read {
        world.rows.iter_mut().filter(|row| row.segment == former).for_each(end);
    }
    let said = has_read || setting.without == Without::SegmentBound;
    let over = world.record.segments.get(&segment(former)).is_some_and(Segment::is_closed);
    let read = if said && !over { [segment(former)].into() } else { [].into() };
    let opened = Event::SegmentOpened {
        replica: "ca".parse().unwrap(),
        segment: segment(world.segment),
        read,
    };
    world.record = world.take(&opened, setting).unwrap();
    world.record = world.take(&Event::DriverStarted, setting).unwrap_or(world.record);
    raise(world, setting);
}

/// The wall clock steps ahead, and back again.
fn step_clock(world: &World, setting: &Setting) -> Option<World> {
    let steps = world.steps.checked_sub(1)?;
    let ahead = if steps == 1 { setting.step } else { 0 };
    Some(World { steps, ahead, ..world.clone() })
}

/// Rows that are over are dropped for good. Where no clock steps this is but another way to count.
fn expire(world: &World, setting: &Setting) -> Option<World> {
    let fenced = world.is_off(setting) && setting.without != Without::BothClocks;
    if setting.step == 0 || fenced {
        return None;
    }
    let mut next = world.clone();
    let over = |row: &&mut Row| !row.ended && is_over(world, setting, row);
    next.rows.iter_mut().filter(over).for_each(end);
    (next != *world).then_some(next)
}
