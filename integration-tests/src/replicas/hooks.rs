//! What a test slips into the process of a server, by files of a folder that the process is started with: a wall clock that is
//! wrong, and deaths between two durable steps.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ca_server::{Embedding, HostDeps};
use host::SystemClock;
use plugin_key_file::KdfCost;
use rotation_driver::{JournalEntry, RecordStore, StoreError, Stored, Write};
use rustix::process::{Signal, getpid, kill_process};
use stores::spaces::{AUTHORITY_BOOKS, BUNDLES, ISSUER_REQUESTS, JOURNAL, ROOT_KEYS, TICKETS};
use stores::{Hints, Key, Page, ReadError, SharedStore, Space, Version, Versioned, WriteError};
use trust::{Clock, Generation};

/// Seconds that the wall clock is ahead; negative is slow.
const CLOCK: &str = "clock";
/// In a folder of deaths: nobody dies any more.
const OVER: &str = "over";
/// The folder of deaths; a file in it for each.
const DEATHS: &str = "deaths";

/// The folder of one server's hooks. Without a file in it the process is as any other.
#[derive(Clone, Debug)]
pub struct Hooks {
    folder: PathBuf,
}

/// Where servers die once after each durable step of a rotation.
#[derive(Clone, Debug)]
pub struct Deaths {
    folder: PathBuf,
}

impl Hooks {
    /// Those of this folder.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Sets the wall clock of the process off by so many seconds, at once.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn set_clock_off(&self, secs: i64) -> anyhow::Result<()> {
        let (path, new) = (self.folder.join(CLOCK), self.folder.join("clock.new"));
        std::fs::write(&new, secs.to_string())?;
        Ok(std::fs::rename(new, path)?)
    }

    /// From its next start on the process dies (SIGKILL) right after each durable step that nobody died after, by what is in
    /// this folder, which all servers share.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn dies_at(&self, deaths: &Deaths) -> anyhow::Result<()> {
        Ok(std::fs::write(self.folder.join(DEATHS), deaths.folder.as_os_str().as_encoded_bytes())?)
    }

    /// What the machine is to the process.
    #[must_use]
    pub fn host_deps(&self) -> HostDeps {
        let clock = Arc::new(OffClock { path: self.folder.join(CLOCK) });
        HostDeps { clock, ..HostDeps::system() }
    }

    fn deaths(&self) -> Option<Deaths> {
        let folder = std::fs::read_to_string(self.folder.join(DEATHS)).ok()?;
        Some(Deaths { folder: PathBuf::from(folder) })
    }
}

impl Embedding for Hooks {
    fn key_cost(&self) -> KdfCost {
        KdfCost::LEAST
    }

    fn store(&self, store: Arc<dyn SharedStore>) -> Arc<dyn SharedStore> {
        match self.deaths() {
            Some(deaths) => Arc::new(Deadly { store, deaths }),
            None => store,
        }
    }

    fn record(&self, store: Arc<dyn RecordStore>) -> Arc<dyn RecordStore> {
        match self.deaths() {
            Some(deaths) => Arc::new(DeadlyRecord { store, deaths }),
            None => store,
        }
    }
}

impl Deaths {
    /// In this folder, which exists.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The steps that somebody died after.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn all(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut all = BTreeSet::new();
        for file in std::fs::read_dir(&self.folder)? {
            all.insert(file?.file_name().to_string_lossy().into_owned());
        }
        Ok(all)
    }

    /// From now on nobody dies.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn end(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(self.folder.join(OVER), "")?)
    }

    /// Segments open and are sealed at each start: nobody dies after that.
    fn after_event(&self, what: &str, event: &str) {
        if !event.starts_with("segment_") {
            self.after(&format!("{what} {event}"));
        }
    }

    /// This step is durable: dies, unless somebody did so after it.
    fn after(&self, step: &str) {
        if self.folder.join(OVER).exists() {
            return;
        }
        let step = step.replace('/', ":");
        let first = OpenOptions::new().write(true).create_new(true).open(self.folder.join(&step));
        match first {
            Ok(_) => {
                // Nothing after this is done, whatever it answers.
                let _ = kill_process(getpid(), Signal::KILL);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => tracing::error!(%error, step, "no death is noted"),
        }
    }
}

#[derive(Debug)]
struct OffClock {
    path: PathBuf,
}

impl Clock for OffClock {
    fn now_millis(&self) -> i64 {
        let secs = std::fs::read_to_string(&self.path).ok();
        let secs = secs.and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or_default();
        SystemClock.now_millis().saturating_add(secs.saturating_mul(1_000))
    }

    fn uptime(&self) -> Duration {
        SystemClock.uptime()
    }

    fn boot(&self) -> Option<String> {
        SystemClock.boot()
    }
}

/// Dies after writes of what belongs to a rotation beside the record.
#[derive(Debug)]
struct Deadly {
    store: Arc<dyn SharedStore>,
    deaths: Deaths,
}

impl Deadly {
    fn wrote(&self, key: &Key, value: &[u8]) {
        let of_rotation = [AUTHORITY_BOOKS, BUNDLES, ISSUER_REQUESTS, ROOT_KEYS, TICKETS];
        let space = key.space().name();
        if of_rotation.iter().any(|one| one.name() == space) {
            self.deaths.after(&key.to_string());
        }
        if let (true, Ok(entry)) = (space == JOURNAL.name(), JournalEntry::decode(value)) {
            self.deaths.after_event("the journal has", entry.event.name());
        }
    }
}

#[async_trait]
impl SharedStore for Deadly {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        self.store.get(key).await
    }

    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        let written = self.store.create(key, value).await?;
        self.wrote(key, value);
        Ok(written)
    }

    async fn put(
        &self,
        key: &Key,
        value: &[u8],
        expected: &Version,
    ) -> Result<Version, WriteError> {
        let written = self.store.put(key, value, expected).await?;
        self.wrote(key, value);
        Ok(written)
    }

    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
        self.store.delete(key, expected).await
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        self.store.list(space, from, limit).await
    }

    async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
        self.store.watch(space).await
    }
}

/// Dies after each kind of event in each phase.
#[derive(Debug)]
struct DeadlyRecord {
    store: Arc<dyn RecordStore>,
    deaths: Deaths,
}

impl DeadlyRecord {
    fn wrote(&self, generation: Generation, record: &[u8], journal: &[u8]) {
        let (Ok(state), Ok(entry)) =
            (rotation::record::decode(record), JournalEntry::decode(journal))
        else {
            return;
        };
        let phase = state.phase.name();
        tracing::debug!(%generation, phase, "the record is written");
        self.deaths.after_event(&format!("the record is in {phase} with"), entry.event.name());
    }
}

#[async_trait]
impl RecordStore for DeadlyRecord {
    async fn load(&self) -> Result<Option<Stored>, StoreError> {
        self.store.load().await
    }

    async fn compare_and_swap(&self, write: Write) -> Result<(), StoreError> {
        let (generation, record, journal) =
            (write.generation, write.record.clone(), write.journal.clone());
        self.store.compare_and_swap(write).await?;
        self.wrote(generation, &record, &journal);
        Ok(())
    }

    async fn append(&self, journal: Vec<u8>) -> Result<(), StoreError> {
        self.store.append(journal).await
    }

    async fn journal(&self, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.store.journal(from, limit).await
    }

    async fn watch(&self) -> Result<Option<Hints>, StoreError> {
        self.store.watch().await
    }
}
