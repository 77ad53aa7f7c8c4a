//! The durable memory of the roots that this authority met, made and retired.
//!
//! Beside the [`AnswerBook`](plugins::AnswerBook), which holds what was announced and answered: here is which issuer of
//! the mount stands for which root, and which request made it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plugins::{AuthorityState, Document, PluginError, RequestId, StageRequest};
use serde::{Deserialize, Serialize};
use trust::RootId;
use trust::digest::sha256;

use crate::mount::Issuer;

const RECORD: Document =
    Document { name: "mount", format: 1, what: "the authority's record of its roots" };

/// What is known of roots. Read for each call, changed, and stored before it is acted upon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Roots {
    format: u32,
    /// By root id, in hexadecimal digits.
    known: BTreeMap<String, Known>,
    /// By request id.
    staged: BTreeMap<String, Staged>,
}

/// A root, and the issuer of the mount that signs under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known {
    der: String,
    pub(crate) issuer: String,
    pub(crate) key: String,
    /// Whether the issuer is the root itself, so that its key can be destroyed here.
    pub(crate) own: bool,
    /// It became the default issuer by itself, of a mount that had none, and was not activated yet.
    pub(crate) waits: bool,
    pub(crate) retired: Retired,
}

/// How far the end of a root is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Retired {
    No,
    Decided,
    Done,
}

/// A request for a root, written down before the mount is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Staged {
    asked: String,
    /// The name of its issuer in the mount.
    pub(crate) name: String,
    /// Whether the mount had no default issuer before.
    pub(crate) first: bool,
    /// The root, once it is known.
    root: Option<String>,
}

impl Default for Roots {
    fn default() -> Self {
        Self { format: RECORD.format, known: BTreeMap::new(), staged: BTreeMap::new() }
    }
}

impl Roots {
    pub(crate) async fn load(state: &dyn AuthorityState) -> Result<Self, PluginError> {
        Ok(RECORD.load(state).await?.unwrap_or_default())
    }

    /// Stores the document; durable when it returns. After an error the next call loads what is there.
    pub(crate) async fn store(&self, state: &dyn AuthorityState) -> Result<(), PluginError> {
        RECORD.store(state, self).await
    }

    pub(crate) fn get(&self, root: &RootId) -> Option<&Known> {
        self.known.get(&root.to_string())
    }

    pub(crate) fn get_mut(&mut self, root: &RootId) -> Option<&mut Known> {
        self.known.get_mut(&root.to_string())
    }

    /// Takes notice of an issuer. True if that is news.
    pub(crate) fn learn(&mut self, issuer: &Issuer) -> bool {
        let id = issuer.root.id().to_string();
        let before = self.known.get(&id);
        let next = Known {
            der: STANDARD.encode(issuer.root.der()),
            issuer: issuer.id.clone(),
            key: issuer.key.clone(),
            own: issuer.chain.is_empty(),
            waits: before.is_some_and(|known| known.waits),
            retired: before.map_or(Retired::No, |known| known.retired),
        };
        if before == Some(&next) {
            return false;
        }
        self.known.insert(id, next);
        true
    }

    /// The certificates of the known roots that are not retired and whose issuers pass.
    pub(crate) fn living(
        &self,
        present: impl Fn(&str) -> bool,
    ) -> Result<Vec<Vec<u8>>, PluginError> {
        let living = |known: &&Known| known.retired == Retired::No && present(&known.issuer);
        self.known.values().filter(living).map(Known::der).collect()
    }

    /// What came of a request for a root: the root's certificate, or that nothing is known of it yet.
    ///
    /// # Errors
    /// `Denied` when the request was another one, or the root was retired.
    pub(crate) fn staged(
        &self,
        id: &RequestId,
        request: &StageRequest,
    ) -> Result<Option<Vec<u8>>, PluginError> {
        let Some(staged) = self.staged.get(id.as_str()) else { return Ok(None) };
        if staged.asked != request.fingerprint() {
            return Err(PluginError::reused(id));
        }
        let Some(known) = staged.root.as_ref().and_then(|root| self.known.get(root)) else {
            return Ok(None);
        };
        if known.retired != Retired::No {
            return Err(PluginError::denied(format!(
                "the root of request {id} was retired; use a new request id"
            )));
        }
        known.der().map(Some)
    }

    /// Writes down a request. What is written already stays.
    pub(crate) fn intend(
        &mut self,
        id: &RequestId,
        request: &StageRequest,
        name: &str,
        first: bool,
    ) -> Staged {
        let new =
            || Staged { asked: request.fingerprint(), name: name.to_owned(), first, root: None };
        self.staged.entry(id.to_string()).or_insert_with(new).clone()
    }

    /// Whether the issuer of this name was asked for, and what came of it is not written down yet.
    pub(crate) fn unfinished(&self, name: &str) -> bool {
        self.staged.values().any(|staged| staged.root.is_none() && staged.name == name)
    }

    /// Writes down what came of a request.
    pub(crate) fn made(&mut self, id: &RequestId, issuer: &Issuer, waits: bool) {
        self.learn(issuer);
        let root = issuer.root.id();
        if let Some(known) = self.get_mut(&root) {
            known.waits = waits;
        }
        if let Some(staged) = self.staged.get_mut(id.as_str()) {
            staged.root = Some(root.to_string());
        }
    }
}

impl Known {
    fn der(&self) -> Result<Vec<u8>, PluginError> {
        STANDARD.decode(&self.der).map_err(|error| RECORD.unreadable(&error.to_string()))
    }
}

/// The name in the mount of the root that a request makes: the same after any restart, and another one for another
/// authority that uses the mount.
pub(crate) fn name_of(authority: &str, id: &RequestId, request: &StageRequest) -> String {
    let text = format!("banyan-root-v1\0{authority}\0{}\0{id}", request.trust_domain);
    let digest: String =
        sha256(text.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("banyan-{digest}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use plugins::state::MemoryState;
    use plugins::{KeySpec, StateName};
    use trust::TrustDomain;

    use super::*;

    fn request(days: u64) -> StageRequest {
        let domain = TrustDomain::parse("example.org").unwrap();
        StageRequest::new(domain, Duration::from_secs(days * 86_400), KeySpec::P256)
    }

    #[tokio::test]
    async fn an_intent_outlives_a_restart_and_binds_its_id() {
        let (state, id) = (MemoryState::new(), RequestId::parse("one").unwrap());
        let mut roots = Roots::load(&state).await.unwrap();
        assert!(roots.intend(&id, &request(1), "banyan-1", true).first);
        assert!(roots.unfinished("banyan-1") && !roots.unfinished("banyan-2"));
        roots.store(&state).await.unwrap();
        let mut again = Roots::load(&state).await.unwrap();
        assert_eq!(again.staged(&id, &request(1)), Ok(None));
        assert!(matches!(again.staged(&id, &request(2)), Err(PluginError::Denied { .. })));
        assert!(again.intend(&id, &request(1), "banyan-1", false).first, "the first intent stays");
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_an_error_and_not_an_empty_one() {
        let state = MemoryState::new();
        for damage in [&b"{"[..], br#"{"format":2,"known":{},"staged":{}}"#] {
            state.put(&StateName::parse("mount").unwrap(), damage).await.unwrap();
            assert!(matches!(Roots::load(&state).await, Err(PluginError::Permanent { .. })));
        }
    }

    #[test]
    fn a_name_belongs_to_one_request_of_one_authority() {
        let (one, other) = (RequestId::parse("one").unwrap(), RequestId::parse("other").unwrap());
        let name = name_of("main", &one, &request(1));
        assert_eq!(name, name_of("main", &one, &request(2)));
        assert!(
            name != name_of("main", &other, &request(1))
                && name != name_of("east", &one, &request(1))
        );
        assert!(name.len() == 39 && name.starts_with("banyan-"));
    }
}
