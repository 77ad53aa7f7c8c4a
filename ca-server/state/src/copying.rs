//! A space of one store becomes what it is elsewhere.

use std::collections::BTreeMap;

use stores::{ReadError, SharedStore, Space, WriteError, settle, spaces};

use crate::error::OwnerError;

/// Keys of a space, with their values.
pub(crate) type Keys = BTreeMap<String, Vec<u8>>;

/// What a space holds.
pub(crate) async fn keys(store: &dyn SharedStore, space: Space) -> Result<Keys, ReadError> {
    let entries = settle::all(store, space).await?;
    Ok(entries.into_iter().map(|entry| (entry.id, entry.value)).collect())
}

/// Writes what is missing or other, and deletes what is too much.
pub(crate) async fn made_the_same(
    store: &dyn SharedStore,
    space: Space,
    wanted: &Keys,
) -> Result<(), OwnerError> {
    let odd = |error: stores::InvalidKey| ReadError::Failed { reason: error.to_string() };
    let mut there = BTreeMap::new();
    for entry in settle::all(store, space).await? {
        match wanted.get(&entry.id) {
            None => {
                settle::delete(store, &space.key(entry.id).map_err(odd)?, &entry.version).await?
            }
            Some(value) => _ = there.insert(entry.id, (entry.version, *value == entry.value)),
        }
    }
    for (id, value) in wanted {
        let version = match there.get(id) {
            Some((_, true)) => continue,
            Some((version, false)) => Some(version),
            None => None,
        };
        let key = space.key(id.clone()).map_err(odd)?;
        let written: Result<_, WriteError> = settle::put(store, &key, value, version).await;
        written?;
    }
    Ok(())
}

/// Whether two states are the same, wherever they are.
pub(crate) async fn are_the_same(
    one: &dyn SharedStore,
    other: &dyn SharedStore,
) -> Result<bool, ReadError> {
    for space in spaces::ALL.into_iter().filter(|space| *space != spaces::META) {
        if keys(one, space).await? != keys(other, space).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
