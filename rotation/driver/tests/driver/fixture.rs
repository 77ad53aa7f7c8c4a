//! A driver over fakes, and the words to talk to it.

use std::sync::Arc;
use std::time::Duration;

use rotation::{Event, Phase, Policy, State};
use rotation_driver::{
    DriverHandle, DriverParts, DriverTask, Duty, FakeEffects, JournalEntry, RecordStore,
    StartError, start,
};
use tokio::sync::watch;
use trust::{Clock as _, ManualClock, RootId, Timestamp, TrustDomain};

/// What outlives a driver: the disk, the authority, the clock.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn RecordStore>,
    pub(crate) effects: Arc<FakeEffects>,
    pub(crate) clock: Arc<ManualClock>,
}

impl Fixture {
    pub(crate) fn on(store: Arc<dyn RecordStore>) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        Self { store, effects: Arc::new(FakeEffects::new(clock.now())), clock }
    }

    pub(crate) async fn start(&self) -> (DriverHandle, DriverTask) {
        self.try_start().await.unwrap()
    }

    pub(crate) async fn try_start(&self) -> Result<(DriverHandle, DriverTask), StartError> {
        // No other sender: what it says stays so.
        self.start_with(watch::channel(Duty::alone()).1).await
    }

    pub(crate) async fn start_with(
        &self,
        duty: watch::Receiver<Duty>,
    ) -> Result<(DriverHandle, DriverTask), StartError> {
        start(DriverParts {
            trust_domain: self.domain(),
            store: Arc::clone(&self.store),
            effects: Arc::clone(&self.effects) as _,
            clock: Arc::clone(&self.clock) as _,
            policy: Policy::default(),
            duty,
        })
        .await
    }

    pub(crate) fn domain(&self) -> TrustDomain {
        TrustDomain::parse("example.org").unwrap()
    }

    /// An event that asks for a horizon so many seconds ahead.
    pub(crate) fn horizon(&self, root: RootId, ahead: u64) -> Event {
        let until = self.clock.now().plus(Duration::from_secs(ahead));
        Event::HorizonRequested { root, segment: "s1".parse().unwrap(), until }
    }

    pub(crate) async fn journal(&self) -> Vec<JournalEntry> {
        let entries = self.store.journal(0, usize::MAX).await.unwrap();
        entries.iter().map(|(_, entry)| JournalEntry::decode(entry).unwrap()).collect()
    }
}

pub(crate) fn bootstrap(request: &str) -> Event {
    Event::BootstrapRequested {
        request_id: request.parse().unwrap(),
        authority: "main".parse().unwrap(),
    }
}

pub(crate) fn opened() -> Event {
    Event::SegmentOpened {
        replica: "ca".parse().unwrap(),
        segment: "s1".parse().unwrap(),
        read: std::collections::BTreeSet::new(),
    }
}

/// Waits until the stored state is as wanted; time that tokio has paused passes by itself.
pub(crate) async fn until(
    handle: &DriverHandle,
    wanted: impl FnMut(&Arc<State>) -> bool,
) -> Arc<State> {
    let mut changes = handle.changes();
    let waited = tokio::time::timeout(Duration::from_secs(3_600), changes.wait_for(wanted)).await;
    waited.expect("the state comes within an hour").unwrap().clone()
}

/// Waits until a root signs and nothing is owed.
pub(crate) async fn settled(handle: &DriverHandle) -> Arc<State> {
    until(handle, |state| matches!(state.phase, Phase::Steady(_)) && state.pending.is_empty()).await
}

pub(crate) fn only_root(state: &State) -> RootId {
    assert_eq!(state.roots.len(), 1);
    *state.roots.keys().next().unwrap()
}
