//! A start waits for the store of the CA's state, at each of its steps alike: an engine on other machines that does not answer,
//! or does not let this server in, is no reason to give up what was begun.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stores::{Hints, Key, Page, ReadError, SharedStore, Space, Version, Versioned, WriteError};
use tokio::sync::watch;

/// Pauses between tries: they double up to the last.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Whether a start is under way, and what it waits for. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Patience(Arc<watch::Sender<Waits>>);

#[derive(Clone, Debug, Default)]
struct Waits {
    /// The start is over: each call is answered as the store answers it.
    over: bool,
    /// What is waited for, for people.
    for_what: Option<String>,
}

/// A store whose calls wait while a server starts.
#[derive(Debug)]
pub(super) struct Patient {
    store: Arc<dyn SharedStore>,
    /// How people call it.
    place: String,
    patience: Patience,
}

/// The pauses of one call.
struct Pauses<'a> {
    patient: &'a Patient,
    next: Duration,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::channel(Waits::default()).0))
    }

    /// The start is over.
    pub(super) fn ends(&self) {
        self.0.send_replace(Waits { over: true, for_what: None });
    }

    /// What the start waits for now.
    pub(super) fn waits_for(&self) -> Option<String> {
        self.0.borrow().for_what.clone()
    }

    fn is_over(&self) -> bool {
        self.0.borrow().over
    }

    fn say(&self, for_what: Option<String>) {
        self.0.send_modify(|waits| waits.for_what = for_what.filter(|_| !waits.over));
    }
}

impl Patient {
    pub(super) fn new(store: Arc<dyn SharedStore>, place: &str, patience: Patience) -> Self {
        Self { store, place: place.to_owned(), patience }
    }

    const fn pauses(&self) -> Pauses<'_> {
        Pauses { patient: self, next: PAUSE_FIRST }
    }

    /// Reads until there is an answer.
    async fn read<T, F>(&self, call: impl Fn() -> F + Send) -> Result<T, ReadError>
    where
        F: Future<Output = Result<T, ReadError>> + Send,
        T: Send,
    {
        let mut pauses = self.pauses();
        loop {
            match call().await {
                Err(ReadError::Failed { reason }) if pauses.pause(&reason).await => {}
                answer => return answer,
            }
        }
    }

    /// Writes until there is an answer. A conflict behind a try whose outcome is unknown may be with that very try: then it is done
    /// if what was to be written is there. `found` says so of what is there.
    async fn write<T, F>(
        &self,
        key: &Key,
        call: impl Fn() -> F + Send,
        found: impl Fn(Option<Versioned>) -> Option<T> + Send,
    ) -> Result<T, WriteError>
    where
        F: Future<Output = Result<T, WriteError>> + Send,
        T: Send,
    {
        let (mut pauses, mut unsure) = (self.pauses(), false);
        loop {
            let error = match call().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let reason = match &error {
                WriteError::Conflict { .. } if unsure => {
                    let there = self.get(key).await.ok();
                    return there.and_then(&found).ok_or(error);
                }
                WriteError::Conflict { .. } => return Err(error),
                WriteError::Failed { reason, .. } => reason.clone(),
                WriteError::Unknown { reason, .. } => {
                    unsure = true;
                    reason.clone()
                }
            };
            if !pauses.pause(&reason).await {
                return Err(if unsure { WriteError::unknown(key, reason) } else { error });
            }
        }
    }
}

impl Pauses<'_> {
    /// Pauses, and says why; `false` once the start is over.
    async fn pause(&mut self, reason: &str) -> bool {
        let Patient { place, patience, .. } = self.patient;
        if patience.is_over() {
            return false;
        }
        tracing::warn!(
            store = place, %reason, again_in = self.next.as_secs(),
            "the store of the CA's state cannot be used yet, for the reason that this line names: this server waits for it, and serves nothing meanwhile"
        );
        patience.say(Some(format!("waits for the store of the CA's state, {place}: {reason}")));
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(PAUSE_MAX);
        !patience.is_over()
    }
}

impl Drop for Pauses<'_> {
    fn drop(&mut self) {
        if self.next > PAUSE_FIRST {
            self.patient.patience.say(None);
        }
    }
}

#[async_trait]
impl SharedStore for Patient {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        self.read(|| self.store.get(key)).await
    }

    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        self.write(key, || self.store.create(key, value), holds(value)).await
    }

    async fn put(
        &self,
        key: &Key,
        value: &[u8],
        expected: &Version,
    ) -> Result<Version, WriteError> {
        self.write(key, || self.store.put(key, value, expected), holds(value)).await
    }

    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
        let gone = |there: Option<Versioned>| there.is_none().then_some(());
        self.write(key, || self.store.delete(key, expected), gone).await
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        self.read(|| self.store.list(space, from, limit)).await
    }

    async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
        self.read(|| self.store.watch(space)).await
    }
}

/// The version of what is there, if it is this value.
fn holds(value: &[u8]) -> impl Fn(Option<Versioned>) -> Option<Version> + Send {
    let value = value.to_owned();
    move |there| there.filter(|there| there.value == value).map(|there| there.version)
}

#[cfg(test)]
mod tests {
    use stores::fake::{FakeStore, Fault};
    use stores::spaces::AGENTS;

    use super::*;

    fn patient(store: &FakeStore) -> Patient {
        Patient::new(Arc::new(store.clone()), "a fake", Patience::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_waits_for_as_long_as_it_takes_and_says_what_it_waits_for() {
        let (store, key) = (FakeStore::new(), AGENTS.key("a").unwrap());
        let patient = patient(&store);
        store.fail_reads(true);
        let read = patient.get(&key);
        tokio::pin!(read);
        let long = Duration::from_secs(10_000);
        assert!(tokio::time::timeout(long, &mut read).await.is_err(), "it gives up");
        let said = patient.patience.waits_for().unwrap();
        assert!(said.starts_with("waits for the store of the CA's state, a fake: "), "{said}");
        store.fail_reads(false);
        assert_eq!(read.await, Ok(None));
        assert_eq!(patient.patience.waits_for(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_is_done_once_whatever_becomes_of_a_try() {
        for fault in [Fault::Failed, Fault::UnknownStored, Fault::UnknownNotStored] {
            let (store, key) = (FakeStore::new(), AGENTS.key("a").unwrap());
            let patient = patient(&store);
            store.fail_next_write(fault);
            let created = patient.create(&key, b"one").await.unwrap();
            store.fail_next_write(fault);
            let put = patient.put(&key, b"two", &created).await.unwrap();
            let there = store.get(&key).await.unwrap().unwrap();
            assert_eq!((there.value.as_slice(), &there.version), (b"two".as_slice(), &put));
            store.fail_next_write(fault);
            patient.delete(&key, &put).await.unwrap();
            assert_eq!(store.get(&key).await, Ok(None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_else_wrote_is_a_conflict() {
        let (store, key) = (FakeStore::new(), AGENTS.key("a").unwrap());
        let patient = patient(&store);
        store.create(&key, b"theirs").await.unwrap();
        let conflict = patient.create(&key, b"ours").await.unwrap_err();
        assert!(matches!(conflict, WriteError::Conflict { .. }), "{conflict}");
        store.fail_next_write(Fault::UnknownNotStored);
        let conflict = patient.create(&key, b"ours").await.unwrap_err();
        assert!(matches!(conflict, WriteError::Conflict { .. }), "{conflict}");
    }

    #[tokio::test(start_paused = true)]
    async fn once_the_start_is_over_nothing_waits() {
        let (store, key) = (FakeStore::new(), AGENTS.key("a").unwrap());
        let patient = patient(&store);
        patient.patience.ends();
        store.fail_reads(true);
        patient.get(&key).await.unwrap_err();
        store.fail_next_write(Fault::Failed);
        let failed = patient.create(&key, b"one").await.unwrap_err();
        assert!(matches!(failed, WriteError::Failed { .. }), "{failed}");
        assert_eq!(patient.patience.waits_for(), None);
    }
}
