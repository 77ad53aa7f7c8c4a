//! Whole rotations, driven by evidence, over stores that fail and drivers that die.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rotation::evidence::{RelyingParties, Tally};
use rotation::{Event, Evidence, Mode, Phase, Policy, RootState, SegmentState, State};
use rotation_driver::{
    DriverHandle, DriverTask, Duty, EvidenceSource, FaultStore, JournalEntry, NoEvidence, Outcome,
    WriteFault, replay, report,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use trust::{Clock, Generation, ManualClock};

use crate::fixture::{Fixture, bootstrap, opened, settled, until};

/// A mesh that has nothing to wait for.
#[derive(Debug)]
struct Calm(Arc<ManualClock>);

#[async_trait]
impl EvidenceSource for Calm {
    async fn read(&self, state: &State) -> Result<Evidence, NoEvidence> {
        let seal = |(id, segment): (&rotation::SegmentId, &rotation::Segment)| match segment.state {
            SegmentState::Sealed { generation } => Some((id.clone(), generation)),
            _ => None,
        };
        Ok(Evidence {
            at: self.0.now(),
            uptime: self.0.uptime(),
            sequence: state.sequence,
            unproven: Tally::default(),
            own_trust: Tally::default(),
            unable: 0,
            waived: 0,
            live: BTreeMap::new(),
            read: state.segments.iter().filter_map(seal).collect(),
            relying_parties: RelyingParties::default(),
            foreign: BTreeMap::new(),
            let_go: std::collections::BTreeSet::new(),
            cohort: None,
            observer: None,
            draining: std::collections::BTreeSet::new(),
        })
    }
}

/// A driver with everything that runs beside it.
struct Replica {
    handle: DriverHandle,
    task: DriverTask,
    beside: JoinSet<()>,
}

impl Replica {
    async fn start(fixture: &Fixture) -> Self {
        // A start that meets a write that fails is tried again, as a supervisor does.
        let mut started = fixture.try_start().await;
        for _ in 0..3 {
            if started.is_err() {
                started = fixture.try_start().await;
            }
        }
        let (handle, task) = started.unwrap();
        let mut beside = JoinSet::new();
        let (clock, source) =
            (Arc::clone(&fixture.clock), Arc::new(Calm(Arc::clone(&fixture.clock))));
        let duty = watch::channel(Duty::alone()).1;
        beside.spawn(report(handle.clone(), source, Policy::default(), clock, duty));
        beside.spawn(seal(handle.clone()));
        beside.spawn(pass_time(Arc::clone(&fixture.clock)));
        Self { handle, task, beside }
    }

    async fn stop(mut self) {
        self.beside.shutdown().await;
        self.task.stop().await;
    }
}

/// As the server does: seals its segment whenever the record has moved. An answer that is lost is asked for again.
async fn seal(handle: DriverHandle) {
    let mut sealed = Generation(0);
    loop {
        let state = handle.state();
        let open = state
            .segments
            .iter()
            .find(|(_, segment)| !segment.is_closed())
            .map(|(id, _)| id.clone());
        let moved = match &state.phase {
            Phase::Distributing(phase) => phase.bundle.generation,
            Phase::Draining(phase) => phase.switched,
            Phase::Withdrawing(phase) => phase.bundle.generation,
            _ => Generation(0),
        };
        if let (Some(segment), true) = (open, moved > sealed) {
            let event = Event::SegmentSealed { segment, generation: moved };
            if handle.submit(event).await.is_ok() {
                sealed = moved;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn pass_time(clock: Arc<ManualClock>) {
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        clock.advance(Duration::from_millis(250));
    }
}

fn request() -> Event {
    Event::RotationRequested {
        request_id: "request".parse().unwrap(),
        authority: "main".parse().unwrap(),
        mode: Mode::Auto,
        stage_again: None,
        canary: None,
    }
}

/// Submits until the answer is known, as an operator does who keeps the request id.
async fn insist(handle: &DriverHandle, event: &Event) {
    for _ in 0..100 {
        if handle.submit(event.clone()).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{event:?} is never taken");
}

async fn bootstrapped(fixture: &Fixture) -> Replica {
    let replica = Replica::start(fixture).await;
    insist(&replica.handle, &bootstrap("first")).await;
    settled(&replica.handle).await;
    insist(&replica.handle, &opened()).await;
    replica
}

fn is_over(state: &State) -> bool {
    let retired = state.roots.values().filter(|root| root.state == RootState::Retired).count();
    matches!(state.phase, Phase::Steady(_)) && retired == 1 && state.pending.is_empty()
}

async fn assert_journal_replays(fixture: &Fixture, state: &State) {
    let entries = fixture.store.journal(0, usize::MAX).await.unwrap();
    assert_eq!(replay(fixture.domain(), &entries).unwrap().state, *state);
}

/// The journal of one whole rotation.
async fn journal_of_a_rotation() -> (Fixture, Vec<(u64, Vec<u8>)>) {
    let fixture = Fixture::on(Arc::new(FaultStore::new()));
    let replica = bootstrapped(&fixture).await;
    insist(&replica.handle, &request()).await;
    until(&replica.handle, |state| is_over(state)).await;
    replica.stop().await;
    let entries = fixture.store.journal(0, usize::MAX).await.unwrap();
    (fixture, entries)
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_was_altered_does_not_replay() {
    let (fixture, entries) = journal_of_a_rotation().await;
    let found = replay(fixture.domain(), &entries).unwrap();
    assert_eq!((found.rotations, found.refusals), (1, 0));
    for index in 0..entries.len() {
        let mut without = entries.clone();
        without.remove(index);
        let last = index + 1 == entries.len();
        assert!(
            last || replay(fixture.domain(), &without).is_err(),
            "entry {index} is missing unseen"
        );
        for alter in [forget_effects, other_generation] {
            let mut altered = entries.clone();
            let mut entry = JournalEntry::decode(&altered[index].1).unwrap();
            let before = entry.clone();
            alter(&mut entry);
            altered[index].1 = entry.encode().unwrap();
            let seen = replay(fixture.domain(), &altered).map(|found| found.state)
                != Ok(found.state.clone());
            assert!(seen || entry == before, "entry {index} was altered unseen: {entry:?}");
        }
    }
}

fn forget_effects(entry: &mut JournalEntry) {
    if let Outcome::Changed { effects } = &mut entry.outcome {
        effects.clear();
    }
}

fn other_generation(entry: &mut JournalEntry) {
    entry.generation += 1;
}

#[tokio::test(start_paused = true)]
async fn a_rotation_goes_from_request_to_steady_by_evidence_alone() {
    let fixture = Fixture::on(Arc::new(FaultStore::new()));
    let replica = bootstrapped(&fixture).await;
    let old = replica.handle.state().signing_root().unwrap();
    insist(&replica.handle, &request()).await;
    let state = until(&replica.handle, |state| is_over(state)).await;
    assert_ne!(state.signing_root().unwrap(), old);
    assert_eq!(state.roots[&old].state, RootState::Retired);
    let reports = fixture.journal().await;
    let reports = reports.iter().filter(|entry| entry.event.name() == "evidence_reported").count();
    assert_eq!(
        reports, 5,
        "two gates that settle and open, one that opens: only reports that moved something"
    );
    assert_journal_replays(&fixture, &state).await;
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn every_write_of_a_rotation_may_fail_in_every_way() {
    let writes = {
        let store = Arc::new(FaultStore::new());
        let fixture = Fixture::on(Arc::<FaultStore>::clone(&store));
        let replica = bootstrapped(&fixture).await;
        insist(&replica.handle, &request()).await;
        until(&replica.handle, |state| is_over(state)).await;
        replica.stop().await;
        store.writes()
    };
    assert!(writes > 12, "a bootstrap and a rotation have {writes} writes");
    for nth in 0..writes {
        for fault in [WriteFault::FailedNotStored, WriteFault::FailedButStored, WriteFault::Refused]
        {
            let store = Arc::new(FaultStore::new());
            store.fail_write(nth, fault);
            let fixture = Fixture::on(Arc::<FaultStore>::clone(&store));
            let replica = bootstrapped(&fixture).await;
            insist(&replica.handle, &request()).await;
            let state = until(&replica.handle, |state| is_over(state)).await;
            assert_eq!(state.roots.len(), 2, "write {nth}, {fault:?}: no root is made twice");
            assert_journal_replays(&fixture, &state).await;
            replica.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_dies_after_any_write_goes_on_where_it_was() {
    let mut dies_after = 1;
    loop {
        let store = Arc::new(FaultStore::new());
        let fixture = Fixture::on(Arc::<FaultStore>::clone(&store));
        let mut replica = bootstrapped(&fixture).await;
        insist(&replica.handle, &request()).await;
        let requested = replica.handle.state().generation.0;
        let state = until(&replica.handle, |state| {
            is_over(state) || state.generation.0 >= requested + dies_after
        })
        .await;
        if is_over(&state) {
            assert!(dies_after > 8, "a rotation has more writes than {dies_after}");
            replica.stop().await;
            return;
        }
        replica.stop().await;
        replica = Replica::start(&fixture).await;
        let state = until(&replica.handle, |state| is_over(state)).await;
        assert_eq!(state.roots.len(), 2, "died after {dies_after}: no root is made twice");
        assert_journal_replays(&fixture, &state).await;
        replica.stop().await;
        dies_after += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn settle_is_counted_anew_by_the_driver_that_takes_over() {
    let fixture = Fixture::on(Arc::new(FaultStore::new()));
    let replica = bootstrapped(&fixture).await;
    insist(&replica.handle, &request()).await;
    let settling = |state: &Arc<State>| matches!(&state.phase, Phase::Distributing(phase) if phase.settling.is_some());
    until(&replica.handle, settling).await;
    replica.stop().await;
    let (handle, task) = fixture.start().await;
    assert!(
        !settling(&handle.state()),
        "what the former driver counted is gone before anybody can rest on it"
    );
    task.stop().await;
}
