//! Registries of tests: over a fake store, with a clock that stands still unless a test moves it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use stores::fake::{FakeStore, Fault};
use stores::{Hints, Key, Page, ReadError, SharedStore, Space, Version, Versioned, WriteError};
use tokio::task::JoinHandle;
use trust::{ManualClock, Timestamp};

use crate::follow::Following;
use crate::registry::{AgentRegistry, Limits, Membership};
use crate::sessions::Sessions;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Of a server of this name.
pub(crate) fn membership(replica: &str, clock: &Arc<ManualClock>, limits: Limits) -> Membership {
    let clock = Arc::<ManualClock>::clone(clock);
    Membership { replica: replica.to_owned(), clock, sessions: Sessions::default(), limits }
}

/// The registry in a store, as a server reads it at its start.
pub(crate) async fn open(store: &FakeStore) -> AgentRegistry {
    let clock = Arc::new(ManualClock::at(NOW));
    open_as(Arc::new(store.clone()), membership("one", &clock, Limits::default())).await.0
}

pub(crate) async fn open_as(
    store: Arc<dyn SharedStore>,
    membership: Membership,
) -> (AgentRegistry, Following) {
    AgentRegistry::open(store, membership).await.unwrap()
}

/// A server that follows what others write, until it is dropped.
pub(crate) struct Server {
    pub(crate) registry: AgentRegistry,
    pub(crate) clock: Arc<ManualClock>,
    following: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(store: &Flaky, replica: &str) -> Self {
        Self::bounded(store, replica, Limits::default()).await
    }

    pub(crate) async fn bounded(store: &Flaky, replica: &str, limits: Limits) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let (registry, following) =
            open_as(Arc::new(store.clone()), membership(replica, &clock, limits)).await;
        Self { registry, clock, following: tokio::spawn(following.run()) }
    }

    /// One that remembers what it read at its start, and learns nothing but by its own calls.
    pub(crate) async fn deaf(store: &Flaky, replica: &str) -> Self {
        let server = Self::start(store, replica).await;
        server.following.abort();
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect(what);
}

/// A fake store that can be away, whose writes can fail one by one, and that counts them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flaky {
    pub(crate) fake: FakeStore,
    troubles: Arc<Mutex<Troubles>>,
}

#[derive(Debug, Default)]
struct Troubles {
    away: bool,
    /// The write that fails, counted down, and how.
    fails: Option<(u32, Fault)>,
    /// Watches that begin now say nothing.
    silent: bool,
    /// How many writes were asked for.
    writes: u32,
}

impl Flaky {
    pub(crate) fn set_away(&self, away: bool) {
        self.troubles.lock().unwrap().away = away;
        self.fake.fail_reads(away);
    }

    /// Watches that begin from now on say nothing.
    pub(crate) fn set_silent(&self) {
        self.troubles.lock().unwrap().silent = true;
    }

    /// The next write fails (0), or the one after it (1), and so on.
    pub(crate) fn fail(&self, write: u32, fault: Fault) {
        self.troubles.lock().unwrap().fails = Some((write, fault));
    }

    pub(crate) fn writes(&self) -> u32 {
        self.troubles.lock().unwrap().writes
    }

    fn writing(&self) {
        let mut troubles = self.troubles.lock().unwrap();
        troubles.writes += 1;
        let fault = match troubles.fails.take() {
            Some((0, fault)) => Some(fault),
            Some((left, fault)) => {
                troubles.fails = Some((left - 1, fault));
                None
            }
            None => None,
        };
        let fault = if troubles.away { Some(Fault::Failed) } else { fault };
        fault.into_iter().for_each(|fault| self.fake.fail_next_write(fault));
    }
}

#[async_trait]
impl SharedStore for Flaky {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        self.fake.get(key).await
    }

    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        tokio::task::yield_now().await;
        self.writing();
        self.fake.create(key, value).await
    }

    async fn put(&self, key: &Key, value: &[u8], at: &Version) -> Result<Version, WriteError> {
        tokio::task::yield_now().await;
        self.writing();
        self.fake.put(key, value, at).await
    }

    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
        tokio::task::yield_now().await;
        self.writing();
        self.fake.delete(key, expected).await
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        self.fake.list(space, from, limit).await
    }

    async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
        let silent = self.troubles.lock().unwrap().silent;
        match silent {
            true => Ok(stores::hints().1),
            false => self.fake.watch(space).await,
        }
    }
}
