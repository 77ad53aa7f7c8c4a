//! A store in memory, behind a network that can be cut; each fault breaks one promise.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use stores::{
    Entry, HintSender, Hints, Key, Page, ReadError, SharedStore, Space, VALUE_BYTES_MAX, Version,
    Versioned, WriteError, hints,
};
use stores_contract::Trouble;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    InventsKeys,
    LosesThePut,
    CreateReplaces,
    PutIgnoresTheVersion,
    DeleteIgnoresTheVersion,
    CountsEachKeyByItself,
    TakesAnySize,
    FoldsCase,
    DeletesInEverySpace,
    ReadsWhatThisHandleWrote,
    ListsByLength,
    SkipsBetweenPages,
    BeginsBehind,
    SkipsWhileWritten,
    CreatorsDoNotLookTwice,
    WritersDoNotLookTwice,
    DeletersDoNotLook,
    HintsNoDeletion,
    HintsToWaitingReadersAlone,
    FallsSilent,
    AnswersFromMemoryWhileAway,
    StaysAway,
    CallsALostAnswerFailed,
    WatchEndsWithItsConnection,
    WatchEndsWithAnHistory,
}

impl Fault {
    pub(crate) const ALL: [(Self, &str); 25] = [
        (Self::InventsKeys, "what-was-never-written-is-absent"),
        (Self::LosesThePut, "what-was-written-is-read"),
        (Self::CreateReplaces, "a-second-create-conflicts"),
        (Self::PutIgnoresTheVersion, "put-needs-the-present-version"),
        (Self::DeleteIgnoresTheVersion, "delete-needs-the-present-version"),
        (Self::CountsEachKeyByItself, "no-version-comes-twice"),
        (Self::TakesAnySize, "values-are-any-bytes-up-to-the-bound"),
        (Self::FoldsCase, "ids-are-kept-apart"),
        (Self::DeletesInEverySpace, "spaces-are-kept-apart"),
        (Self::ReadsWhatThisHandleWrote, "another-handle-sees-it-at-once"),
        (Self::ListsByLength, "a-list-is-whole-and-in-order"),
        (Self::SkipsBetweenPages, "pages-have-every-entry-once"),
        (Self::BeginsBehind, "a-list-begins-where-it-is-asked-to"),
        (Self::SkipsWhileWritten, "what-is-not-touched-is-listed-once"),
        (Self::CreatorsDoNotLookTwice, "one-of-many-creators-wins"),
        (Self::WritersDoNotLookTwice, "no-write-is-lost"),
        (Self::DeletersDoNotLook, "one-of-many-deleters-wins"),
        (Self::HintsNoDeletion, "every-change-is-hinted"),
        (Self::HintsToWaitingReadersAlone, "changes-while-nobody-reads-are-hinted"),
        (Self::FallsSilent, "a-watch-goes-on"),
        (Self::AnswersFromMemoryWhileAway, "away-is-an-error-and-never-an-answer"),
        (Self::StaysAway, "a-handle-works-again-by-itself"),
        (Self::CallsALostAnswerFailed, "a-lost-answer-is-unknown"),
        (Self::WatchEndsWithItsConnection, "a-watch-outlives-a-cut"),
        (Self::WatchEndsWithAnHistory, "a-watch-outlives-a-compaction"),
    ];
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Up,
    Cut,
    AnswersLost,
}

struct Watcher {
    space: &'static str,
    sender: HintSender,
    said: u32,
}

struct State {
    entries: BTreeMap<(&'static str, String), (u64, Vec<u8>)>,
    writings: u64,
    watchers: Vec<Watcher>,
    line: Line,
    cuts: u32,
}

pub(crate) struct Network {
    fault: Option<Fault>,
    state: Mutex<State>,
    handles: AtomicU32,
}

impl Network {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        let state = State {
            entries: BTreeMap::new(),
            writings: 0,
            watchers: Vec::new(),
            line: Line::Up,
            cuts: 0,
        };
        Self { fault, state: Mutex::new(state), handles: AtomicU32::new(0) }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, key: &Key) -> (&'static str, String) {
        let id = key.id().to_owned();
        (key.space().name(), if self.has(Fault::FoldsCase) { id.to_lowercase() } else { id })
    }

    fn tell(&self, state: &mut State, key: &Key) {
        for watcher in &mut state.watchers {
            watcher.said += 1;
            let silent = self.has(Fault::FallsSilent) && watcher.said > 50
                || self.has(Fault::HintsToWaitingReadersAlone) && watcher.said > 100;
            if watcher.space == key.space().name() && !silent {
                watcher.sender.at(key.id());
            }
        }
    }
}

#[async_trait]
impl Trouble for Network {
    async fn cut(&self) {
        let mut state = self.state();
        (state.line, state.cuts) = (Line::Cut, state.cuts + 1);
        if self.has(Fault::WatchEndsWithItsConnection) {
            state.watchers.clear();
        }
    }

    async fn lose_answers(&self) {
        self.state().line = Line::AnswersLost;
    }

    async fn mend(&self) {
        let mut state = self.state();
        if !(self.has(Fault::StaysAway) && state.cuts > 1) {
            state.line = Line::Up;
        }
        state.watchers.iter().for_each(|watcher| watcher.sender.everywhere());
    }

    async fn compact(&self) -> bool {
        if self.has(Fault::WatchEndsWithAnHistory) {
            self.state().watchers.clear();
        }
        true
    }
}

struct Handle {
    network: Arc<Network>,
    number: u32,
}

pub(crate) fn fake(network: &Arc<Network>) -> Arc<dyn SharedStore> {
    let number = network.handles.fetch_add(1, Ordering::Relaxed);
    Arc::new(Handle { network: Arc::clone(network), number })
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a fake store, handle {}", self.number)
    }
}

enum Expected<'v> {
    Absent,
    Version(&'v Version),
}

impl Handle {
    fn reachable(&self) -> Result<(), ReadError> {
        let answers = self.network.state().line == Line::Up
            || self.network.has(Fault::AnswersFromMemoryWhileAway);
        let away = || ReadError::Failed { reason: "the fake is away".to_owned() };
        answers.then_some(()).ok_or_else(away)
    }

    fn found(&self, key: &Key) -> Option<Version> {
        let state = self.network.state();
        state.entries.get(&self.network.place(key)).map(|(writing, _)| version(*writing))
    }

    fn matches(&self, key: &Key, expected: &Expected<'_>, deletes: bool) -> Result<(), WriteError> {
        let (found, network) = (self.found(key), &self.network);
        let right = match expected {
            Expected::Absent => found.is_none() || network.has(Fault::CreateReplaces),
            Expected::Version(version) => {
                let blind = if deletes {
                    Fault::DeleteIgnoresTheVersion
                } else {
                    Fault::PutIgnoresTheVersion
                };
                found.as_ref() == Some(*version)
                    || (found.is_some() && network.has(blind))
                    || (deletes && network.has(Fault::DeletersDoNotLook))
            }
        };
        right.then_some(()).ok_or_else(|| WriteError::conflict(key, found))
    }

    async fn write(
        &self,
        key: &Key,
        expected: Expected<'_>,
        value: Option<&[u8]>,
    ) -> Result<Version, WriteError> {
        let network = &self.network;
        let too_large = value.is_some_and(|value| value.len() > VALUE_BYTES_MAX);
        if too_large && !network.has(Fault::TakesAnySize) {
            return Err(WriteError::failed(key, "it is too large"));
        }
        if network.state().line == Line::Cut {
            return Err(WriteError::failed(key, "the fake is away"));
        }
        let looks_once = match expected {
            Expected::Absent => network.has(Fault::CreatorsDoNotLookTwice),
            Expected::Version(_) => network.has(Fault::WritersDoNotLookTwice),
        };
        if looks_once {
            self.matches(key, &expected, value.is_none())?;
        }
        // Others come between.
        tokio::task::yield_now().await;
        if !looks_once {
            self.matches(key, &expected, value.is_none())?;
        }
        let mut state = network.state();
        let place = network.place(key);
        state.writings += 1;
        let mut writing = state.writings;
        if network.has(Fault::CountsEachKeyByItself) {
            writing = state.entries.get(&place).map_or(1, |(former, _)| former + 1);
        }
        match value {
            Some(_)
                if network.has(Fault::LosesThePut) && matches!(expected, Expected::Version(_)) => {}
            Some(value) => {
                state.entries.insert(place, (writing, value.to_vec()));
            }
            None if network.has(Fault::DeletesInEverySpace) => {
                state.entries.retain(|(_, id), _| *id != place.1);
            }
            None => {
                state.entries.remove(&place);
            }
        }
        if value.is_some() || !network.has(Fault::HintsNoDeletion) {
            network.tell(&mut state, key);
        }
        match state.line {
            Line::AnswersLost if network.has(Fault::CallsALostAnswerFailed) => {
                Err(WriteError::failed(key, "no answer"))
            }
            Line::AnswersLost => Err(WriteError::unknown(key, "no answer")),
            Line::Up | Line::Cut => Ok(version(writing)),
        }
    }
}

fn version(writing: u64) -> Version {
    Version::new(writing.to_string())
}

#[async_trait]
impl SharedStore for Handle {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
        self.reachable()?;
        let network = &self.network;
        if network.has(Fault::InventsKeys) && key.id() == "never" {
            return Ok(Some(Versioned { value: Vec::new(), version: version(0) }));
        }
        if network.has(Fault::ReadsWhatThisHandleWrote)
            && key.id() == "handles"
            && self.number % 2 == 1
        {
            return Ok(None);
        }
        let state = network.state();
        let found = state.entries.get(&network.place(key));
        Ok(found
            .map(|(writing, value)| Versioned { value: value.clone(), version: version(*writing) }))
    }

    async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
        self.write(key, Expected::Absent, Some(value)).await
    }

    async fn put(
        &self,
        key: &Key,
        value: &[u8],
        expected: &Version,
    ) -> Result<Version, WriteError> {
        self.write(key, Expected::Version(expected), Some(value)).await
    }

    async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
        self.write(key, Expected::Version(expected), None).await.map(drop)
    }

    async fn list(
        &self,
        space: Space,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Page, ReadError> {
        self.reachable()?;
        tokio::task::yield_now().await;
        let (network, state) = (&self.network, self.network.state());
        let from = from.unwrap_or_default();
        let behind = network.has(Fault::BeginsBehind);
        let mut entries: Vec<_> = state
            .entries
            .iter()
            .filter(|((name, id), _)| {
                *name == space.name() && (id.as_str() > from || id == from && !behind)
            })
            .map(|((_, id), (writing, value))| Entry {
                id: id.clone(),
                value: value.clone(),
                version: version(*writing),
            })
            .collect();
        if network.has(Fault::ListsByLength) {
            entries.sort_by_key(|entry| entry.id.len());
        }
        if network.has(Fault::SkipsBetweenPages) && !from.is_empty() && !entries.is_empty() {
            entries.remove(0);
        }
        if network.has(Fault::SkipsWhileWritten)
            && entries.iter().any(|entry| entry.id.starts_with("z-"))
        {
            entries.retain(|entry| entry.id != "still-20");
        }
        let more = entries.len() > limit;
        entries.truncate(limit);
        Ok(Page { entries, more })
    }

    async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
        self.reachable()?;
        let (sender, hints) = hints();
        self.network.state().watchers.push(Watcher { space: space.name(), sender, said: 0 });
        Ok(hints)
    }
}
