//! Watches.

use std::collections::BTreeSet;
use std::time::Duration;

use stores::{Hints, Look, Sensitivity, Space};

use super::{created, deleted, key, put};
use crate::report::{Broken, Report, Verdict, demand, works};
use crate::subject::Subject;

const WATCHED: Space = Space::new("contract-watch", Sensitivity::Plain);
const WATCHED_SECRET: Space = Space::new("contract-watch-secret", Sensitivity::Secret);
const CROWDED: Space = Space::new("contract-crowd", Sensitivity::Plain);

/// Longest time until a hint comes.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(crate) async fn all(subject: &Subject, report: &mut Report) {
    report.rule("every-change-is-hinted", every_change(subject).await);
    report.rule("changes-while-nobody-reads-are-hinted", while_nobody_reads(subject).await);
    report.rule("a-watch-goes-on", goes_on(subject).await);
}

/// Waits until a watch has said to look at all of these.
pub(super) async fn hinted(hints: &mut Hints, mut wanted: BTreeSet<String>) -> Verdict {
    let waiting = async {
        while !wanted.is_empty() {
            match hints.next().await {
                Look::Everywhere => wanted.clear(),
                Look::At(ids) => wanted.retain(|id| !ids.contains(id)),
            }
        }
    };
    let outcome = tokio::time::timeout(SOON, waiting).await;
    demand(outcome.is_ok(), format!("no hint at {wanted:?} within {} s", SOON.as_secs()))
}

fn one(id: &str) -> BTreeSet<String> {
    BTreeSet::from([id.to_owned()])
}

async fn every_change(subject: &Subject) -> Verdict {
    let (store, other) = (subject.handle().await?, subject.handle().await?);
    for space in [WATCHED, WATCHED_SECRET] {
        let former = key(space, "former")?;
        let before = created(other.as_ref(), &former, b"0").await?;
        let mut hints = works("watch", store.watch(space).await)?;
        let mut second = works("watch", store.watch(space).await)?;
        let key = key(space, "new/one")?;
        let version = created(other.as_ref(), &key, b"1").await?;
        hinted(&mut hints, one("new/one")).await?;
        let version = put(other.as_ref(), &key, b"2", &version).await?;
        hinted(&mut hints, one("new/one")).await?;
        deleted(other.as_ref(), &key, &version).await?;
        hinted(&mut hints, one("new/one")).await?;
        deleted(other.as_ref(), &former, &before).await?;
        hinted(&mut hints, one("former")).await?;
        hinted(&mut second, BTreeSet::from(["new/one".to_owned(), "former".to_owned()])).await?;
    }
    Ok(())
}

async fn while_nobody_reads(subject: &Subject) -> Verdict {
    let (store, other) = (subject.handle().await?, subject.handle().await?);
    let mut hints = works("watch", store.watch(CROWDED).await)?;
    let ids: BTreeSet<String> = (0..200).map(|n| format!("{n:03}")).collect();
    for id in &ids {
        created(other.as_ref(), &key(CROWDED, id)?, b"x").await?;
    }
    hinted(&mut hints, ids).await
}

async fn goes_on(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    let mut hints = works("watch", store.watch(WATCHED).await)?;
    let key = key(WATCHED, "often")?;
    let mut version = created(store.as_ref(), &key, b"0").await?;
    hinted(&mut hints, one("often")).await?;
    for n in 0..100_u8 {
        version = put(store.as_ref(), &key, &[n], &version).await?;
        if hinted(&mut hints, one("often")).await.is_err() {
            return Err(Broken::Failed(format!("the watch was silent after {n} changes")));
        }
    }
    Ok(())
}
