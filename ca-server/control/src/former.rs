//! Bundles and requests as former releases stored them: files in two directories. They are read, once, and never written.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use stores::settle::{self, Created};
use stores::spaces::{BUNDLES, ISSUER_REQUESTS, TICKETS};
use stores::{ReadError, SharedStore, Space, WriteError};
use trust::{Sequence, TrustDomain};

use crate::bundles::{self, Form};
use crate::requests::Attempt;
use crate::stored;
use crate::tickets::Claim;

/// Why a file of a former release is not taken over. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FormerError {
    /// It cannot be read, or is not what it was.
    #[error("{} cannot be used ({reason}): restore it from the latest backup of the data directory", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It could not be written to where it belongs now.
    #[error(transparent)]
    NotWritten(#[from] WriteError),
    /// The store does not take its name, or cannot be read.
    #[error(transparent)]
    Store(#[from] ReadError),
}

/// Copies the bundles in a directory to a store. One that cannot be read was left out before, too.
///
/// # Errors
/// [`FormerError`].
pub async fn take_over_bundles(
    directory: &Path,
    domain: &TrustDomain,
    store: &dyn SharedStore,
) -> Result<(), FormerError> {
    for (path, contents) in files(directory)? {
        let form = serde_json::from_slice::<Form>(&contents).map_err(|error| error.to_string());
        let kept = form.and_then(|form| Ok((form.kept(domain)?.bundle.sequence(), form)));
        match kept {
            Ok((sequence, form)) => write(store, BUNDLES, &id(sequence), &form).await?,
            Err(reason) => tracing::warn!(
                file = %path.display(), reason,
                "a bundle of the past cannot be read and is not taken over: whoever was away since then needs a new join token"
            ),
        }
    }
    Ok(())
}

/// Copies requests as they were sent, and claims on answers, from a directory to a store.
///
/// # Errors
/// [`FormerError`].
pub async fn take_over_requests(
    directory: &Path,
    store: &dyn SharedStore,
) -> Result<(), FormerError> {
    for (path, contents) in files(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(id) = name.strip_suffix(".ticket.json") {
            write(store, TICKETS, id, &read::<Claim>(&path, &contents)?).await?;
        } else if let Some(id) = name.strip_suffix(".json") {
            let attempt = read::<Attempt>(&path, &contents)?.upgraded(id);
            write(store, ISSUER_REQUESTS, id, &attempt).await?;
        }
    }
    Ok(())
}

fn id(sequence: Sequence) -> String {
    bundles::id(sequence)
}

fn files(directory: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, FormerError> {
    let unreadable = |path: &Path, error: io::Error| FormerError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(directory, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(directory, error))?.path();
        // What is no file was never read.
        if path.extension().is_some_and(|suffix| suffix == "json") && path.is_file() {
            let contents = std::fs::read(&path).map_err(|error| unreadable(&path, error))?;
            files.push((path, contents));
        }
    }
    Ok(files)
}

fn read<T: DeserializeOwned>(path: &Path, contents: &[u8]) -> Result<T, FormerError> {
    serde_json::from_slice(contents).map_err(|error| FormerError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

async fn write<T: Serialize + Sync>(
    store: &dyn SharedStore,
    space: Space,
    id: &str,
    value: &T,
) -> Result<(), FormerError> {
    let key = stored::key(space, id)?;
    let value = stored::encoded(&key, value)?;
    match settle::create(store, &key, &value).await? {
        Created::Done(_) => Ok(()),
        Created::There(there) => Err(WriteError::conflict(&key, Some(there.version)).into()),
    }
}

#[cfg(test)]
mod tests {
    use stores::fake::FakeStore;

    use super::*;
    use crate::requests::Requests;

    #[tokio::test]
    async fn a_request_of_any_former_release_is_repeated_as_it_was_sent() {
        let (dir, store) = (tempfile::tempdir().unwrap(), FakeStore::new());
        let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        file("r.issuer.json", r#"{"root":"a","ttl_secs":7,"csr":[1,2]}"#);
        file(
            "s.issuer.json",
            r#"{"attempt":2,"sent":{"root":"b","ttl_secs":9,"csr":[3],"key":"s.issuer.p256"}}"#,
        );
        file(
            "s.issuer.2.ticket.json",
            r#"{"ticket":"t","asked_at":5,"retry_after_secs":60,"reason":"a person signs"}"#,
        );
        file("left.json.tmp", "{");
        take_over_requests(dir.path(), &store).await.unwrap();
        let requests = Requests { store: &store };
        let first = requests.current("r.issuer").await.unwrap();
        assert_eq!(
            (first.id("r.issuer"), first.sent.unwrap().csr),
            ("r.issuer".to_owned(), vec![1, 2])
        );
        let second = requests.current("s.issuer").await.unwrap();
        assert_eq!(
            (second.id("s.issuer"), second.sent.unwrap().csr),
            ("s.issuer.2".to_owned(), vec![3])
        );
        let key = stored::key(TICKETS, "s.issuer.2").unwrap();
        assert!(stored::read::<Claim>(&store, &key).await.unwrap().is_some());

        file("t.issuer.json", "{");
        let said = take_over_requests(dir.path(), &FakeStore::new()).await.unwrap_err().to_string();
        assert!(said.contains("t.issuer.json") && said.contains("restore it"), "{said}");
    }
}
