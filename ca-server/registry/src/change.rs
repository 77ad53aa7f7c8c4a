//! How rows are changed: decided on what is known, written key by key if nobody changed those keys meanwhile, and decided anew if
//! somebody did.
//!
//! The store writes one key at a time. Whoever changes several puts them in an order in which stopping after any of them does no
//! harm, and says which. What was begun goes on when the caller has gone.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use stores::{ReadError, Version, Versioned, WriteError};

use crate::cache::{Cache, Planned, Reading, Write};
use crate::error::RegistryError;
use crate::registry::{AgentRegistry, Inner};
use crate::row::Kind;

/// How often a change is decided anew, because others changed the same rows meanwhile or an outcome was unknown.
const TRIES: usize = 64;
/// Writes that may fail which are under way at once.
const SPARES_AT_ONCE: usize = 16;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Something else is there. It was read, and the change is to be decided anew.
    Anew,
}

impl AgentRegistry {
    /// Changes rows as `decide` says, which is asked again whenever they were not what it was shown.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        decide: impl Fn(&Cache) -> Result<(Vec<Write>, T), RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let inner = Arc::clone(&self.0);
        // Whoever goes away while it waits leaves nothing behind.
        let Ok(place) = Arc::clone(&inner.changes).acquire_owned().await else {
            return Err(RegistryError::Broken);
        };
        let changing = async move {
            let changed = inner.changed(decide).await;
            drop(place);
            changed
        };
        tokio::spawn(changing).await.unwrap_or(Err(RegistryError::Broken))
    }
}

impl Inner {
    async fn changed<T>(
        &self,
        decide: impl Fn(&Cache) -> Result<(Vec<Write>, T), RegistryError>,
    ) -> Result<T, RegistryError> {
        for _ in 0..TRIES {
            let (planned, answer) = {
                let cache = self.read();
                let (writes, answer) = decide(&cache)?;
                (cache.planned(writes)?, answer)
            };
            let (spare, needed): (Vec<_>, Vec<_>) =
                planned.into_iter().partition(|planned| planned.is_spare);
            if self.all_written(needed).await? {
                let writing = |planned| async move {
                    let tried = self.write(planned).await;
                    tried.inspect_err(|error| tracing::debug!(%error, "a row stays for now")).ok()
                };
                stream::iter(spare).map(writing).buffer_unordered(SPARES_AT_ONCE).count().await;
                return Ok(answer);
            }
        }
        tracing::warn!("a change of the registry met others {TRIES} times");
        Err(RegistryError::Broken)
    }

    async fn all_written(&self, planned: Vec<Planned>) -> Result<bool, RegistryError> {
        for planned in planned {
            if self.write(planned).await? == Outcome::Anew {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn write(&self, planned: Planned) -> Result<Outcome, RegistryError> {
        let Planned { row, key, expected, value, .. } = planned;
        let (kind, id) = (row.kind(), key.id());
        let reading = Under::begin(self, kind);
        let store = self.store.as_ref();
        let tried = match (&value, &expected) {
            (Some(value), None) => store.create(&key, value).await.map(Some),
            (Some(value), Some(expected)) => store.put(&key, value, expected).await.map(Some),
            (None, Some(expected)) => store.delete(&key, expected).await.map(|()| None),
            (None, None) => return Ok(Outcome::Done),
        };
        let reason = match tried {
            Ok(version) => {
                self.wrote(None);
                let judged = self.lock().written(reading.reading, row, version);
                match judged {
                    Some(judged) => self.took(&judged),
                    // Somebody wrote it after this, or before.
                    None => self.settle(kind, id).await,
                }
                return Ok(Outcome::Done);
            }
            Err(WriteError::Conflict { .. }) => {
                self.wrote(None);
                self.look_at(kind, id).await.map_err(|error| self.away(kind, id, &error))?;
                return Ok(Outcome::Anew);
            }
            Err(WriteError::Failed { reason, .. }) => {
                self.wrote(Some(reason));
                return Err(RegistryError::Broken);
            }
            Err(WriteError::Unknown { reason, .. }) => reason,
        };
        drop(reading);
        // It may still come about later: then it is met as a conflict, or the watch tells of it.
        let there = self.look_at(kind, id).await.map_err(|error| {
            self.wrote(Some(reason));
            self.away(kind, id, &error)
        })?;
        Ok(match is_done(there.as_ref(), value.as_deref(), expected.as_ref()) {
            true => Outcome::Done,
            false => Outcome::Anew,
        })
    }

    /// Reads a key, and takes over what is there.
    pub(crate) async fn look_at(
        &self,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Versioned>, ReadError> {
        let key = kind.key(id).map_err(|error| ReadError::Failed { reason: error.to_string() })?;
        for _ in 0..TRIES {
            let reading = Under::begin(self, kind);
            let found = self.store.get(&key).await?;
            let judged = self.lock().read(reading.reading, id, found.as_ref());
            if let Some(judged) = judged {
                self.took(&judged);
                return Ok(found);
            }
        }
        let reason = format!("{key} is written all the time");
        Err(ReadError::Failed { reason })
    }

    /// Reads a key now, or has it read as soon as the store answers.
    async fn settle(&self, kind: Kind, id: &str) {
        if let Err(error) = self.look_at(kind, id).await {
            self.away(kind, id, &error);
        }
    }

    fn away(&self, kind: Kind, id: &str, error: &ReadError) -> RegistryError {
        tracing::debug!(%error, "a row of the registry is read again as soon as the store answers");
        self.doubt(kind, id);
        RegistryError::Broken
    }
}

/// Whether a write of unknown outcome came about, by what is there now. A version that did not change tells that it did not, also
/// where the bytes are the same.
fn is_done(there: Option<&Versioned>, value: Option<&[u8]>, expected: Option<&Version>) -> bool {
    match (there, value) {
        (None, None) => true,
        (Some(there), Some(value)) => Some(&there.version) != expected && there.value == value,
        _ => false,
    }
}

/// A call to the store; over when this is dropped.
#[derive(Debug)]
pub(crate) struct Under<'i> {
    inner: &'i Inner,
    pub(crate) reading: Reading,
}

impl<'i> Under<'i> {
    pub(crate) fn begin(inner: &'i Inner, kind: Kind) -> Self {
        Self { inner, reading: inner.lock().begin(kind) }
    }
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.inner.lock().end(self.reading);
    }
}
