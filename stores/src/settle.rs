//! Writes whose outcome is known when they return, and lists that are read to their end.

use crate::{Entry, Key, ReadError, SharedStore, Space, Version, Versioned, WriteError};

/// How often a write is tried whose outcome reading did not settle.
const TRIES: usize = 8;
/// Entries that are read at once.
const PAGE: usize = 500;

/// What came of a creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The key holds what was to be written, and nobody else wrote it differently.
    Done(Version),
    /// Something else is there.
    There(Versioned),
}

/// Writes a key that is not there. An unknown outcome is settled by reading again: a key that holds these bytes is done,
/// whoever wrote them.
///
/// # Errors
/// [`WriteError::Failed`], and [`WriteError::Unknown`] when reading fails too.
pub async fn create(
    store: &dyn SharedStore,
    key: &Key,
    value: &[u8],
) -> Result<Created, WriteError> {
    let mut last = WriteError::failed(key, "it comes and goes");
    for _ in 0..TRIES {
        match store.create(key, value).await {
            Ok(version) => return Ok(Created::Done(version)),
            Err(error @ WriteError::Failed { .. }) => return Err(error),
            Err(error) => last = error,
        }
        match read_back(store, key, &last).await? {
            Some(there) if there.value == value => return Ok(Created::Done(there.version)),
            Some(there) => return Ok(Created::There(there)),
            // Deleted meanwhile; or a write that is still under way, which another creation meets.
            None => {}
        }
    }
    Err(last)
}

/// Writes a key that is at this version; `None`: that is not there. An unknown outcome is settled by reading again.
///
/// # Errors
/// [`WriteError::Conflict`] when somebody else wrote something else, [`WriteError::Failed`], and [`WriteError::Unknown`] when
/// reading fails too.
pub async fn put(
    store: &dyn SharedStore,
    key: &Key,
    value: &[u8],
    expected: Option<&Version>,
) -> Result<Version, WriteError> {
    let Some(expected) = expected else {
        return match create(store, key, value).await? {
            Created::Done(version) => Ok(version),
            Created::There(there) => Err(WriteError::conflict(key, Some(there.version))),
        };
    };
    let mut last = None;
    for _ in 0..TRIES {
        let error = match store.put(key, value, expected).await {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        if is_settled(&error, last.as_ref()) {
            return Err(error);
        }
        let last = last.insert(error);
        match read_back(store, key, last).await? {
            Some(there) if there.version == *expected => {}
            Some(there) if there.value == value => return Ok(there.version),
            there => return Err(WriteError::conflict(key, there.map(|there| there.version))),
        }
    }
    Err(last.unwrap_or_else(|| WriteError::failed(key, "nothing was tried")))
}

/// Deletes a key that is at this version. An unknown outcome is settled by reading again.
///
/// # Errors
/// As [`put`].
pub async fn delete(
    store: &dyn SharedStore,
    key: &Key,
    expected: &Version,
) -> Result<(), WriteError> {
    let mut last = None;
    for _ in 0..TRIES {
        let error = match store.delete(key, expected).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if is_settled(&error, last.as_ref()) {
            return Err(error);
        }
        let last = last.insert(error);
        match read_back(store, key, last).await? {
            None => return Ok(()),
            Some(there) if there.version == *expected => {}
            Some(there) => return Err(WriteError::conflict(key, Some(there.version))),
        }
    }
    Err(last.unwrap_or_else(|| WriteError::failed(key, "nothing was tried")))
}

/// Whether nothing of it is unknown: a conflict behind an unknown outcome may be with the own write.
const fn is_settled(error: &WriteError, before: Option<&WriteError>) -> bool {
    !matches!(error, WriteError::Unknown { .. }) && before.is_none()
}

async fn read_back(
    store: &dyn SharedStore,
    key: &Key,
    write: &WriteError,
) -> Result<Option<Versioned>, WriteError> {
    let unsettled = |error: ReadError| WriteError::unknown(key, format!("{write}; {error}"));
    store.get(key).await.map_err(unsettled)
}

/// All entries of a space, in the order of their ids.
///
/// # Errors
/// [`ReadError`].
pub async fn all(store: &dyn SharedStore, space: Space) -> Result<Vec<Entry>, ReadError> {
    let (mut entries, mut from) = (Vec::<Entry>::new(), None::<String>);
    loop {
        let page = store.list(space, from.as_deref(), PAGE).await?;
        entries.extend(page.entries);
        match (page.more, entries.last()) {
            // An id behind this one, and before all others: no id has control characters.
            (true, Some(last)) => from = Some(format!("{}\u{1}", last.id)),
            _ => return Ok(entries),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeStore, Fault};
    use crate::spaces::AGENTS;

    fn key() -> Key {
        AGENTS.key("a").unwrap()
    }

    #[tokio::test]
    async fn a_write_of_unknown_outcome_is_settled_whether_it_was_stored_or_not() {
        for fault in [Fault::UnknownStored, Fault::UnknownNotStored] {
            let store = FakeStore::new();
            store.fail_next_write(fault);
            let Ok(Created::Done(first)) = create(&store, &key(), b"1").await else {
                panic!("{fault:?}")
            };
            store.fail_next_write(fault);
            let second = put(&store, &key(), b"2", Some(&first)).await.unwrap();
            let there = store.get(&key()).await.unwrap().unwrap();
            assert_eq!((there.value.as_slice(), &there.version), (b"2".as_slice(), &second));
            let late = put(&store, &key(), b"3", Some(&first)).await;
            assert!(matches!(late, Err(WriteError::Conflict { .. })), "{late:?}");
            store.fail_next_write(fault);
            delete(&store, &key(), &second).await.unwrap();
            assert_eq!(store.get(&key()).await, Ok(None));
        }
    }

    #[tokio::test]
    async fn a_creation_that_meets_something_else_says_what_is_there() {
        let store = FakeStore::new();
        store.create(&key(), b"other").await.unwrap();
        for fault in [None, Some(Fault::UnknownNotStored)] {
            fault.into_iter().for_each(|fault| store.fail_next_write(fault));
            let met = create(&store, &key(), b"mine").await;
            assert!(
                matches!(&met, Ok(Created::There(there)) if there.value == b"other"),
                "{met:?}"
            );
        }
        assert!(matches!(create(&store, &key(), b"other").await, Ok(Created::Done(_))));
    }

    #[tokio::test]
    async fn what_cannot_be_read_back_stays_unknown() {
        let store = FakeStore::new();
        store.fail_next_write(Fault::UnknownStored);
        store.fail_reads(true);
        let left = create(&store, &key(), b"1").await;
        assert!(matches!(left, Err(WriteError::Unknown { .. })), "{left:?}");
    }

    #[tokio::test]
    async fn all_pages_of_a_space_are_read() {
        let store = FakeStore::new();
        for n in 0..PAGE * 2 + 1 {
            store.create(&AGENTS.key(format!("{n:05}")).unwrap(), b"").await.unwrap();
        }
        assert_eq!(all(&store, AGENTS).await.unwrap().len(), PAGE * 2 + 1);
    }
}
