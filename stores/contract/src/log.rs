//! Several writers of one key while something happens to the engine: for tests of faults that only one engine has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use stores::SharedStore;

use crate::report::{Broken, Verdict, demand, works};
use crate::rules::{PLAIN, created, got, key};

/// What each writer writes at least.
const ENTRIES_MIN: u32 = 10;
/// Longest time for one entry, whatever happens meanwhile.
const ENTRY_WITHIN: Duration = Duration::from_secs(60);
/// Between a refusal and another try; and between two entries, so that troubles find writers at work.
const PAUSE: Duration = Duration::from_millis(20);
const ENTRY_BYTES: usize = 8;

/// Each handle appends entries of its own to one key for as long as `trouble` takes, and whoever does not know whether its
/// entry was written reads. At the end each entry is there once.
///
/// # Errors
/// Says which entries are lost, or there twice.
pub async fn no_entry_is_lost_or_repeated(
    handles: &[Arc<dyn SharedStore>],
    trouble: impl Future<Output = ()>,
) -> Verdict {
    let none = || Broken::Skipped("no handle is given".to_owned());
    let first = handles.first().ok_or_else(none)?.as_ref();
    created(first, &key(PLAIN, "log")?, b"").await?;
    let is_over = AtomicBool::new(false);
    let troubled = async {
        trouble.await;
        is_over.store(true, Ordering::SeqCst);
    };
    let writing = handles.iter().zip(0_u32..);
    let writing = join_all(writing.map(|(store, n)| writer(store.as_ref(), n, &is_over)));
    let (written, ()) = tokio::join!(writing, troubled);
    let counts = written.into_iter().collect::<Result<Vec<u32>, Broken>>()?;
    let log = got(first, &key(PLAIN, "log")?).await?.map(|found| found.value).unwrap_or_default();
    let there: Vec<&[u8]> = log.chunks(ENTRY_BYTES).collect();
    let each: BTreeSet<&[u8]> = there.iter().copied().collect();
    let all: u32 = counts.iter().sum();
    let right = there.len() == each.len() && u32::try_from(each.len()) == Ok(all);
    let (there, each) = (there.len(), each.len());
    demand(right, format!("{all} entries were written, {there} are there, of which {each} differ"))
}

/// Appends until the trouble is over; answers how many.
async fn writer(store: &dyn SharedStore, n: u32, is_over: &AtomicBool) -> Result<u32, Broken> {
    let mut count = 0;
    while count < ENTRIES_MIN || !is_over.load(Ordering::SeqCst) {
        let entry = [n.to_be_bytes(), count.to_be_bytes()].concat();
        let late = |_| Broken::Failed(format!("an entry was not written within {ENTRY_WITHIN:?}"));
        tokio::time::timeout(ENTRY_WITHIN, append(store, &entry)).await.map_err(late)??;
        count += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(count)
}

async fn append(store: &dyn SharedStore, entry: &[u8]) -> Verdict {
    let key = key(PLAIN, "log")?;
    loop {
        if let Ok(found) = store.get(&key).await {
            let found = works("the log", found.ok_or("it is gone"))?;
            if found.value.chunks(ENTRY_BYTES).any(|one| one == entry) {
                return Ok(());
            }
            let value = [found.value.as_slice(), entry].concat();
            if store.put(&key, &value, &found.version).await.is_ok() {
                return Ok(());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
