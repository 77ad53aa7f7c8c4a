//! One key, one caller.

use stores::{ID_BYTES_MAX, Sensitivity, Space, VALUE_BYTES_MAX, WriteError};

use super::{PLAIN, conflicts, created, deleted, got, holds, key, put};
use crate::report::{Report, Verdict, demand};
use crate::subject::Subject;

const SECRET: Space = Space::new("contract-secret", Sensitivity::Secret);
/// Its name begins with the other's, and sorts behind it.
const LONGER: Space = Space::new("contract2", Sensitivity::Plain);

pub(crate) async fn all(subject: &Subject, report: &mut Report) {
    report.rule("what-was-never-written-is-absent", absent(subject).await);
    report.rule("what-was-written-is-read", read_back(subject).await);
    report.rule("a-second-create-conflicts", second_create(subject).await);
    report.rule("put-needs-the-present-version", put_needs_version(subject).await);
    report.rule("delete-needs-the-present-version", delete_needs_version(subject).await);
    report.rule("no-version-comes-twice", no_version_twice(subject).await);
    report.rule("values-are-any-bytes-up-to-the-bound", values(subject).await);
    report.rule("ids-are-kept-apart", ids(subject).await);
    report.rule("spaces-are-kept-apart", spaces(subject).await);
    report.rule("another-handle-sees-it-at-once", another_handle(subject).await);
}

async fn absent(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    let absent = got(store.as_ref(), &key(PLAIN, "never")?).await?;
    demand(absent.is_none(), "a key that nobody wrote is there")
}

async fn read_back(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    for (space, id) in [(PLAIN, "read-back"), (SECRET, "read-back")] {
        let key = key(space, id)?;
        let version = created(store.as_ref(), &key, b"one").await?;
        holds(store.as_ref(), &key, b"one", &version).await?;
        let version = put(store.as_ref(), &key, b"two", &version).await?;
        holds(store.as_ref(), &key, b"two", &version).await?;
    }
    Ok(())
}

async fn second_create(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    let key = key(PLAIN, "second-create")?;
    let version = created(store.as_ref(), &key, b"first").await?;
    for value in [b"first".as_slice(), b"second"] {
        let again = store.create(&key, value).await;
        conflicts("create of a key that is there", again, Some(&version))?;
    }
    holds(store.as_ref(), &key, b"first", &version).await
}

async fn put_needs_version(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    let (key, other) = (key(PLAIN, "put")?, key(PLAIN, "put-absent")?);
    let first = created(store.as_ref(), &key, b"1").await?;
    let second = put(store.as_ref(), &key, b"2", &first).await?;
    demand(first != second, "two writings have one version")?;
    let stale = store.put(&key, b"3", &first).await;
    conflicts("put with a former version", stale, Some(&second))?;
    holds(store.as_ref(), &key, b"2", &second).await?;
    let nothing = store.put(&other, b"x", &second).await;
    conflicts("put of a key that is not there", nothing, None)?;
    demand(got(store.as_ref(), &other).await?.is_none(), "a put that conflicted made the key")?;
    // The same bytes again are a writing too.
    let third = put(store.as_ref(), &key, b"2", &second).await?;
    demand(third != second, "a writing of the same bytes kept the version")?;
    holds(store.as_ref(), &key, b"2", &third).await
}

async fn delete_needs_version(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    let key = key(PLAIN, "delete")?;
    let first = created(store.as_ref(), &key, b"1").await?;
    let second = put(store.as_ref(), &key, b"2", &first).await?;
    let stale = store.delete(&key, &first).await;
    conflicts("delete with a former version", stale, Some(&second))?;
    holds(store.as_ref(), &key, b"2", &second).await?;
    deleted(store.as_ref(), &key, &second).await?;
    demand(got(store.as_ref(), &key).await?.is_none(), "a key that was deleted is there")?;
    conflicts("delete of a key that is gone", store.delete(&key, &second).await, None)?;
    conflicts("put of a key that is gone", store.put(&key, b"3", &second).await, None)
}

async fn no_version_twice(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    let key = key(PLAIN, "again")?;
    let mut former = Vec::new();
    for _ in 0..3 {
        let made = created(store.as_ref(), &key, b"same").await?;
        demand(!former.contains(&made), format!("{made} came twice"))?;
        for version in &former {
            let stale = store.put(&key, b"x", version).await;
            conflicts("put with a version from before a delete", stale, Some(&made))?;
        }
        deleted(store.as_ref(), &key, &made).await?;
        former.push(made);
    }
    Ok(())
}

async fn values(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    let every: Vec<u8> = (0..=u8::MAX).collect();
    for space in [PLAIN, SECRET] {
        for (n, value) in
            [Vec::new(), every.clone(), vec![0xff; VALUE_BYTES_MAX]].iter().enumerate()
        {
            let key = key(space, format!("value-{n}"))?;
            let version = created(store.as_ref(), &key, value).await?;
            holds(store.as_ref(), &key, value, &version).await?;
        }
        let (large, key) = (vec![1; VALUE_BYTES_MAX + 1], key(space, "value-too-large")?);
        let refused = store.create(&key, &large).await;
        let failed = matches!(refused, Err(WriteError::Failed { .. }));
        demand(failed, format!("a value above the bound must fail, and gave {refused:?}"))?;
        demand(got(store.as_ref(), &key).await?.is_none(), "a value above the bound is there")?;
    }
    Ok(())
}

async fn ids(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    let longest = "i".repeat(ID_BYTES_MAX);
    let longest_but_one = "i".repeat(ID_BYTES_MAX - 1);
    let ids = [
        "id",
        "ID",
        "id/",
        "id/a",
        "id//a",
        "id a",
        "id.a",
        "id_a",
        "id-a",
        "..",
        "%2f",
        "%",
        "\u{e9}",
        "e\u{301}",
        "\u{1f333}",
        "id\\",
        "'\"`$",
        &longest,
        &longest_but_one,
    ];
    let mut versions = Vec::new();
    for id in ids {
        versions.push(created(store.as_ref(), &key(PLAIN, id)?, id.as_bytes()).await?);
    }
    for (id, version) in ids.iter().zip(&versions) {
        holds(store.as_ref(), &key(PLAIN, *id)?, id.as_bytes(), version).await?;
    }
    Ok(())
}

async fn spaces(subject: &Subject) -> Verdict {
    let store = subject.handle().await?;
    let all = [PLAIN, SECRET, LONGER];
    let mut versions = Vec::new();
    for space in all {
        versions
            .push(created(store.as_ref(), &key(space, "apart")?, space.name().as_bytes()).await?);
    }
    let [first, ..] = versions.as_slice() else { return Ok(()) };
    deleted(store.as_ref(), &key(PLAIN, "apart")?, first).await?;
    for (space, version) in all.iter().zip(&versions).skip(1) {
        let key = key(*space, "apart")?;
        holds(store.as_ref(), &key, space.name().as_bytes(), version).await?;
    }
    Ok(())
}

async fn another_handle(subject: &Subject) -> Verdict {
    let (one, other) = (subject.handle().await?, subject.handle().await?);
    let key = key(PLAIN, "handles")?;
    let mut version = created(one.as_ref(), &key, b"0").await?;
    for n in 1..20_u8 {
        let (writer, reader) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        version = put(writer.as_ref(), &key, &[n], &version).await?;
        holds(reader.as_ref(), &key, &[n], &version).await?;
    }
    deleted(one.as_ref(), &key, &version).await?;
    demand(got(other.as_ref(), &key).await?.is_none(), "another handle sees what was deleted")
}
