//! The durable memory of an authority whose keys are elsewhere: which roots it announced, and what it answered to whom.
//!
//! An authority that signs through somebody else (files, a remote CA) keeps the contract of [`RootAuthority`] by it:
//! a request id gets the same bytes again, the count of changes never goes back, and between two answers roots are
//! added or removed, never both.
//!
//! Only an answer that was judged is remembered ([`JudgedIssuer`]): one that the caller would refuse is never given again.
//!
//! [`RootAuthority`]: crate::RootAuthority

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use trust::digest::sha256;
use trust::{PublicKey, Root, RootId, Timestamp};

use crate::authority::{IssuerChain, IssuerRequest, RootDer, RootSet};
use crate::call::RequestId;
use crate::checks::{IssuerExpectation, Unsafe, check_issuer_answer};
use crate::error::PluginError;
use crate::state::{AuthorityState, StateError, StateName};

/// Format of the document; another one is refused, never guessed at.
const FORMAT: u32 = 1;

/// What was announced and answered. Read for each call, changed, and stored before the answer is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerBook {
    announced: Vec<RootDer>,
    signing: Option<RootId>,
    generation: u64,
    above: Option<Vec<Vec<u8>>>,
    further: Vec<RootDer>,
    answers: BTreeMap<String, Answer>,
}

/// An issuer that is about to be answered, and passed the checks that the caller makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedIssuer {
    chain: IssuerChain,
    ends: Timestamp,
}

impl JudgedIssuer {
    /// Judges an issuer by what was asked for.
    ///
    /// # Errors
    /// [`Unsafe`], and then it may be neither remembered nor answered.
    pub fn new(chain: IssuerChain, expected: &IssuerExpectation<'_>) -> Result<Self, Unsafe> {
        let ends = check_issuer_answer(&chain, expected)?.not_after();
        Ok(Self { chain, ends })
    }

    /// Judges an issuer that `root` signed, itself or by what stands between, for a request that is served at `now`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_request(
        chain: IssuerChain,
        (request, key): (&IssuerRequest, &PublicKey),
        root: &Root,
        now: Timestamp,
    ) -> Result<Self, Unsafe> {
        let expected = IssuerExpectation {
            key,
            trust_domain: &request.trust_domain,
            root: request.root,
            path_len: request.path_len,
            now,
            covers_until: now.plus(request.ttl),
            announced: std::slice::from_ref(root),
            retired: &BTreeSet::new(),
        };
        Self::new(chain, &expected)
    }

    /// The chain to answer with.
    pub fn into_chain(self) -> IssuerChain {
        self.chain
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    asked: String,
    ends: Timestamp,
    chain: Vec<Vec<u8>>,
}

impl AnswerBook {
    /// The book as it is stored; empty if there never was one.
    ///
    /// # Errors
    /// When there is a book and it cannot be read: nothing is made in its place.
    pub async fn load(state: &dyn AuthorityState) -> Result<Self, PluginError> {
        let Some(bytes) = state.get(&name()?).await.map_err(|error| failed(&error))? else {
            return Ok(Self::default());
        };
        let form: Form = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error.to_string()))?;
        if form.format != FORMAT {
            let detail = format!("it has format {}, and this program knows {FORMAT}", form.format);
            return Err(unreadable(&detail));
        }
        form.read().map_err(|detail| unreadable(&detail))
    }

    /// Stores the book; durable when it returns.
    ///
    /// # Errors
    /// The outcome is unknown then; the next call loads what is there.
    pub async fn store(&self, state: &dyn AuthorityState) -> Result<(), PluginError> {
        let bytes = serde_json::to_vec(&Form::of(self))
            .map_err(|error| PluginError::Permanent { detail: error.to_string() })?;
        state.put(&name()?, &bytes).await.map_err(|error| failed(&error))
    }

    /// The answer that this request got before.
    ///
    /// # Errors
    /// `Denied` when the id was used for another request.
    pub fn answered(
        &self,
        id: &RequestId,
        request: &IssuerRequest,
    ) -> Result<Option<IssuerChain>, PluginError> {
        match self.answers.get(id.as_str()) {
            None => Ok(None),
            Some(answer) if answer.asked == asked(request) => {
                Ok(Some(IssuerChain::new(answer.chain.clone())))
            }
            Some(_) => {
                let reason = format!("request id {id} was used for something else; use a new one");
                Err(PluginError::Denied { reason })
            }
        }
    }

    /// Remembers an answer until it ends, and forgets those that have ended at `now`: a caller that repeats a request
    /// does so long before.
    pub fn remember(
        &mut self,
        (id, request): (&RequestId, &IssuerRequest),
        judged: &JudgedIssuer,
        now: Timestamp,
    ) {
        self.answers.retain(|_, answer| answer.ends > now);
        let JudgedIssuer { chain, ends } = judged;
        let answer = Answer { asked: asked(request), ends: *ends, chain: chain.certificates.clone() };
        self.answers.insert(id.to_string(), answer);
    }

    /// Takes notice of the roots that there are now. True if that changes what is announced; then the book is to be
    /// stored before the set is told.
    ///
    /// When roots came and others went, those that went are announced once more beside the new ones.
    pub fn announce(&mut self, present: &[RootDer], signing: Option<RootId>) -> bool {
        let mut next: Vec<RootDer> = Vec::new();
        let came = present.iter().any(|root| !self.announced.contains(root));
        let left = if came { self.announced.as_slice() } else { &[] };
        for root in present.iter().chain(left) {
            if !next.contains(root) {
                next.push(root.clone());
            }
        }
        let changed = next != self.announced || signing != self.signing;
        if changed {
            (self.announced, self.signing) = (next, signing);
            self.generation += 1;
        }
        changed
    }

    /// Takes notice of what stands between issuers and the signing root now. True if that changes; then the book is to be
    /// stored before it is told.
    pub fn announce_above(&mut self, above: Vec<Vec<u8>>) -> bool {
        let changed = self.above.as_ref() != Some(&above);
        if changed {
            self.above = Some(above);
            self.generation += 1;
        }
        changed
    }

    /// Takes notice of the roots of others that everybody shall trust now. True if that changes; then the book is to be stored
    /// before it is told.
    pub fn announce_further(&mut self, further: Vec<RootDer>) -> bool {
        let changed = self.further != further;
        if changed {
            self.further = further;
            self.generation += 1;
        }
        changed
    }

    /// What is announced.
    pub fn roots(&self) -> RootSet {
        // A root that is on its way out is announced once more, and as that.
        let further = self.further.iter().filter(|root| !self.announced.contains(root)).cloned().collect();
        RootSet::new(self.announced.clone(), self.signing, self.generation)
            .with_above(self.above.clone())
            .with_further(further)
    }
}

fn asked(request: &IssuerRequest) -> String {
    let IssuerRequest { root, trust_domain, ttl, path_len, csr_der } = request;
    let digest: String = sha256(csr_der).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{root} {trust_domain} {}s {path_len} {digest}", ttl.as_secs())
}

fn name() -> Result<StateName, PluginError> {
    StateName::parse("answers").map_err(|error| PluginError::Permanent { detail: error.to_string() })
}

fn unreadable(detail: &str) -> PluginError {
    PluginError::Permanent {
        detail: format!(
            "the authority's record of its answers cannot be read ({detail}); restore the data directory from a backup"
        ),
    }
}

fn failed(error: &StateError) -> PluginError {
    PluginError::Transient { detail: error.to_string() }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: u32,
    generation: u64,
    signing: Option<String>,
    announced: Vec<String>,
    /// A former release kept none.
    #[serde(default)]
    above: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    further: Vec<String>,
    answers: BTreeMap<String, AnswerForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerForm {
    asked: String,
    ends: i64,
    chain: Vec<String>,
}

impl Form {
    fn of(book: &AnswerBook) -> Self {
        let text = |bytes: &Vec<u8>| STANDARD.encode(bytes);
        let answer = |(id, answer): (&String, &Answer)| {
            let chain = answer.chain.iter().map(text).collect();
            (id.clone(), AnswerForm { asked: answer.asked.clone(), ends: answer.ends.as_secs(), chain })
        };
        Self {
            format: FORMAT,
            generation: book.generation,
            signing: book.signing.map(|id| id.to_string()),
            announced: book.announced.iter().map(text).collect(),
            above: book.above.as_ref().map(|above| above.iter().map(text).collect()),
            further: book.further.iter().map(text).collect(),
            answers: book.answers.iter().map(answer).collect(),
        }
    }

    fn read(self) -> Result<AnswerBook, String> {
        let bytes = |texts: &[String]| -> Result<Vec<Vec<u8>>, String> {
            texts.iter().map(|text| STANDARD.decode(text).map_err(|error| error.to_string())).collect()
        };
        let signing = self.signing.map(|id| id.parse::<RootId>().map_err(|error| error.to_string()));
        let answer = |(id, form): (String, AnswerForm)| {
            let ends = Timestamp::from_secs(form.ends);
            Ok::<_, String>((id, Answer { asked: form.asked, ends, chain: bytes(&form.chain)? }))
        };
        Ok(AnswerBook {
            announced: bytes(&self.announced)?,
            above: self.above.as_deref().map(bytes).transpose()?,
            further: bytes(&self.further)?,
            signing: signing.transpose()?,
            generation: self.generation,
            answers: self.answers.into_iter().map(answer).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::state::MemoryState;

    fn root(name: &str) -> RootDer {
        name.as_bytes().to_vec()
    }

    fn request(csr: &str) -> IssuerRequest {
        let domain = trust::TrustDomain::parse("example.org").expect("domain");
        IssuerRequest::new(RootId::of(b"r"), csr.as_bytes().to_vec(), domain, Duration::from_secs(60))
    }

    #[test]
    fn roots_are_added_or_removed_never_both() {
        let mut book = AnswerBook::default();
        assert!(book.announce(&[root("a")], None));
        assert!(!book.announce(&[root("a")], None), "nothing changed");
        assert!(book.announce(&[root("b")], Some(RootId::of(b"b"))), "first b comes");
        assert_eq!(book.roots().roots, [root("b"), root("a")]);
        assert!(book.announce(&[root("b")], Some(RootId::of(b"b"))), "then a goes");
        assert_eq!((book.roots().roots, book.roots().generation), (vec![root("b")], 3));
    }

    #[tokio::test]
    async fn another_intermediate_above_the_issuers_is_a_change() {
        let (mut book, state) = (AnswerBook::default(), MemoryState::new());
        assert_eq!(book.roots().above, None, "nobody knows before the first look");
        assert!(book.announce_above(vec![b"one".to_vec()]));
        assert!(!book.announce_above(vec![b"one".to_vec()]), "nothing changed");
        let before = book.roots().generation;
        assert!(book.announce_above(Vec::new()) && book.roots().generation > before);
        book.store(&state).await.expect("stored");
        assert_eq!(AnswerBook::load(&state).await.expect("read"), book);
    }

    #[tokio::test]
    async fn further_roots_are_kept_and_one_that_is_announced_is_not_told_twice() {
        let state = MemoryState::new();
        let mut book = AnswerBook::default();
        book.announce(&[root("a")], None);
        let before = book.roots().generation;
        assert!(book.announce_further(vec![root("b")]) && book.roots().generation > before);
        assert!(!book.announce_further(vec![root("b")]), "nothing changed");
        book.store(&state).await.expect("stored");
        assert_eq!(AnswerBook::load(&state).await.expect("read"), book);
        // The authority signs with the other one now: what signed goes last, and is named as a further root then.
        book.announce(&[root("b")], None);
        book.announce_further(vec![root("a")]);
        let set = book.roots();
        assert_eq!((set.roots.len(), set.further.len()), (2, 0));
        book.announce(&[root("b")], None);
        let set = book.roots();
        assert_eq!((set.roots, set.further), (vec![root("b")], vec![root("a")]));
    }

    #[tokio::test]
    async fn an_answer_is_the_same_after_a_restart_and_another_request_is_denied() {
        let (state, id) = (MemoryState::new(), RequestId::parse("one").expect("id"));
        let mut book = AnswerBook::load(&state).await.expect("empty");
        let chain = IssuerChain::new(vec![vec![1, 2]]);
        let (now, ends) = (Timestamp::from_secs(5), Timestamp::from_secs(9));
        // As if it had been judged: what a book keeps is not looked into here.
        let judged = JudgedIssuer { chain: chain.clone(), ends };
        book.remember((&id, &request("csr")), &judged, now);
        book.store(&state).await.expect("stored");
        let mut again = AnswerBook::load(&state).await.expect("read");
        assert_eq!(again, book);
        assert_eq!(again.answered(&id, &request("csr")), Ok(Some(chain.clone())));
        assert!(matches!(again.answered(&id, &request("other")), Err(PluginError::Denied { .. })));
        let later = RequestId::parse("later").expect("id");
        let judged = JudgedIssuer { chain, ends: Timestamp::from_secs(99) };
        again.remember((&later, &request("csr")), &judged, ends);
        assert_eq!(again.answered(&id, &request("csr")), Ok(None), "what ended is forgotten");
    }

    #[tokio::test]
    async fn a_book_that_cannot_be_read_is_an_error_and_not_an_empty_one() {
        let state = MemoryState::new();
        for damage in
            [&b"{"[..], br#"{"format":2,"generation":0,"signing":null,"announced":[],"answers":{}}"#]
        {
            state.put(&name().expect("name"), damage).await.expect("put");
            assert!(matches!(AnswerBook::load(&state).await, Err(PluginError::Permanent { .. })));
        }
    }
}
