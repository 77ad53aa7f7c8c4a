//! Values of the shared state that this crate writes: JSON, with the line before it that tells an edit.

use serde::Serialize;
use serde::de::DeserializeOwned;
use stores::marked::{mark, unmark};
use stores::{Key, ReadError, SharedStore, Space, Version, WriteError};

/// The key with this id.
pub(crate) fn key(space: Space, id: &str) -> Result<Key, ReadError> {
    space.key(id).map_err(|error| ReadError::Failed { reason: error.to_string() })
}

/// What is there, and at which version.
pub(crate) async fn read<T: DeserializeOwned>(
    store: &dyn SharedStore,
    key: &Key,
) -> Result<Option<(T, Version)>, ReadError> {
    let Some(found) = store.get(key).await? else { return Ok(None) };
    Ok(Some((decoded(key, &found.value)?, found.version)))
}

/// A value that was read at this key.
pub(crate) fn decoded<T: DeserializeOwned>(key: &Key, value: &[u8]) -> Result<T, ReadError> {
    serde_json::from_slice(unmark(key, value)?).map_err(|error| ReadError::Unreadable {
        key: key.to_string(),
        reason: format!("{error}; start the release that wrote it, or restore a backup"),
    })
}

/// The value to write at this key.
pub(crate) fn encoded<T: Serialize>(key: &Key, value: &T) -> Result<Vec<u8>, WriteError> {
    let json = serde_json::to_vec(value);
    Ok(mark(key, &json.map_err(|error| WriteError::failed(key, error.to_string()))?))
}
