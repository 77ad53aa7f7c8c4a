//! Lists.

use std::collections::BTreeMap;

use stores::{Sensitivity, SharedStore, Space};

use super::{created, deleted, key, put};
use crate::report::{Report, Verdict, demand, works};
use crate::subject::Subject;

const ORDERED: Space = Space::new("contract-list", Sensitivity::Plain);
const ORDERED_SECRET: Space = Space::new("contract-list-secret", Sensitivity::Secret);
const BUSY: Space = Space::new("contract-busy", Sensitivity::Plain);
const EMPTY: Space = Space::new("contract-empty", Sensitivity::Plain);

pub(crate) async fn all(subject: &Subject, report: &mut Report) {
    report.rule("a-list-is-whole-and-in-order", in_order(subject).await);
    report.rule("pages-have-every-entry-once", pages(subject).await);
    report.rule("a-list-begins-where-it-is-asked-to", begins(subject).await);
    report.rule("what-is-not-touched-is-listed-once", untouched(subject).await);
}

type Listed = Vec<(String, Vec<u8>)>;

async fn listed(
    store: &dyn SharedStore,
    space: Space,
    from: Option<&str>,
    limit: usize,
) -> Result<Listed, crate::report::Broken> {
    let (mut all, mut from) = (Vec::new(), from.map(str::to_owned));
    loop {
        let page = works("list", store.list(space, from.as_deref(), limit).await)?;
        demand(page.entries.len() <= limit, "a page is longer than was asked for")?;
        let Some(last) = page.entries.last() else {
            demand(!page.more, "an empty page says that there is more")?;
            return Ok(all);
        };
        // The smallest id behind it.
        from = Some(format!("{}\u{1}", last.id));
        let more = page.more;
        all.extend(page.entries.into_iter().map(|entry| (entry.id, entry.value)));
        if !more {
            return Ok(all);
        }
    }
}

/// Ids that sort by their bytes otherwise than by case, by length or as numbers.
const IDS: [&str; 12] = ["10", "9", "B", "a", "a/b", "a0", "aa", "b", "~", "\u{e9}", "-", "a b"];

async fn filled(store: &dyn SharedStore, space: Space) -> Result<Listed, crate::report::Broken> {
    let mut all = BTreeMap::new();
    for id in IDS {
        created(store, &key(space, id)?, id.as_bytes()).await?;
        all.insert(id.to_owned(), id.as_bytes().to_vec());
    }
    Ok(all.into_iter().collect())
}

async fn in_order(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    demand(
        listed(store.as_ref(), EMPTY, None, 10).await?.is_empty(),
        "an empty space lists something",
    )?;
    for space in [ORDERED, ORDERED_SECRET] {
        let all = filled(store.as_ref(), space).await?;
        let found = listed(store.as_ref(), space, None, 1_000).await?;
        demand(found == all, format!("{found:?} was listed, {all:?} is there"))?;
    }
    let page = works("list", store.list(ORDERED, None, 1_000).await)?;
    for entry in page.entries {
        let found = super::got(store.as_ref(), &key(ORDERED, &*entry.id)?).await?;
        let same = found.is_some_and(|found| found.version == entry.version);
        demand(same, format!("{} is listed with another version than it is read with", entry.id))?;
    }
    Ok(())
}

async fn pages(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    let all = listed(store.as_ref(), ORDERED, None, 1_000).await?;
    for limit in [1, 2, 5, IDS.len() - 1, IDS.len(), IDS.len() + 1] {
        let found = listed(store.as_ref(), ORDERED, None, limit).await?;
        demand(found == all, format!("in pages of {limit}: {found:?}, at once: {all:?}"))?;
    }
    Ok(())
}

async fn begins(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    let all = listed(store.as_ref(), ORDERED, None, 1_000).await?;
    for from in ["a", "a!", "a/", "0", "zz", "\u{10ffff}"] {
        let found = listed(store.as_ref(), ORDERED, Some(from), 1_000).await?;
        let right: Listed = all.iter().filter(|(id, _)| id.as_str() >= from).cloned().collect();
        demand(found == right, format!("from {from:?}: {found:?}, should be {right:?}"))?;
    }
    Ok(())
}

async fn untouched(subject: &Subject) -> Verdict {
    let (store, other) = (subject.handle().await?, subject.handle().await?);
    for n in 0..40 {
        created(store.as_ref(), &key(BUSY, format!("still-{n:02}"))?, b"x").await?;
    }
    let churn = async {
        for n in 0..60 {
            let key = key(BUSY, format!("{}-{n:02}", if n % 2 == 0 { "a" } else { "z" }))?;
            let version = created(other.as_ref(), &key, b"1").await?;
            let version = put(other.as_ref(), &key, b"2", &version).await?;
            if n % 3 == 0 {
                deleted(other.as_ref(), &key, &version).await?;
            }
        }
        Ok(())
    };
    let reading = async {
        for _ in 0..5 {
            let found = listed(store.as_ref(), BUSY, None, 7).await?;
            let still = found.iter().filter(|(id, _)| id.starts_with("still-")).count();
            demand(
                still == 40,
                format!("{still} of 40 entries were listed while others were written"),
            )?;
        }
        Ok(())
    };
    let (churned, read) = tokio::join!(churn, reading);
    churned.and(read)
}
