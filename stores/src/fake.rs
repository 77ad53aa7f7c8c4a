//! A fake engine in memory, that fails when it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::{
    Entry, HintSender, Hints, Key, Page, ReadError, SharedStore, Space, VALUE_BYTES_MAX, Version,
    Versioned, WriteError, hints,
};

/// What becomes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and nobody learns of it.
    UnknownStored,
    /// It is not done, and nobody learns of it.
    UnknownNotStored,
    /// It is not done, for sure.
    Failed,
}

/// A store in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct FakeStore(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<(&'static str, String), (u64, Vec<u8>)>,
    writings: u64,
    watchers: Vec<(&'static str, HintSender)>,
    fault: Option<Fault>,
    later: Option<(u64, Fault)>,
    no_reads: bool,
}

impl FakeStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What becomes of the next write.
    pub fn fail_next_write(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// What becomes of each write from now on, once so many have been made.
    pub fn fail_write_after(&self, writes: u64, fault: Fault) {
        self.state().later = Some((writes, fault));
    }

    /// Whether reads fail from now on.
    pub fn fail_reads(&self, fail: bool) {
        self.state().no_reads = fail;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<MutexGuard<'_, State>, ReadError> {
        let state = self.state();
        match state.no_reads {
            true => Err(ReadError::Failed { reason: "the fake was told to fail".to_owned() }),
            false => Ok(state),
        }
    }

    fn write(
        &self,
        key: &Key,
        expected: Option<&Version>,
        value: Option<&[u8]>,
    ) -> Result<Version, WriteError> {
        let mut state = self.state();
        let later = match &mut state.later {
            Some((0, fault)) => Some(*fault),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        let fault = state.fault.take().or(later);
        let told = "the fake was told to fail";
        match fault {
            Some(Fault::Failed) => return Err(WriteError::failed(key, told)),
            Some(Fault::UnknownNotStored) => return Err(WriteError::unknown(key, told)),
            Some(Fault::UnknownStored) | None => {}
        }
        if value.is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
            return Err(WriteError::failed(key, "its value is too large"));
        }
        let place = (key.space().name(), key.id().to_owned());
        let found = state.entries.get(&place).map(|(writing, _)| version(*writing));
        if found.as_ref() != expected {
            return Err(WriteError::conflict(key, found));
        }
        state.writings += 1;
        let writing = state.writings;
        match value {
            Some(value) => _ = state.entries.insert(place, (writing, value.to_owned())),
            None => _ = state.entries.remove(&place),
        }
        state.watchers.retain(|(_, sender)| !sender.is_unread());
        let of_space = state.watchers.iter().filter(|(space, _)| *space == key.space().name());
        of_space.for_each(|(_, sender)| sender.at(key.id()));
        match fault {
            Some(_) => Err(WriteError::unknown(key, told)),
            None => Ok(version(writing)),
        }
    }
}

fn version(writing: u64) -> Version {
    Version::new(writing.to_string())
}

#[async_trait]
impl SharedStore for FakeStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        let found = self.read()?.entries.get(&(key.space().name(), key.id().to_owned())).cloned();
        Ok(found.map(|(writing, value)| Versioned { value, version: version(writing) }))
    }

    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        self.write(key, None, Some(value))
    }

    async fn put(
        &self,
        key: &Key,
        value: &[u8],
        expected: &Version,
    ) -> Result<Version, WriteError> {
        self.write(key, Some(expected), Some(value))
    }

    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
        self.write(key, Some(expected), None).map(drop)
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let state = self.read()?;
        let from = (space.name(), from.unwrap_or_default().to_owned());
        let mut left =
            state.entries.range(from..).take_while(|((name, _), _)| *name == space.name());
        let entries = left.by_ref().take(limit).map(|((_, id), (writing, value))| Entry {
            id: id.clone(),
            value: value.clone(),
            version: version(*writing),
        });
        let entries = entries.collect();
        Ok(Page { entries, more: left.next().is_some() })
    }

    async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
        let (sender, hints) = hints();
        self.read()?.watchers.push((space.name(), sender));
        Ok(hints)
    }
}
