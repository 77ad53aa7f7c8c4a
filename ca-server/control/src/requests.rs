//! Requests to authorities as they were sent: each stored before it is sent, so that a repetition sends the same, and over
//! once it is refused.
//!
//! The id of an effect names the intention; each attempt at it has a request id of its own. An attempt whose answer is not
//! known is repeated under its id, which makes nothing twice. One that was refused, or whose answer failed the checks, is
//! over: the next is a new request, with the settings, files and roots as they are then. So what an operator mends works
//! by itself, and a refusal never comes back from anybody's memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::Disk;
use rotation_driver::EffectError;
use serde::{Deserialize, Serialize};

use crate::paths::FILE_MODE;

/// The requests of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) disk: &'a Arc<dyn Disk>,
}

/// One attempt as it is stored; without a CSR it was not sent yet. A former release stored no number: its attempt was the
/// first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attempt {
    #[serde(default, skip_serializing_if = "is_first")]
    pub(crate) attempt: u32,
    /// The longest life that what stands above allows, as far as it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at_most_secs: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sent: Option<Sent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_secs: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    csr: Option<Vec<u8>>,
}

/// What was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    pub(crate) root: String,
    pub(crate) ttl_secs: u64,
    pub(crate) csr: Vec<u8>,
    /// The request under which the key was made.
    pub(crate) key: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
const fn is_first(attempt: &u32) -> bool {
    *attempt == 0
}

impl Attempt {
    /// The id under which this attempt asks.
    pub(crate) fn id(&self, key: &str) -> String {
        match self.attempt {
            0 => key.to_owned(),
            attempt => format!("{key}.{attempt}"),
        }
    }

    /// What a former release stored of what it sent.
    fn upgraded(mut self, key: &str) -> Self {
        if let (Some(root), Some(ttl_secs), Some(csr)) =
            (self.root.take(), self.ttl_secs.take(), self.csr.take())
        {
            self.sent = Some(Sent { root, ttl_secs, csr, key: key.to_owned() });
        }
        self
    }
}

impl Requests<'_> {
    /// The attempt that counts now.
    pub(crate) async fn current(&self, key: &str) -> Result<Attempt, EffectError> {
        let (disk, path) = (Arc::clone(self.disk), self.path(key));
        let read = tokio::task::spawn_blocking(move || disk.read(&path)).await;
        match read.map_err(io::Error::other).and_then(|read| read) {
            Ok(bytes) => {
                let read = serde_json::from_slice::<Attempt>(&bytes);
                let path = self.path(key);
                let unreadable = |error| EffectError::Refused {
                    reason: format!(
                        "{} cannot be read ({error}): restore it from a backup",
                        path.display()
                    ),
                };
                Ok(read.map_err(unreadable)?.upgraded(key))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Attempt::default()),
            Err(error) => Err(EffectError::Unavailable { reason: error.to_string() }),
        }
    }

    /// Stores what is about to be sent.
    pub(crate) async fn sending(&self, key: &str, attempt: &Attempt) -> Result<(), EffectError> {
        self.store(key, attempt).await
    }

    /// The attempt was refused: the next one is another request.
    pub(crate) async fn over(
        &self,
        key: &str,
        refused: &Attempt,
        at_most_secs: Option<u64>,
    ) -> Result<Attempt, EffectError> {
        let attempt = refused.attempt.saturating_add(1);
        let next = Attempt { attempt, at_most_secs, ..Attempt::default() };
        self.store(key, &next).await?;
        Ok(next)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.directory.join(format!("{key}.json"))
    }

    async fn store(&self, key: &str, attempt: &Attempt) -> Result<(), EffectError> {
        let unavailable = |reason: String| EffectError::Unavailable { reason };
        let bytes = serde_json::to_vec(attempt).map_err(|error| unavailable(error.to_string()))?;
        let (disk, path) = (Arc::clone(self.disk), self.path(key));
        let stored =
            tokio::task::spawn_blocking(move || disk.replace(&path, &bytes, FILE_MODE)).await;
        let stored = stored.map_err(io::Error::other).and_then(|stored| stored);
        stored.map_err(|error| unavailable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use host::RealDisk;

    use super::*;

    #[tokio::test]
    async fn a_refused_attempt_is_over_and_the_next_has_another_id_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let requests = Requests { directory: directory.path(), disk: &disk };
        let mut first = requests.current("r.issuer").await.unwrap();
        assert_eq!(first.id("r.issuer"), "r.issuer");
        let sent =
            Sent { root: "a".to_owned(), ttl_secs: 7, csr: vec![1], key: "r.issuer".to_owned() };
        first.sent = Some(sent.clone());
        requests.sending("r.issuer", &first).await.unwrap();
        assert_eq!(
            requests.current("r.issuer").await.unwrap().sent,
            Some(sent),
            "repeated as it was sent"
        );
        requests.over("r.issuer", &first, Some(5)).await.unwrap();
        let second = requests.current("r.issuer").await.unwrap();
        assert_eq!((second.id("r.issuer"), second.sent.clone()), ("r.issuer.1".to_owned(), None));
        assert_eq!(second.at_most_secs, Some(5));
        assert_eq!(
            requests.current("s.issuer").await.unwrap(),
            Attempt::default(),
            "others have their own"
        );
    }

    #[tokio::test]
    async fn a_request_that_a_former_release_stored_is_repeated_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let requests = Requests { directory: directory.path(), disk: &disk };
        let path = directory.path().join("r.issuer.json");
        std::fs::write(&path, r#"{"root":"a","ttl_secs":7,"csr":[1,2]}"#).unwrap();
        let read = requests.current("r.issuer").await.unwrap();
        let sent =
            Sent { root: "a".to_owned(), ttl_secs: 7, csr: vec![1, 2], key: "r.issuer".to_owned() };
        assert_eq!((read.id("r.issuer"), read.sent), ("r.issuer".to_owned(), Some(sent)));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(requests.current("r.issuer").await, Err(EffectError::Refused { .. })));
    }
}
