//! What happens to engines that are reached over a network.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stores::{Key, ReadError, Sensitivity, SharedStore, Space, Version, WriteError};

use super::watches::hinted;
use super::{PLAIN, created, got, holds, key, put};
use crate::report::{Broken, Report, Verdict, demand, works};
use crate::subject::Subject;

const WATCHED: Space = Space::new("contract-trouble", Sensitivity::Plain);

/// Longest time in which a call ends, whatever happens.
const ENDS: Duration = Duration::from_secs(30);

pub(crate) async fn all(subject: &Subject, report: &mut Report) {
    report.rule("away-is-an-error-and-never-an-answer", mended(subject, away(subject).await).await);
    report
        .rule("a-handle-works-again-by-itself", mended(subject, works_again(subject).await).await);
    report.rule("a-lost-answer-is-unknown", mended(subject, lost_answer(subject).await).await);
    report.rule("a-watch-outlives-a-cut", mended(subject, watch_over_cut(subject).await).await);
    report.rule("a-watch-outlives-a-compaction", watch_over_compaction(subject).await);
}

/// A rule leaves no trouble behind, also when it failed.
async fn mended(subject: &Subject, verdict: Verdict) -> Verdict {
    if let Ok(trouble) = subject.trouble() {
        trouble.mend().await;
    }
    verdict
}

async fn in_time<T>(call: &str, future: impl Future<Output = T>) -> Result<T, Broken> {
    let late = |_| Broken::Failed(format!("{call} did not end within {} s", ENDS.as_secs()));
    tokio::time::timeout(ENDS, future).await.map_err(late)
}

async fn prepared(
    subject: &Subject,
    id: &str,
) -> Result<(Arc<dyn SharedStore>, Key, Version), Broken> {
    subject.trouble()?;
    let store = subject.handle().await?;
    let key = key(PLAIN, id)?;
    let version = created(store.as_ref(), &key, b"before").await?;
    Ok((store, key, version))
}

async fn away(subject: &Subject) -> Verdict {
    let (store, key, version) = prepared(subject, "away").await?;
    subject.trouble()?.cut().await;
    let read = in_time("get", store.get(&key)).await?;
    let failed = matches!(read, Err(ReadError::Failed { .. }));
    demand(failed, format!("get must fail while the engine is away, and gave {read:?}"))?;
    let list = in_time("list", store.list(PLAIN, None, 10)).await?;
    let failed = matches!(list, Err(ReadError::Failed { .. }));
    demand(failed, "list must fail while the engine is away")?;
    let written = in_time("put", store.put(&key, b"x", &version)).await?;
    let no_answer = matches!(written, Err(WriteError::Failed { .. } | WriteError::Unknown { .. }));
    demand(no_answer, format!("put must fail while the engine is away, and gave {written:?}"))
}

async fn works_again(subject: &Subject) -> Verdict {
    let (store, key, version) = prepared(subject, "works-again").await?;
    let trouble = subject.trouble()?;
    trouble.cut().await;
    let written = in_time("put", store.put(&key, b"lost", &version)).await?;
    demand(written.is_err(), "put was done while the engine was away")?;
    trouble.mend().await;
    let reading = async {
        loop {
            match store.get(&key).await {
                Ok(found) => return found,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let found = in_time("a handle's return", reading).await?;
    let found = found.ok_or_else(|| Broken::Failed("the key is gone".to_owned()))?;
    if matches!(written, Err(WriteError::Failed { .. })) {
        demand(found.version == version, "a write that failed for sure was done")?;
    }
    let version = put(store.as_ref(), &key, b"after", &found.version).await?;
    holds(store.as_ref(), &key, b"after", &version).await
}

async fn lost_answer(subject: &Subject) -> Verdict {
    let (store, key, version) = prepared(subject, "lost-answer").await?;
    let trouble = subject.trouble()?;
    trouble.lose_answers().await;
    let written = in_time("put", store.put(&key, b"lost", &version)).await?;
    let unknown = matches!(written, Err(WriteError::Unknown { .. }));
    demand(unknown, format!("a put whose answer is lost must be unknown, and gave {written:?}"))?;
    trouble.mend().await;
    let other = subject.handle().await?;
    let reading = async {
        loop {
            match other.get(&key).await {
                Ok(found) => return found,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let found = in_time("another handle's reading", reading).await?;
    let value = found.map(|found| found.value);
    let right = value.as_deref().is_some_and(|value| value == b"before" || value == b"lost");
    demand(right, format!("after a lost answer the key holds {value:?}"))
}

async fn watch_over_cut(subject: &Subject) -> Verdict {
    let trouble = subject.trouble()?;
    let store = subject.handle().await?;
    let mut hints = works("watch", store.watch(WATCHED).await)?;
    let before = key(WATCHED, "before")?;
    created(store.as_ref(), &before, b"x").await?;
    hinted(&mut hints, BTreeSet::from(["before".to_owned()])).await?;
    trouble.cut().await;
    // Long enough that the watch notices.
    let read = in_time("get", store.get(&before)).await?;
    demand(read.is_err(), "get was answered while the engine was away")?;
    trouble.mend().await;
    let other = subject.handle().await?;
    let key = key(WATCHED, "after")?;
    let writing = async {
        loop {
            match other.create(&key, b"x").await {
                Ok(_) | Err(WriteError::Conflict { .. }) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    in_time("a write after the cut", writing).await?;
    hinted(&mut hints, BTreeSet::from(["after".to_owned()])).await
}

async fn watch_over_compaction(subject: &Subject) -> Verdict {
    let trouble = subject.trouble()?;
    let store = subject.handle().await?;
    let mut hints = works("watch", store.watch(WATCHED).await)?;
    let key = key(WATCHED, "compacted")?;
    let mut version = created(store.as_ref(), &key, b"0").await?;
    for n in 0..20_u8 {
        version = put(store.as_ref(), &key, &[n], &version).await?;
    }
    if !trouble.compact().await {
        return Err(Broken::Skipped("the engine keeps no history".to_owned()));
    }
    hinted(&mut hints, BTreeSet::from(["compacted".to_owned()])).await?;
    put(store.as_ref(), &key, b"after", &version).await?;
    hinted(&mut hints, BTreeSet::from(["compacted".to_owned()])).await?;
    let found = got(store.as_ref(), &key).await?;
    demand(found.is_some(), "the key is gone after a compaction")
}
