//! What a server left behind: the journal in its data directory must lead to its record, by the rules, step by step.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use host::RealDisk;
use rotation::record;
use rotation_driver::{RecordStore as _, SharedRecord};
use stores_redb::{OpenError, RedbStore};

/// How long a server that was dropped in this process may take to let go of its file.
const LETS_GO: Duration = Duration::from_secs(20);

/// Entries of a page of the journal.
const PAGE: usize = 1_000;

/// Judges the journal in a data directory. Without one, or while a server that nobody stopped still has it, there is nothing to
/// judge.
///
/// # Errors
/// If the journal or the record cannot be read, or does not hold.
#[expect(clippy::disallowed_methods, reason = "a wait of a test, without a runtime")]
pub(super) fn of(data: &Path) -> anyhow::Result<()> {
    let path = data.join("state.redb");
    let began = Instant::now();
    let store = loop {
        match RedbStore::open(Arc::new(RealDisk), &path) {
            Err(OpenError::Missing { .. }) => return Ok(()),
            Err(OpenError::InUse { .. }) if began.elapsed() > LETS_GO => return Ok(()),
            Err(OpenError::InUse { .. }) => thread::sleep(Duration::from_millis(10)),
            opened => break opened?,
        }
    };
    // Whoever drops a directory may be within a runtime.
    thread::scope(|scope| {
        let judged = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(judge(store))
        });
        judged.join().map_err(|_| anyhow::anyhow!("the judge of a journal panicked"))?
    })
}

async fn judge(store: RedbStore) -> anyhow::Result<()> {
    let record = SharedRecord::new(Arc::new(store));
    // A start that was refused leaves a file without a record.
    let Some(stored) = record.load().await? else { return Ok(()) };
    let state = record::decode(&stored.record)?;
    let mut entries = Vec::new();
    loop {
        let from = entries.last().map_or(0, |(index, _)| *index + 1);
        let page = record.journal(from, PAGE).await?;
        if page.is_empty() {
            break;
        }
        entries.extend(page);
    }
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

#[cfg(test)]
mod tests {
    use stores::SharedStore as _;
    use stores::spaces::JOURNAL;

    use super::*;
    use crate::support::CaDir;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_journal_that_lost_an_entry_does_not_pass() {
        let dir = CaDir::new("").unwrap();
        CaDir::stop(dir.start().await.unwrap()).await.unwrap();
        of(&dir.data()).unwrap();
        let entries = dir.window().all(&dir.data(), JOURNAL).await.unwrap();
        let first = entries.iter().map(|entry| &entry.id).min().unwrap();
        let path = dir.data().join("state.redb");
        let store = RedbStore::open(Arc::new(RealDisk), &path).unwrap();
        let key = JOURNAL.key(&**first).unwrap();
        let there = store.get(&key).await.unwrap().unwrap();
        stores::settle::delete(&store, &key, &there.version).await.unwrap();
        drop(store);
        let said = format!("{:#}", of(&dir.data()).unwrap_err());
        assert!(said.contains("what came before is gone"), "{said}");
        dir.is_tampered_with();
    }
}
