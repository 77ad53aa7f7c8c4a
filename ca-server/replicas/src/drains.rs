//! Replicas that somebody wants to drain, and replicas that are taken out for good.

use std::sync::Arc;
use std::time::Duration;

use rotation::ReplicaName;
use stores::settle;
use stores::spaces::REPLICA_DRAINS;
use stores::{InvalidKey, ReadError, SharedStore, Space, WriteError};
use tokio::sync::watch;

use crate::Drain;
use crate::row::ReplicaRow;

/// How often a word is looked for although nobody said that there is one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a word about a replica was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// The name makes no key.
    #[error(transparent)]
    Name(#[from] InvalidKey),
    /// The store did not say what is there.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store did not take it.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Writes that a replica shall drain. One that does already goes on as it was told first.
///
/// # Errors
/// [`DrainError`]; nothing changed, or it is unknown: the same again is no harm.
pub async fn drain(
    store: &dyn SharedStore,
    name: &ReplicaName,
    word: &Drain,
) -> Result<(), DrainError> {
    let key = REPLICA_DRAINS.key(name.as_str())?;
    settle::create(store, &key, &serde_json::to_vec(word).unwrap_or_default()).await?;
    Ok(())
}

/// Takes that back.
///
/// # Errors
/// As [`drain`].
pub async fn undrain(store: &dyn SharedStore, name: &ReplicaName) -> Result<bool, DrainError> {
    forget(store, REPLICA_DRAINS, name).await
}

/// Drops what a replica wrote of itself. One that is alive stops then.
///
/// # Errors
/// As [`drain`].
pub async fn remove(store: &dyn SharedStore, name: &ReplicaName) -> Result<bool, DrainError> {
    let was_there = forget(store, ReplicaRow::space(), name).await?;
    undrain(store, name).await?;
    Ok(was_there)
}

async fn forget(
    store: &dyn SharedStore,
    space: Space,
    name: &ReplicaName,
) -> Result<bool, DrainError> {
    let key = space.key(name.as_str())?;
    loop {
        let Some(there) = store.get(&key).await? else { return Ok(false) };
        match settle::delete(store, &key, &there.version).await {
            Ok(()) => return Ok(true),
            // Its replica renewed its lease meanwhile.
            Err(WriteError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Follows what is said of this replica until nobody reads it any more. A word that cannot be read counts as one.
pub async fn watch_drain(
    store: Arc<dyn SharedStore>,
    name: ReplicaName,
    told: watch::Sender<Option<Drain>>,
) {
    let Ok(key) = REPLICA_DRAINS.key(name.as_str()) else { return };
    let mut hints = None;
    while !told.is_closed() {
        if hints.is_none() {
            hints = store.watch(REPLICA_DRAINS).await.ok();
        }
        if let Ok(there) = store.get(&key).await {
            let word = there.map(|there| serde_json::from_slice(&there.value).unwrap_or_default());
            told.send_if_modified(|former| {
                let changed = *former != word;
                *former = word;
                changed
            });
        }
        match &mut hints {
            Some(hints) => {
                tokio::select! {
                    _ = hints.next() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
