//! What the authority has made: its durable memory, one JSON document under one name.

use std::collections::BTreeMap;

use plugins::{
    AuthorityState, IssuerRequest, KeyHandle, PluginError, RequestId, StageRequest, StateError, StateName,
};
use serde::{Deserialize, Serialize};
use trust::digest::sha256;
use trust::{Root, RootId, Timestamp, TrustDomain};

/// Format of the document; another one is refused, never guessed at.
const FORMAT: u32 = 1;

/// Everything that must survive a restart.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) generation: u64,
    pub(crate) signing: Option<RootId>,
    /// In the order they were made. Retired ones stay, so that their request ids make no second root.
    pub(crate) roots: Vec<RootEntry>,
    /// By request id, until they end.
    pub(crate) issuers: BTreeMap<String, IssuerEntry>,
}

/// A root that was made.
#[derive(Debug)]
pub(crate) struct RootEntry {
    pub(crate) root: Root,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) key_id: String,
    pub(crate) retired: bool,
    request_id: String,
    asked: String,
}

/// An issuer that was signed.
#[derive(Debug)]
pub(crate) struct IssuerEntry {
    pub(crate) chain: Vec<Vec<u8>>,
    ends: Timestamp,
    asked: String,
}

impl Book {
    /// The book as it is stored; empty if there never was one.
    ///
    /// # Errors
    /// When there is a book that cannot be read: it holds the only knowledge of the roots' keys, so nothing is made
    /// in its place.
    pub(crate) async fn load(state: &dyn AuthorityState) -> Result<Self, PluginError> {
        let Some(bytes) = state.get(&name()?).await.map_err(|error| failed(&error))? else {
            return Ok(Self::default());
        };
        let stored: StoredBook =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(&error.to_string()))?;
        if stored.format != FORMAT {
            return Err(unreadable(&format!(
                "it has format {}, and this program knows {FORMAT}",
                stored.format
            )));
        }
        stored.read().map_err(|detail| unreadable(&detail))
    }

    /// Stores the book; durable when it returns.
    ///
    /// # Errors
    /// The outcome is unknown then; the next call loads what is there.
    pub(crate) async fn store(&self, state: &dyn AuthorityState) -> Result<(), PluginError> {
        let bytes = serde_json::to_vec(&StoredBook::write(self))
            .map_err(|error| PluginError::Permanent { detail: error.to_string() })?;
        state.put(&name()?, &bytes).await.map_err(|error| failed(&error))
    }

    pub(crate) fn announced(&self) -> impl Iterator<Item = &RootEntry> {
        self.roots.iter().filter(|entry| !entry.retired)
    }

    pub(crate) fn announced_root(&self, id: &RootId) -> Option<&RootEntry> {
        self.announced().find(|entry| entry.root.id() == *id)
    }

    pub(crate) fn staged_by(&self, request_id: &RequestId) -> Option<&RootEntry> {
        self.roots.iter().find(|entry| entry.request_id == request_id.as_str())
    }

    pub(crate) fn add_root(&mut self, entry: RootEntry) {
        self.roots.push(entry);
        self.generation += 1;
    }

    pub(crate) fn sign_with(&mut self, root: RootId) {
        self.signing = Some(root);
        self.generation += 1;
    }

    pub(crate) fn retire(&mut self, root: &RootId) {
        self.roots.iter_mut().filter(|entry| entry.root.id() == *root).for_each(|entry| entry.retired = true);
        self.generation += 1;
    }

    /// Keeps the book from growing without end: a caller that repeats a request does so long before the issuer ends.
    pub(crate) fn forget_ended_issuers(&mut self, now: Timestamp) {
        self.issuers.retain(|_, entry| entry.ends > now);
    }
}

impl RootEntry {
    pub(crate) fn new(request_id: &RequestId, request: &StageRequest, key: &KeyHandle, root: Root) -> Self {
        Self {
            root,
            trust_domain: request.trust_domain.clone(),
            key_id: key.id.to_string(),
            retired: false,
            request_id: request_id.to_string(),
            asked: asked_root(request),
        }
    }

    /// Whether this is the answer to such a request.
    pub(crate) fn answers(&self, request: &StageRequest) -> bool {
        self.asked == asked_root(request)
    }
}

impl IssuerEntry {
    pub(crate) fn new(request: &IssuerRequest, chain: Vec<Vec<u8>>, ends: Timestamp) -> Self {
        Self { chain, ends, asked: asked_issuer(request) }
    }

    /// Whether this is the answer to such a request.
    pub(crate) fn answers(&self, request: &IssuerRequest) -> bool {
        self.asked == asked_issuer(request)
    }
}

/// The error of a book that is there and cannot be read.
pub(crate) fn unreadable(detail: &str) -> PluginError {
    PluginError::Permanent {
        detail: format!(
            "the authority's record of its roots cannot be read ({detail}); restore the data directory from a backup; \
             nothing new is made in its place"
        ),
    }
}

fn failed(error: &StateError) -> PluginError {
    PluginError::Transient { detail: error.to_string() }
}

fn name() -> Result<StateName, PluginError> {
    StateName::parse("self-signed").map_err(|error| PluginError::Permanent { detail: error.to_string() })
}

fn asked_root(request: &StageRequest) -> String {
    format!("{} {}s {}", request.trust_domain, request.lifetime.as_secs(), request.key)
}

fn asked_issuer(request: &IssuerRequest) -> String {
    format!(
        "{} {} {}s {} {}",
        request.root,
        request.trust_domain,
        request.ttl.as_secs(),
        request.path_len,
        hex(&sha256(&request.csr_der))
    )
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredBook {
    format: u32,
    generation: u64,
    signing: Option<String>,
    roots: Vec<StoredRoot>,
    issuers: BTreeMap<String, StoredIssuer>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRoot {
    request_id: String,
    asked: String,
    trust_domain: String,
    key_id: String,
    retired: bool,
    der: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredIssuer {
    asked: String,
    ends: i64,
    chain: Vec<String>,
}

impl StoredBook {
    fn write(book: &Book) -> Self {
        let root = |entry: &RootEntry| StoredRoot {
            request_id: entry.request_id.clone(),
            asked: entry.asked.clone(),
            trust_domain: entry.trust_domain.to_string(),
            key_id: entry.key_id.clone(),
            retired: entry.retired,
            der: hex(entry.root.der()),
        };
        let issuer = |entry: &IssuerEntry| StoredIssuer {
            asked: entry.asked.clone(),
            ends: entry.ends.as_secs(),
            chain: entry.chain.iter().map(|der| hex(der)).collect(),
        };
        Self {
            format: FORMAT,
            generation: book.generation,
            signing: book.signing.map(|id| id.to_string()),
            roots: book.roots.iter().map(root).collect(),
            issuers: book.issuers.iter().map(|(id, entry)| (id.clone(), issuer(entry))).collect(),
        }
    }

    fn read(self) -> Result<Book, String> {
        let roots: Vec<_> = self.roots.into_iter().map(StoredRoot::read).collect::<Result<_, _>>()?;
        let issuers = self.issuers.into_iter().map(|(id, stored)| Ok((id, stored.read()?)));
        let signing = self.signing.map(|id| id.parse::<RootId>().map_err(|error| error.to_string()));
        let signing = signing.transpose()?;
        if signing.is_some_and(|id| !roots.iter().any(|entry| entry.root.id() == id && !entry.retired)) {
            return Err("the signing root is not in it".to_owned());
        }
        Ok(Book {
            generation: self.generation,
            signing,
            roots,
            issuers: issuers.collect::<Result<_, String>>()?,
        })
    }
}

impl StoredRoot {
    fn read(self) -> Result<RootEntry, String> {
        Ok(RootEntry {
            root: Root::parse(&unhex(&self.der)?).map_err(|error| error.to_string())?,
            trust_domain: TrustDomain::parse(&self.trust_domain).map_err(|error| error.to_string())?,
            key_id: self.key_id,
            retired: self.retired,
            request_id: self.request_id,
            asked: self.asked,
        })
    }
}

impl StoredIssuer {
    fn read(self) -> Result<IssuerEntry, String> {
        let chain = self.chain.iter().map(|der| unhex(der)).collect::<Result<_, _>>()?;
        Ok(IssuerEntry { chain, ends: Timestamp::from_secs(self.ends), asked: self.asked })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect::<Option<_>>().ok_or_else(|| "bytes are not hex".to_owned())
}
