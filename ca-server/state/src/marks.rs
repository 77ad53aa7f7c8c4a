//! Marks of a move: where a state went, and that one is still on its way here.

use serde::{Deserialize, Serialize};
use stores::marked::{mark, unmark};
use stores::{Key, ReadError, SharedStore, WriteError, settle, spaces};

use crate::error::OwnerError;

/// A state that went elsewhere has this mark.
pub(crate) const MOVED: &str = "moved";
/// A state that is not whole yet has this one.
pub(crate) const MOVING: &str = "moving";
/// A state that is being restored from a backup, and is not whole yet.
pub(crate) const RESTORING: &str = "restoring";
/// A state that was restored from a backup, and that no server has started on yet.
pub(crate) const RESTORED: &str = "restored";

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The other place: where it went, or where it comes from; the id of a backup.
    pub(crate) place: String,
    /// Whose state it is.
    pub(crate) ca: String,
}

fn key(name: &str) -> Result<Key, ReadError> {
    spaces::META.key(name).map_err(|error| ReadError::Failed { reason: error.to_string() })
}

pub(crate) async fn read(store: &dyn SharedStore, name: &str) -> Result<Option<Mark>, ReadError> {
    let key = key(name)?;
    let Some(found) = store.get(&key).await? else { return Ok(None) };
    let odd = |error: serde_json::Error| ReadError::Unreadable {
        key: key.to_string(),
        reason: format!("{error}; restore a backup"),
    };
    serde_json::from_slice(unmark(&key, &found.value)?).map(Some).map_err(odd)
}

/// Writes a mark, in place of what is there; `None` takes it away.
pub(crate) async fn write(
    store: &dyn SharedStore,
    name: &str,
    to: Option<&Mark>,
) -> Result<(), OwnerError> {
    let key = key(name)?;
    let there = store.get(&key).await?;
    match (to, there) {
        (None, None) => Ok(()),
        (None, Some(there)) => Ok(settle::delete(store, &key, &there.version).await?),
        (Some(to), there) => {
            let json = serde_json::to_vec(to);
            let json = json.map_err(|error| WriteError::failed(&key, error.to_string()))?;
            let version = there.map(|there| there.version);
            let written = settle::put(store, &key, &mark(&key, &json), version.as_ref()).await;
            written.map(drop).map_err(Into::into)
        }
    }
}

/// Where a state went, if it went elsewhere.
///
/// # Errors
/// [`ReadError`].
pub async fn moved_to(store: &dyn SharedStore) -> Result<Option<String>, ReadError> {
    Ok(read(store, MOVED).await?.map(|mark| mark.place))
}

/// Which backup the state was restored from, until a server has counted what was released since.
///
/// # Errors
/// [`ReadError`].
pub async fn restored(store: &dyn SharedStore) -> Result<Option<String>, ReadError> {
    Ok(read(store, RESTORED).await?.map(|mark| mark.place))
}
