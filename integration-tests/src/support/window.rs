//! A look into the shared state of a server, while it runs and afterwards.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context as _;
use ca_server::Embedding;
use host::RealDisk;
use plugin_key_file::KdfCost;
use plugins::Registry;
use rotation_driver::{EvidenceSource, RecordStore};
use stores::{SharedStore, Space};
use stores_redb::{OpenError, RedbStore};

use super::common::SOON;

/// The store of the server that was started last with it; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Window(Arc<Mutex<Option<Weak<dyn SharedStore>>>>);

impl Window {
    /// Remembers a store.
    pub fn open_on(&self, store: &Arc<dyn SharedStore>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(store));
    }

    /// The store of a server that runs in this process.
    #[must_use]
    pub fn store(&self) -> Option<Arc<dyn SharedStore>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()
    }

    /// Takes a value out of the shared state of a server that runs in this process.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn take(&self, space: Space, id: &str) -> anyhow::Result<Vec<u8>> {
        let (store, key) = (self.store().context("no server runs")?, space.key(id)?);
        let mut tries = 0;
        loop {
            let there = store.get(&key).await?.with_context(|| format!("no {key}"))?;
            match stores::settle::delete(store.as_ref(), &key, &there.version).await {
                Ok(()) => return Ok(there.value),
                // The server wrote it meanwhile.
                Err(_) if tries < 16 => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Puts a value there, in place of what is there.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn put(&self, space: Space, id: &str, value: &[u8]) -> anyhow::Result<()> {
        let (store, key) = (self.store().context("no server runs")?, space.key(id)?);
        let there = store.get(&key).await?.map(|there| there.version);
        stores::settle::put(store.as_ref(), &key, value, there.as_ref()).await?;
        Ok(())
    }

    /// What is in a space of a CA with this data directory, whether its server runs here, elsewhere, or not at all.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn all(&self, data: &Path, space: Space) -> anyhow::Result<Vec<stores::Entry>> {
        if let Some(store) = self.store() {
            return Ok(stores::settle::all(store.as_ref(), space).await?);
        }
        let read = async {
            loop {
                if let Ok(found) = closed(data, space).await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, read).await.context("the state cannot be read")
    }
}

/// The file of a server that does not run in this process. A copy of one that is in use may be torn, which is noticed.
async fn closed(data: &Path, space: Space) -> anyhow::Result<Vec<stores::Entry>> {
    let path = data.join("state.redb");
    let store = match RedbStore::open(Arc::new(RealDisk), &path) {
        Ok(store) => store,
        Err(OpenError::InUse { .. }) => {
            let place = tempfile::tempdir()?;
            let copy = place.path().join("state.redb");
            std::fs::copy(&path, &copy)?;
            let store = RedbStore::open(Arc::new(RealDisk), &copy)?;
            return Ok(stores::settle::all(&store, space).await?);
        }
        Err(error) => return Err(error.into()),
    };
    Ok(stores::settle::all(&store, space).await?)
}

/// An embedding of a test, through a window.
pub(super) struct Seen<'a> {
    pub(super) window: &'a Window,
    pub(super) embedding: &'a dyn Embedding,
}

impl Embedding for Seen<'_> {
    fn plugins(&self, registry: &mut Registry) {
        self.embedding.plugins(registry);
    }

    fn key_cost(&self) -> KdfCost {
        self.embedding.key_cost()
    }

    fn store(&self, store: Arc<dyn SharedStore>) -> Arc<dyn SharedStore> {
        self.window.open_on(&store);
        self.embedding.store(store)
    }

    fn record(&self, store: Arc<dyn RecordStore>) -> Arc<dyn RecordStore> {
        self.embedding.record(store)
    }

    fn evidence(&self, source: Arc<dyn EvidenceSource>) -> Arc<dyn EvidenceSource> {
        self.embedding.evidence(source)
    }
}

impl Embedding for Window {
    fn store(&self, store: Arc<dyn SharedStore>) -> Arc<dyn SharedStore> {
        self.open_on(&store);
        store
    }
}
