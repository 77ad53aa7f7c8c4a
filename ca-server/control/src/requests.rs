//! Requests to authorities as they were sent: each stored before it is sent, so that a repetition sends the same, and over
//! once it is refused.
//!
//! The id of an effect names the intention; each attempt at it has a request id of its own. An attempt whose answer is not
//! known is repeated under its id, which makes nothing twice. One that was refused, or whose answer failed the checks, is
//! over: the next is a new request, with the settings, files and roots as they are then. So what an operator mends works
//! by itself, and a refusal never comes back from anybody's memory.

//!
//! They are in the shared state, so that another server goes on with what one began. Who writes first counts: whoever is late
//! takes what is there.

use rotation_driver::EffectError;
use serde::{Deserialize, Serialize};
use stores::settle;
use stores::spaces::ISSUER_REQUESTS;
use stores::{Key, ReadError, SharedStore, Version};

use crate::stored;

/// The requests of a CA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requests<'a> {
    pub(crate) store: &'a dyn SharedStore,
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
    pub(crate) fn upgraded(mut self, key: &str) -> Self {
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
        let place = place(key)?;
        Ok(self.read(&place, key).await?.0)
    }

    /// Stores what is about to be sent.
    ///
    /// # Errors
    /// `Unavailable` also when another server stored another request for this attempt: the next try sends that.
    pub(crate) async fn sending(&self, key: &str, attempt: &Attempt) -> Result<(), EffectError> {
        let place = place(key)?;
        let (there, version) = self.read(&place, key).await?;
        let ours = there.sent.is_none() || there.sent == attempt.sent;
        if !ours || there.attempt != attempt.attempt {
            return Err(unavailable(&"another server asks for it too; what it stored is taken up"));
        }
        self.store(&place, attempt, version.as_ref()).await
    }

    /// The attempt was refused: the next one is another request. Where somebody said so before, theirs counts.
    pub(crate) async fn over(
        &self,
        key: &str,
        refused: &Attempt,
        at_most_secs: Option<u64>,
    ) -> Result<Attempt, EffectError> {
        let place = place(key)?;
        let (there, version) = self.read(&place, key).await?;
        if there.attempt != refused.attempt {
            return Ok(there);
        }
        let attempt = refused.attempt.saturating_add(1);
        let next = Attempt { attempt, at_most_secs, ..Attempt::default() };
        self.store(&place, &next, version.as_ref()).await?;
        Ok(next)
    }

    async fn read(
        &self,
        place: &Key,
        key: &str,
    ) -> Result<(Attempt, Option<Version>), EffectError> {
        let found = stored::read::<Attempt>(self.store, place).await.map_err(not_read)?;
        Ok(found.map_or_else(
            || (Attempt::default(), None),
            |(attempt, version)| (attempt.upgraded(key), Some(version)),
        ))
    }

    async fn store(
        &self,
        place: &Key,
        attempt: &Attempt,
        expected: Option<&Version>,
    ) -> Result<(), EffectError> {
        let value = stored::encoded(place, attempt).map_err(|error| unavailable(&error))?;
        let written = settle::put(self.store, place, &value, expected).await;
        written.map(drop).map_err(|error| unavailable(&error))
    }
}

fn place(key: &str) -> Result<Key, EffectError> {
    stored::key(ISSUER_REQUESTS, key).map_err(not_read)
}

/// What was edited is no request: nothing is sent in its place.
pub(crate) fn not_read(error: ReadError) -> EffectError {
    match error {
        ReadError::Unreadable { .. } => EffectError::Refused { reason: error.to_string() },
        ReadError::Failed { .. } => unavailable(&error),
    }
}

pub(crate) fn unavailable(error: &dyn std::fmt::Display) -> EffectError {
    EffectError::Unavailable { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use stores::fake::{FakeStore, Fault};

    use super::*;

    fn sent(root: &str) -> Option<Sent> {
        Some(Sent { root: root.to_owned(), ttl_secs: 7, csr: vec![1], key: "r.issuer".to_owned() })
    }

    #[tokio::test]
    async fn a_refused_attempt_is_over_and_the_next_has_another_id_also_after_a_restart() {
        let store = FakeStore::new();
        let requests = Requests { store: &store };
        let mut first = requests.current("r.issuer").await.unwrap();
        assert_eq!(first.id("r.issuer"), "r.issuer");
        first.sent = sent("a");
        store.fail_next_write(Fault::UnknownStored);
        requests.sending("r.issuer", &first).await.unwrap();
        assert_eq!(
            requests.current("r.issuer").await.unwrap().sent,
            sent("a"),
            "repeated as it was sent"
        );
        store.fail_next_write(Fault::UnknownNotStored);
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
    async fn of_two_servers_the_first_counts_and_the_other_takes_what_is_there() {
        let store = FakeStore::new();
        let requests = Requests { store: &store };
        let mine = Attempt { sent: sent("mine"), ..Attempt::default() };
        let theirs = Attempt { sent: sent("theirs"), ..Attempt::default() };
        requests.sending("r.issuer", &theirs).await.unwrap();
        let late = requests.sending("r.issuer", &mine).await;
        assert!(matches!(late, Err(EffectError::Unavailable { .. })), "{late:?}");
        assert_eq!(requests.current("r.issuer").await.unwrap(), theirs);
        let next = requests.over("r.issuer", &theirs, Some(5)).await.unwrap();
        assert_eq!(requests.over("r.issuer", &theirs, None).await.unwrap(), next);
        assert_eq!(requests.current("r.issuer").await.unwrap().attempt, 1, "it was over once");
        assert!(requests.sending("r.issuer", &mine).await.is_err(), "an attempt that is over");
    }

    #[tokio::test]
    async fn a_request_that_somebody_edited_is_refused_by_name() {
        let store = FakeStore::new();
        let requests = Requests { store: &store };
        let attempt = Attempt { sent: sent("a"), ..Attempt::default() };
        requests.sending("r.issuer", &attempt).await.unwrap();
        let key = place("r.issuer").unwrap();
        let there = store.get(&key).await.unwrap().unwrap();
        let edited = String::from_utf8(there.value).unwrap().replace(":7,", ":9,");
        store.put(&key, edited.as_bytes(), &there.version).await.unwrap();
        let Err(EffectError::Refused { reason }) = requests.current("r.issuer").await else {
            panic!("it was taken")
        };
        assert!(reason.contains("issuer-requests/r.issuer"), "{reason}");
        assert!(requests.over("r.issuer", &attempt, None).await.is_err());
    }
}
