//! What a server left behind: the journal in its data directory must lead to its record, by the rules, step by step.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use host::RealDisk;
use rotation::record;
use rotation_driver::{RecordStore as _, SharedRecord};
use stores::SharedStore;
use stores_redb::{OpenError, RedbStore};

/// How long a file that a server writes to may take to be read whole.
const READABLE: Duration = Duration::from_secs(20);

/// Entries of a page of the journal.
const PAGE: usize = 1_000;

/// Judges the journal in a data directory, or that of the server in this process that still runs there. Where no state is
/// kept there is nothing to judge.
///
/// # Errors
/// If the journal or the record cannot be read, or does not hold.
#[expect(clippy::disallowed_methods, reason = "a wait of a test, without a runtime")]
pub(super) fn of(data: &Path, running: Option<Arc<dyn SharedStore>>) -> anyhow::Result<()> {
    let path = data.join("state.redb");
    if let Some(store) = running.filter(|_| path.exists()) {
        return apart(store);
    }
    let began = Instant::now();
    loop {
        let judged = match RedbStore::open(Arc::new(RealDisk), &path) {
            Err(OpenError::Missing { .. }) => return Ok(()),
            Err(OpenError::InUse { .. }) => copied(&path),
            opened => return apart(Arc::new(opened?)),
        };
        if judged.is_ok() || began.elapsed() > READABLE {
            return judged;
        }
        // The copy was torn, perhaps.
        thread::sleep(Duration::from_millis(50));
    }
}

/// The same with a copy of a file that another process writes to.
fn copied(path: &Path) -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let copy = place.path().join("state.redb");
    std::fs::copy(path, &copy)?;
    apart(Arc::new(RedbStore::open(Arc::new(RealDisk), &copy)?))
}

/// Whoever drops a directory may be within a runtime.
fn apart(store: Arc<dyn SharedStore>) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let judged = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(judge(store))
        });
        judged.join().map_err(|_| anyhow::anyhow!("the judge of a journal panicked"))?
    })
}

async fn judge(store: Arc<dyn SharedStore>) -> anyhow::Result<()> {
    let record = SharedRecord::new(store);
    let (state, entries) = loop {
        // A start that was refused leaves a file without a record.
        let Some(stored) = record.load().await? else { return Ok(()) };
        let state = record::decode(&stored.record)?;
        let entries = journal(&record).await?;
        // A server that still runs may have gone on meanwhile.
        if record.load().await?.is_some_and(|now| now.record == stored.record) {
            break (state, entries);
        }
    };
    let replayed = rotation_driver::replay(state.trust_domain.clone(), &entries)
        .context("the journal that a server left does not hold")?;
    ensure!(
        replayed.state == state,
        "the journal that a server left leads to generation {}, its record has {}",
        replayed.state.generation,
        state.generation
    );
    Ok(())
}

async fn journal(record: &SharedRecord) -> anyhow::Result<Vec<(u64, Vec<u8>)>> {
    let mut entries = Vec::new();
    loop {
        let from = entries.last().map_or(0, |(index, _)| *index + 1);
        let page = record.journal(from, PAGE).await?;
        if page.is_empty() {
            return Ok(entries);
        }
        entries.extend(page);
    }
}

#[cfg(test)]
mod tests {
    use stores::spaces::JOURNAL;

    use super::*;
    use crate::support::CaDir;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_journal_that_lost_an_entry_does_not_pass() {
        let dir = CaDir::new("").unwrap();
        CaDir::stop(dir.start().await.unwrap()).await.unwrap();
        of(&dir.data(), None).unwrap();
        let entries = dir.window().all(&dir.data(), JOURNAL).await.unwrap();
        let first = entries.iter().map(|entry| &entry.id).min().unwrap();
        let path = dir.data().join("state.redb");
        let store = RedbStore::open(Arc::new(RealDisk), &path).unwrap();
        let key = JOURNAL.key(&**first).unwrap();
        let there = store.get(&key).await.unwrap().unwrap();
        stores::settle::delete(&store, &key, &there.version).await.unwrap();
        drop(store);
        let said = format!("{:#}", of(&dir.data(), None).unwrap_err());
        assert!(said.contains("what came before is gone"), "{said}");
        dir.is_tampered_with();
    }
}
