//! Several callers at once.

use futures::future::join_all;
use stores::{SharedStore, WriteError};

use super::{PLAIN, created, got, key};
use crate::report::{Broken, Report, Verdict, demand, works};
use crate::subject::Subject;

const CALLERS: u8 = 8;
const ROUNDS: u64 = 12;

pub(crate) async fn all(subject: &Subject, report: &mut Report) {
    report.rule("one-of-many-creators-wins", one_creator(subject).await);
    report.rule("no-write-is-lost", no_write_lost(subject).await);
    report.rule("one-of-many-deleters-wins", one_deleter(subject).await);
}

async fn handles(subject: &Subject) -> Result<Vec<std::sync::Arc<dyn SharedStore>>, Broken> {
    let mut handles = Vec::new();
    for _ in 0..CALLERS {
        handles.push(subject.handle().await?);
    }
    Ok(handles)
}

async fn one_creator(subject: &Subject) -> Verdict {
    let handles = handles(subject).await?;
    for round in 0..ROUNDS {
        let key = key(PLAIN, format!("creators-{round}"))?;
        let calls =
            handles.iter().zip(0..).map(async |(store, n): (_, u8)| store.create(&key, &[n]).await);
        let answers = join_all(calls).await;
        let won: Vec<u8> =
            answers.iter().zip(0..).filter(|(answer, _)| answer.is_ok()).map(|(_, n)| n).collect();
        let [winner] = won.as_slice() else {
            return Err(Broken::Failed(format!("{} of {CALLERS} creators won", won.len())));
        };
        let lost =
            answers.iter().filter(|answer| matches!(answer, Err(WriteError::Conflict { .. })));
        demand(
            lost.count() == usize::from(CALLERS) - 1,
            format!("not all others conflicted: {answers:?}"),
        )?;
        let store = subject.handle().await?;
        let found = got(store.as_ref(), &key).await?.map(|found| found.value);
        demand(found.as_deref() == Some(&[*winner]), format!("{winner} won, {found:?} is there"))?;
    }
    Ok(())
}

async fn no_write_lost(subject: &Subject) -> Verdict {
    let handles = handles(subject).await?;
    let key = key(PLAIN, "counter")?;
    let store = subject.handle().await?;
    created(store.as_ref(), &key, &0_u64.to_be_bytes()).await?;
    let counting = handles.iter().map(async |store| {
        for _ in 0..ROUNDS {
            loop {
                let found = got(store.as_ref(), &key).await?;
                let found =
                    found.ok_or_else(|| Broken::Failed("the counter is gone".to_owned()))?;
                let bytes = works("the counter", <[u8; 8]>::try_from(found.value.as_slice()))?;
                let next = (u64::from_be_bytes(bytes) + 1).to_be_bytes();
                match store.put(&key, &next, &found.version).await {
                    Ok(_) => break,
                    Err(WriteError::Conflict { .. }) => {}
                    Err(error) => return Err(Broken::Failed(format!("put failed: {error}"))),
                }
            }
        }
        Ok(())
    });
    join_all(counting).await.into_iter().collect::<Verdict>()?;
    let found = got(store.as_ref(), &key).await?.map(|found| found.value);
    let right = u64::from(CALLERS) * ROUNDS;
    demand(
        found.as_deref() == Some(right.to_be_bytes().as_slice()),
        format!("after {right} increments the counter is {found:?}"),
    )
}

async fn one_deleter(subject: &Subject) -> Verdict {
    let handles = handles(subject).await?;
    let key = key(PLAIN, "deleters")?;
    let store = subject.handle().await?;
    let version = created(store.as_ref(), &key, b"x").await?;
    let answers = join_all(handles.iter().map(|store| store.delete(&key, &version))).await;
    let won = answers.iter().filter(|answer| answer.is_ok()).count();
    demand(won == 1, format!("{won} of {CALLERS} deleters won"))?;
    demand(got(store.as_ref(), &key).await?.is_none(), "a key that was deleted is there")
}
