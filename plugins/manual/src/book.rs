//! The durable memory: which ceremonies there are, and what came of each.
//!
//! A ceremony is in the book before its text goes out, and its answer before it is told. So whatever is repeated after a
//! crash finds the same ceremony, and the same answer.

use plugins::{
    AuthorityState, Document, IssuerChain, IssuerRequest, KeySpec, PluginError, RequestId, RootDer,
    RootSet, StageRequest,
};
use serde::{Deserialize, Serialize};
use trust::{Certificate, Root, RootId, Timestamp, TrustDomain};

use crate::ceremony::{Ceremony, IssuerWanted, Wanted, decode, encode};
use crate::judge::Answer;

const BOOK: Document = Document { name: "ceremonies", format: 1, what: "the book of ceremonies" };

/// Every ceremony that counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) entries: Vec<Entry>,
    signing: Option<RootId>,
    generation: u64,
}

/// A ceremony, and its answer once it has one.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) ceremony: Ceremony,
    /// What was asked, to tell a repetition from another request.
    pub(crate) asked: String,
    pub(crate) answer: Option<Vec<Vec<u8>>>,
}

impl Entry {
    pub(crate) const fn is_root(&self) -> bool {
        matches!(self.ceremony.wanted, Wanted::Root { .. })
    }

    fn root(&self) -> Option<&RootDer> {
        if self.is_root() { self.answer.as_ref()?.first() } else { None }
    }

    pub(crate) fn chain(&self) -> Option<IssuerChain> {
        self.answer.clone().map(IssuerChain::new)
    }
}

impl Book {
    pub(crate) async fn load(state: &dyn AuthorityState) -> Result<Self, PluginError> {
        let Some(form) = BOOK.load::<Form>(state).await? else { return Ok(Self::default()) };
        form.read().map_err(|detail| BOOK.unreadable(&detail))
    }

    pub(crate) async fn store(&self, state: &dyn AuthorityState) -> Result<(), PluginError> {
        BOOK.store(state, &Form::of(self)).await
    }

    /// The ceremony of a request.
    ///
    /// # Errors
    /// `Denied` when the id was used for something else.
    pub(crate) fn of_request(
        &self,
        id: &RequestId,
        asked: &str,
    ) -> Result<Option<&Entry>, PluginError> {
        let found = self.entries.iter().find(|entry| entry.ceremony.request_id == *id);
        match found {
            Some(entry) if entry.asked != asked => Err(PluginError::reused(id)),
            found => Ok(found),
        }
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.ceremony.name == name)
    }

    /// Notes a new ceremony, and forgets issuers that have ended.
    pub(crate) fn note(&mut self, entry: Entry, now: Timestamp) {
        self.entries.retain(|entry| !has_ended(entry, now));
        self.entries.push(entry);
    }

    /// Notes the answer of a ceremony. A root is announced by that.
    pub(crate) fn answer(&mut self, name: &str, answer: &Answer) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.ceremony.name == name) else {
            return;
        };
        entry.answer = Some(answer.ders());
        if entry.is_root() {
            self.generation += 1;
        }
    }

    /// True if that changed anything; none if the root is not announced.
    pub(crate) fn activate(&mut self, root: &RootId) -> Option<bool> {
        self.entry_of_root(root)?;
        let changed = self.signing != Some(*root);
        if changed {
            self.signing = Some(*root);
            self.generation += 1;
        }
        Some(changed)
    }

    pub(crate) fn entry_of_root(&self, root: &RootId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.root().is_some_and(|der| RootId::of(der) == *root))
    }

    /// What is announced, each root once, though it may have been brought for two ceremonies. Roots sign issuers
    /// themselves, as far as the book knows.
    pub(crate) fn roots(&self) -> RootSet {
        let mut roots: Vec<RootDer> = Vec::new();
        for root in self.entries.iter().filter_map(Entry::root) {
            if !roots.contains(root) {
                roots.push(root.clone());
            }
        }
        RootSet::new(roots, self.signing, self.generation)
    }

    /// The name of a request's ceremony, if nothing was brought for it yet.
    pub(crate) fn unanswered(&self, id: &RequestId) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.ceremony.request_id == *id)?;
        entry.answer.is_none().then(|| entry.ceremony.name.clone())
    }

    /// Forgets a ceremony.
    pub(crate) fn forget(&mut self, name: &str) {
        self.entries.retain(|entry| entry.ceremony.name != name);
    }

    /// The root that signs, which nobody may bring as a new one. One that was brought and never signed may be brought
    /// again: its rotation was given up.
    pub(crate) fn in_use(&self) -> Vec<Root> {
        self.known().into_iter().filter(|root| Some(root.id()) == self.signing).collect()
    }

    /// The roots that were brought.
    pub(crate) fn known(&self) -> Vec<Root> {
        self.entries.iter().filter_map(|entry| Root::parse(entry.root()?).ok()).collect()
    }
}

/// What is the same on each repetition of a request for a root.
pub(crate) fn asked_root(request: &StageRequest) -> String {
    format!("root {}", request.fingerprint())
}

/// What is the same on each repetition of a request for an issuer.
pub(crate) fn asked_issuer(request: &IssuerRequest) -> String {
    format!("issuer {}", request.fingerprint())
}

fn has_ended(entry: &Entry, now: Timestamp) -> bool {
    let end = |chain: &Vec<Vec<u8>>| {
        Some(Certificate::parse(chain.first()?).ok()?.validity().not_after())
    };
    !entry.is_root() && entry.answer.as_ref().and_then(end).is_some_and(|end| end <= now)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: u32,
    generation: u64,
    signing: Option<String>,
    ceremonies: Vec<EntryForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryForm {
    name: String,
    authority: String,
    trust_domain: String,
    request: String,
    asked: String,
    asked_at: i64,
    days: u64,
    lasts_until: i64,
    wanted: WantedForm,
    answer: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum WantedForm {
    Root { key: String },
    Issuer { root: String, root_ceremony: String, path_len: u8, csr: String },
}

impl Form {
    fn of(book: &Book) -> Self {
        Self {
            format: BOOK.format,
            generation: book.generation,
            signing: book.signing.map(|id| id.to_string()),
            ceremonies: book.entries.iter().map(EntryForm::of).collect(),
        }
    }

    fn read(self) -> Result<Book, String> {
        let signing =
            self.signing.map(|id| id.parse::<RootId>().map_err(|error| error.to_string()));
        Ok(Book {
            entries: self.ceremonies.into_iter().map(EntryForm::read).collect::<Result<_, _>>()?,
            signing: signing.transpose()?,
            generation: self.generation,
        })
    }
}

impl EntryForm {
    fn of(entry: &Entry) -> Self {
        let Ceremony {
            name,
            authority,
            trust_domain,
            request_id,
            asked_at,
            days,
            lasts_until,
            wanted,
        } = &entry.ceremony;
        let wanted = match wanted {
            Wanted::Root { key } => WantedForm::Root { key: key.to_string() },
            Wanted::Issuer(issuer) => WantedForm::Issuer {
                root: encode(issuer.root.der()),
                root_ceremony: issuer.root_ceremony.clone(),
                path_len: issuer.path_len,
                csr: encode(&issuer.csr_der),
            },
        };
        let encoded = |chain: &Vec<Vec<u8>>| chain.iter().map(|der| encode(der)).collect();
        Self {
            name: name.clone(),
            authority: authority.clone(),
            trust_domain: trust_domain.to_string(),
            request: request_id.to_string(),
            asked: entry.asked.clone(),
            asked_at: asked_at.as_secs(),
            days: *days,
            lasts_until: lasts_until.as_secs(),
            wanted,
            answer: entry.answer.as_ref().map(encoded),
        }
    }

    fn read(self) -> Result<Entry, String> {
        let wanted = match self.wanted {
            WantedForm::Root { key } => Wanted::Root {
                key: KeySpec::from_name(&key).ok_or_else(|| format!("no kind of key: {key}"))?,
            },
            WantedForm::Issuer { root, root_ceremony, path_len, csr } => {
                Wanted::Issuer(Box::new(IssuerWanted {
                    root: Root::parse(&decode(&root)?).map_err(|error| error.to_string())?,
                    root_ceremony,
                    path_len,
                    csr_der: decode(&csr)?,
                }))
            }
        };
        let decoded =
            |chain: Vec<String>| chain.iter().map(|text| decode(text)).collect::<Result<_, _>>();
        Ok(Entry {
            ceremony: Ceremony {
                name: self.name,
                authority: self.authority,
                trust_domain: TrustDomain::parse(&self.trust_domain)
                    .map_err(|error| error.to_string())?,
                request_id: RequestId::parse(&self.request).map_err(|error| error.to_string())?,
                asked_at: Timestamp::from_secs(self.asked_at),
                days: self.days,
                lasts_until: Timestamp::from_secs(self.lasts_until),
                wanted,
            },
            asked: self.asked,
            answer: self.answer.map(decoded).transpose()?,
        })
    }
}
