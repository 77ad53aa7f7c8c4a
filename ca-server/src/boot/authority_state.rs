//! The durable state of one root authority, which all servers of the CA share: a key for each name.
//!
//! Beside the values lies a list of their names, so that a value that is deleted is told from one that never was: an
//! authority that lost its book would make a second root for a mesh that has one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use plugins::{AuthorityState, StateError, StateName};
use stores::marked::{mark, unmark};
use stores::spaces::AUTHORITY_BOOKS;
use stores::{Key, ReadError, SharedStore, Version, WriteError, settle};

/// The list of names; no state is called so.
const NAMES: &str = ".names";
/// How often the list is written anew because another server wrote it meanwhile.
const TRIES: usize = 8;

/// Values of one authority in the shared state. A write succeeds only on the value that was read last: of two servers that
/// change one book, the second reads again.
#[derive(Debug)]
pub(super) struct SharedBooks {
    store: Arc<dyn SharedStore>,
    authority: String,
    /// What was read or written last, by name; `None`: that nothing is there.
    seen: Mutex<BTreeMap<String, Option<Version>>>,
}

/// Why a call failed.
enum Fault {
    Gone(String),
    Read(ReadError),
    Write(WriteError),
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<WriteError> for Fault {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// The place of a value.
pub(super) fn place(authority: &str, name: &str) -> Result<Key, ReadError> {
    let key = AUTHORITY_BOOKS.key(format!("{authority}/{name}"));
    key.map_err(|error| ReadError::Failed { reason: error.to_string() })
}

impl SharedBooks {
    /// Begins an authority, unless roots `in_use` come from it: then a missing one was deleted, and stays missing until it
    /// is put back.
    pub(super) async fn open(
        store: Arc<dyn SharedStore>,
        authority: &str,
        in_use: bool,
    ) -> Result<Self, StateError> {
        let books = Self { store, authority: authority.to_owned(), seen: Mutex::default() };
        if !in_use {
            let begun = books.list([]).await;
            begun.map_err(|fault| books.told("store", NAMES, fault))?;
        }
        Ok(books)
    }

    /// Counts these names as ones that were there: a value that is missing then is lost.
    pub(super) async fn expect(
        &self,
        names: impl IntoIterator<Item = &str>,
    ) -> Result<(), StateError> {
        self.list(names).await.map_err(|fault| self.told("store", NAMES, fault))
    }

    fn place(&self, name: &str) -> Result<Key, ReadError> {
        place(&self.authority, name)
    }

    async fn read(&self, name: &str) -> Result<Option<(Vec<u8>, Version)>, ReadError> {
        let key = self.place(name)?;
        let Some(found) = self.store.get(&key).await? else { return Ok(None) };
        Ok(Some((unmark(&key, &found.value)?.to_vec(), found.version)))
    }

    async fn names(&self) -> Result<Option<(BTreeSet<String>, Version)>, ReadError> {
        let Some((text, version)) = self.read(NAMES).await? else { return Ok(None) };
        let names = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
        Ok(Some((names, version)))
    }

    /// That nothing is gone that was there.
    async fn whole(&self) -> Result<(), Fault> {
        let Some((names, _)) = self.names().await? else {
            return Err(Fault::Gone(self.place(NAMES)?.to_string()));
        };
        for name in names {
            let key = self.place(&name)?;
            if self.store.get(&key).await?.is_none() {
                return Err(Fault::Gone(key.to_string()));
            }
        }
        Ok(())
    }

    /// Adds names to the list, which is made if it is missing.
    async fn list(&self, more: impl IntoIterator<Item = &str>) -> Result<(), Fault> {
        let more: Vec<_> = more.into_iter().map(str::to_owned).collect();
        let mut last = None;
        for _ in 0..TRIES {
            let found = self.names().await?;
            let (listed, version) = match found {
                Some((names, version)) => (Some(names), Some(version)),
                None => (None, None),
            };
            let mut all = listed.clone().unwrap_or_default();
            all.extend(more.iter().cloned());
            if Some(&all) == listed.as_ref() {
                return Ok(());
            }
            let text: String = all.iter().map(|name| format!("{name}\n")).collect();
            let key = self.place(NAMES)?;
            let value = mark(&key, text.as_bytes());
            match settle::put(self.store.as_ref(), &key, &value, version.as_ref()).await {
                Ok(_) => return Ok(()),
                Err(error @ WriteError::Conflict { .. }) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        last.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn written(&self, name: &str, contents: &[u8]) -> Result<(), Fault> {
        self.whole().await?;
        let key = self.place(name)?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let expected = match seen {
            Some(seen) => seen,
            None => self.store.get(&key).await?.map(|found| found.version),
        };
        let value = mark(&key, contents);
        let written = settle::put(self.store.as_ref(), &key, &value, expected.as_ref()).await;
        self.note(name, &written);
        written?;
        // The value first: a name without a value would be taken for one that was deleted.
        self.list([name]).await
    }

    /// Whoever was too late, or does not know, reads again.
    fn note(&self, name: &str, written: &Result<Version, WriteError>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(version) => _ = seen.insert(name.to_owned(), Some(version.clone())),
            Err(WriteError::Conflict { .. }) => {}
            Err(_) => _ = seen.remove(name),
        }
    }

    fn told(&self, operation: &'static str, name: &str, fault: Fault) -> StateError {
        let detail = match fault {
            Fault::Gone(key) => format!(
                "{key} was deleted; nothing is made in its place: put back what the store held of authority-books/{} from \
                 the latest backup, or write another section [authority.NAME] and rotate to it",
                self.authority
            ),
            Fault::Read(error) => error.to_string(),
            Fault::Write(error @ WriteError::Conflict { .. }) => {
                format!("{error}; another server works on it too: retry")
            }
            Fault::Write(error) => error.to_string(),
        };
        StateError { operation, name: name.to_owned(), detail }
    }
}

#[async_trait]
impl AuthorityState for SharedBooks {
    async fn get(&self, name: &StateName) -> Result<Option<Vec<u8>>, StateError> {
        let got = async {
            self.whole().await?;
            Ok::<_, Fault>(self.read(name.as_str()).await?)
        };
        let found = got.await.map_err(|fault| self.told("read", name.as_str(), fault))?;
        let (contents, version) = match found {
            Some((contents, version)) => (Some(contents), Some(version)),
            None => (None, None),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(name.to_string(), version);
        Ok(contents)
    }

    async fn put(&self, name: &StateName, contents: &[u8]) -> Result<(), StateError> {
        let written = self.written(name.as_str(), contents).await;
        written.map_err(|fault| self.told("store", name.as_str(), fault))
    }

    async fn check(&self) -> Result<(), StateError> {
        self.whole().await.map_err(|fault| self.told("read", "*", fault))
    }
}

#[cfg(test)]
mod tests {
    use stores::fake::{FakeStore, Fault as Failure};

    use super::*;

    fn book() -> StateName {
        StateName::parse("book").unwrap()
    }

    async fn open(store: &FakeStore, in_use: bool) -> SharedBooks {
        SharedBooks::open(Arc::new(store.clone()), "main", in_use).await.unwrap()
    }

    async fn delete(store: &FakeStore, name: &str) -> Vec<u8> {
        let key = place("main", name).unwrap();
        let there = store.get(&key).await.unwrap().unwrap();
        store.delete(&key, &there.version).await.unwrap();
        there.value
    }

    #[tokio::test]
    async fn what_was_put_is_got_and_a_failed_put_keeps_the_old() {
        let store = FakeStore::new();
        let state = open(&store, false).await;
        assert_eq!(state.get(&book()).await, Ok(None));
        state.put(&book(), b"one").await.unwrap();
        store.fail_next_write(Failure::Failed);
        assert!(state.put(&book(), b"two").await.is_err());
        assert_eq!(state.get(&book()).await, Ok(Some(b"one".to_vec())));
        for failure in [Failure::UnknownStored, Failure::UnknownNotStored] {
            store.fail_next_write(failure);
            state.put(&book(), format!("{failure:?}").as_bytes()).await.unwrap();
            assert_eq!(state.get(&book()).await, Ok(Some(format!("{failure:?}").into_bytes())));
        }
        store.fail_reads(true);
        assert!(state.get(&book()).await.is_err(), "never answered as none");
    }

    #[tokio::test]
    async fn what_was_deleted_is_never_answered_as_none_while_it_runs_or_at_a_start() {
        let store = FakeStore::new();
        let state = open(&store, false).await;
        state.put(&book(), b"one").await.unwrap();
        for gone in ["book", NAMES] {
            let value = delete(&store, gone).await;
            for state in [&state, &open(&store, true).await] {
                let told = state.get(&book()).await.unwrap_err().detail;
                assert!(told.contains("was deleted") && told.contains("backup"), "{told}");
                assert!(state.check().await.is_err() && state.put(&book(), b"new").await.is_err());
            }
            store.create(&place("main", gone).unwrap(), &value).await.unwrap();
            assert_eq!(state.get(&book()).await, Ok(Some(b"one".to_vec())), "put back");
        }
    }

    #[tokio::test]
    async fn a_new_authority_begins_with_nothing_and_others_have_their_own() {
        let store = FakeStore::new();
        let state = open(&store, false).await;
        assert_eq!((state.check().await, state.get(&book()).await), (Ok(()), Ok(None)));
        state.put(&book(), b"one").await.unwrap();
        let other = SharedBooks::open(Arc::new(store.clone()), "main-2", false).await.unwrap();
        assert_eq!(other.get(&book()).await, Ok(None));
    }

    #[tokio::test]
    async fn of_two_servers_that_change_a_book_the_second_reads_again() {
        let store = FakeStore::new();
        let (ours, theirs) = (open(&store, false).await, open(&store, false).await);
        ours.put(&book(), b"one").await.unwrap();
        assert_eq!(theirs.get(&book()).await, Ok(Some(b"one".to_vec())));
        assert_eq!(ours.get(&book()).await, Ok(Some(b"one".to_vec())));
        theirs.put(&book(), b"theirs").await.unwrap();
        let late = ours.put(&book(), b"ours").await.unwrap_err();
        assert!(late.detail.contains("retry"), "{late}");
        assert_eq!(ours.get(&book()).await, Ok(Some(b"theirs".to_vec())));
        ours.put(&book(), b"both").await.unwrap();
    }

    #[tokio::test]
    async fn a_book_that_was_edited_is_refused_by_name() {
        let store = FakeStore::new();
        let state = open(&store, false).await;
        state.put(&book(), b"one").await.unwrap();
        let mut value = delete(&store, "book").await;
        value.push(b'!');
        store.create(&place("main", "book").unwrap(), &value).await.unwrap();
        let told = state.get(&book()).await.unwrap_err().detail;
        assert!(told.contains("authority-books/main/book") && told.contains("backup"), "{told}");
    }
}
