//! The rules, by what they are about.

pub(crate) mod keys;
pub(crate) mod lists;
pub(crate) mod races;
pub(crate) mod troubles;
pub(crate) mod watches;

use stores::{Key, Sensitivity, SharedStore, Space, Version, Versioned, WriteError};

use crate::report::{Broken, Verdict, demand, works};

/// Where single keys are tried; each rule has ids of its own.
pub(crate) const PLAIN: Space = Space::new("contract", Sensitivity::Plain);

pub(crate) fn key(space: Space, id: impl Into<String>) -> Result<Key, Broken> {
    works("a key", space.key(id))
}

pub(crate) async fn created(
    store: &dyn SharedStore,
    key: &Key,
    value: &[u8],
) -> Result<Version, Broken> {
    works(&format!("create of {key}"), store.create(key, value).await)
}

pub(crate) async fn put(
    store: &dyn SharedStore,
    key: &Key,
    value: &[u8],
    expected: &Version,
) -> Result<Version, Broken> {
    works(&format!("put of {key}"), store.put(key, value, expected).await)
}

pub(crate) async fn deleted(store: &dyn SharedStore, key: &Key, expected: &Version) -> Verdict {
    works(&format!("delete of {key}"), store.delete(key, expected).await)
}

pub(crate) async fn got(store: &dyn SharedStore, key: &Key) -> Result<Option<Versioned>, Broken> {
    works(&format!("get of {key}"), store.get(key).await)
}

/// Demands that a key holds this.
pub(crate) async fn holds(
    store: &dyn SharedStore,
    key: &Key,
    value: &[u8],
    version: &Version,
) -> Verdict {
    let found = got(store, key).await?;
    let right =
        found.as_ref().is_some_and(|found| found.value == value && found.version == *version);
    let found = found.map(|found| (found.value.len(), found.version));
    demand(right, format!("{key} must be at {version} with {} bytes, is {found:?}", value.len()))
}

/// Demands that a write was refused, and told what is there.
pub(crate) fn conflicts<T>(
    call: &str,
    result: Result<T, WriteError>,
    there: Option<&Version>,
) -> Verdict {
    match result {
        Err(WriteError::Conflict { found, .. }) if found.as_ref() == there => Ok(()),
        Err(error) => {
            Err(Broken::Failed(format!("{call} must conflict with {there:?}, and gave {error:?}")))
        }
        Ok(_) => Err(Broken::Failed(format!("{call} must conflict with {there:?}, and was done"))),
    }
}
