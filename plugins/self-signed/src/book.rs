//! What the authority has made: its durable memory, one JSON document under one name.

use std::collections::BTreeMap;

use plugins::answers::{IssuerAnswer, IssuerAnswers};
use plugins::{
    AuthorityState, CrossAnswers, Document, KeyHandle, PluginError, RequestId, StageRequest,
};
use serde::{Deserialize, Serialize};
use trust::{Root, RootId, Timestamp, TrustDomain};

const BOOK: Document =
    Document { name: "self-signed", format: 1, what: "the authority's record of its roots" };

/// Everything that must survive a restart.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) generation: u64,
    pub(crate) signing: Option<RootId>,
    /// In the order they were made. Retired ones stay, so that their request ids make no second root.
    pub(crate) roots: Vec<RootEntry>,
    pub(crate) issuers: IssuerAnswers,
    pub(crate) crosses: CrossAnswers,
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

impl Book {
    /// The book as it is stored; empty if there never was one.
    ///
    /// # Errors
    /// When there is a book that cannot be read: it holds the only knowledge of the roots' keys, so nothing is made
    /// in its place.
    pub(crate) async fn load(state: &dyn AuthorityState) -> Result<Self, PluginError> {
        let Some(stored) = BOOK.load::<StoredBook>(state).await? else {
            return Ok(Self::default());
        };
        stored.read().map_err(|detail| unreadable(&detail))
    }

    /// Stores the book; durable when it returns.
    ///
    /// # Errors
    /// The outcome is unknown then; the next call loads what is there.
    pub(crate) async fn store(&self, state: &dyn AuthorityState) -> Result<(), PluginError> {
        BOOK.store(state, &StoredBook::write(self)).await
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
        self.roots
            .iter_mut()
            .filter(|entry| entry.root.id() == *root)
            .for_each(|entry| entry.retired = true);
        self.generation += 1;
    }
}

impl RootEntry {
    pub(crate) fn new(
        request_id: &RequestId,
        request: &StageRequest,
        key: &KeyHandle,
        root: Root,
    ) -> Self {
        Self {
            root,
            trust_domain: request.trust_domain.clone(),
            key_id: key.id.to_string(),
            retired: false,
            request_id: request_id.to_string(),
            asked: request.fingerprint(),
        }
    }

    /// Whether this is the answer to such a request.
    pub(crate) fn answers(&self, request: &StageRequest) -> bool {
        self.asked == request.fingerprint()
    }
}

/// The error of a book that is there and cannot be read.
pub(crate) fn unreadable(detail: &str) -> PluginError {
    BOOK.unreadable(detail)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredBook {
    format: u32,
    generation: u64,
    signing: Option<String>,
    roots: Vec<StoredRoot>,
    issuers: BTreeMap<String, StoredIssuer>,
    #[serde(default, skip_serializing_if = "CrossAnswers::is_empty")]
    crosses: CrossAnswers,
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
        let issuer = |(id, answer): (&str, &IssuerAnswer)| {
            let (asked, ends) = (answer.asked.clone(), answer.ends.as_secs());
            let chain = answer.chain.iter().map(|der| hex(der)).collect();
            (id.to_owned(), StoredIssuer { asked, ends, chain })
        };
        Self {
            format: BOOK.format,
            generation: book.generation,
            signing: book.signing.map(|id| id.to_string()),
            roots: book.roots.iter().map(root).collect(),
            issuers: book.issuers.iter().map(issuer).collect(),
            crosses: book.crosses.clone(),
        }
    }

    fn read(self) -> Result<Book, String> {
        let roots: Vec<_> =
            self.roots.into_iter().map(StoredRoot::read).collect::<Result<_, _>>()?;
        let issuers = self.issuers.into_iter().map(|(id, stored)| Ok((id, stored.read()?)));
        let signing =
            self.signing.map(|id| id.parse::<RootId>().map_err(|error| error.to_string()));
        let signing = signing.transpose()?;
        if signing
            .is_some_and(|id| !roots.iter().any(|entry| entry.root.id() == id && !entry.retired))
        {
            return Err("the signing root is not in it".to_owned());
        }
        Ok(Book {
            generation: self.generation,
            signing,
            roots,
            issuers: issuers.collect::<Result<_, String>>()?,
            crosses: self.crosses,
        })
    }
}

impl StoredRoot {
    fn read(self) -> Result<RootEntry, String> {
        Ok(RootEntry {
            root: Root::parse(&unhex(&self.der)?).map_err(|error| error.to_string())?,
            trust_domain: TrustDomain::parse(&self.trust_domain)
                .map_err(|error| error.to_string())?,
            key_id: self.key_id,
            retired: self.retired,
            request_id: self.request_id,
            asked: self.asked,
        })
    }
}

impl StoredIssuer {
    fn read(self) -> Result<IssuerAnswer, String> {
        let chain = self.chain.iter().map(|der| unhex(der)).collect::<Result<_, _>>()?;
        Ok(IssuerAnswer { chain, ends: Timestamp::from_secs(self.ends), asked: self.asked })
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
    text.as_bytes()
        .chunks(2)
        .map(pair)
        .collect::<Option<_>>()
        .ok_or_else(|| "bytes are not hex".to_owned())
}
