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
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use trust::{PublicKey, Root, RootId, Timestamp};

use crate::authority::{IssuerChain, IssuerRequest, RootDer, RootSet};
use crate::call::RequestId;
use crate::checks::{IssuerExpectation, Unsafe, check_issuer_answer};
use crate::cross::CrossAnswers;
use crate::document::Document;
use crate::error::PluginError;
use crate::state::AuthorityState;

const BOOK: Document =
    Document { name: "answers", format: 1, what: "the authority's record of its answers" };

/// How long ago an issuer may have been signed that is judged now, and how far behind the clock of the signer may be.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// What was announced and answered. Read for each call, changed, and stored before the answer is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerBook {
    announced: Vec<RootDer>,
    signing: Option<RootId>,
    generation: u64,
    above: Option<Vec<Vec<u8>>>,
    further: Vec<RootDer>,
    issuers: IssuerAnswers,
    crosses: CrossAnswers,
}

/// Which request for an issuer got which answer, by request id, until the issuer ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuerAnswers(BTreeMap<String, IssuerAnswer>);

/// What one request for an issuer got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerAnswer {
    /// [`IssuerRequest::fingerprint`] of the request.
    pub asked: String,
    /// When the issuer ends.
    pub ends: Timestamp,
    /// The chain that was answered, in DER.
    pub chain: Vec<Vec<u8>>,
}

/// What an authority finds where its roots are, to be announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// The roots that there are now.
    pub roots: Vec<RootDer>,
    /// The one that signs.
    pub signing: Option<RootId>,
    /// What stands between issuers and the signing root; none where it is not known.
    pub above: Option<Vec<Vec<u8>>>,
    /// Roots of others that everybody shall trust.
    pub further: Vec<RootDer>,
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

    /// As if it had been judged: what a book keeps is not looked into there.
    #[cfg(test)]
    pub(crate) fn unjudged(chain: IssuerChain, ends: Timestamp) -> Self {
        Self { chain, ends }
    }

    /// Judges an issuer that `root` signed, itself or by what stands between, for a request that is answered at `now`. Its life
    /// counts from when it was signed, by the clock of whoever did that: it may end up to a minute sooner.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_request(
        chain: IssuerChain,
        request: &IssuerRequest,
        key: &PublicKey,
        root: &Root,
        now: Timestamp,
    ) -> Result<Self, Unsafe> {
        let expected = IssuerExpectation {
            key,
            trust_domain: &request.trust_domain,
            root: request.root,
            path_len: request.path_len,
            now,
            covers_until: now.plus(request.ttl).minus(ANSWER_TIME),
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

impl IssuerAnswers {
    /// The answer that this request got before.
    ///
    /// # Errors
    /// `Denied` when the id was used for another request.
    pub fn answered(
        &self,
        id: &RequestId,
        request: &IssuerRequest,
    ) -> Result<Option<IssuerChain>, PluginError> {
        match self.0.get(id.as_str()) {
            None => Ok(None),
            Some(answer) if answer.asked == request.fingerprint() => {
                Ok(Some(IssuerChain::new(answer.chain.clone())))
            }
            Some(_) => Err(PluginError::reused(id)),
        }
    }

    /// Remembers an answer until it ends, and forgets those that have ended at `now`: a caller that repeats a request
    /// does so long before.
    pub fn remember(
        &mut self,
        id: &RequestId,
        request: &IssuerRequest,
        judged: &JudgedIssuer,
        now: Timestamp,
    ) {
        self.0.retain(|_, answer| answer.ends > now);
        let JudgedIssuer { chain, ends } = judged;
        let answer = IssuerAnswer {
            asked: request.fingerprint(),
            ends: *ends,
            chain: chain.certificates.clone(),
        };
        self.0.insert(id.to_string(), answer);
    }

    /// All of them, by request id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &IssuerAnswer)> {
        self.0.iter().map(|(id, answer)| (id.as_str(), answer))
    }
}

impl FromIterator<(String, IssuerAnswer)> for IssuerAnswers {
    fn from_iter<T: IntoIterator<Item = (String, IssuerAnswer)>>(answers: T) -> Self {
        Self(answers.into_iter().collect())
    }
}

impl AnswerBook {
    /// The book as it is stored; empty if there never was one.
    ///
    /// # Errors
    /// When there is a book and it cannot be read: nothing is made in its place.
    pub async fn load(state: &dyn AuthorityState) -> Result<Self, PluginError> {
        let Some(form) = BOOK.load::<Form>(state).await? else { return Ok(Self::default()) };
        form.read().map_err(|detail| BOOK.unreadable(&detail))
    }

    /// Stores the book; durable when it returns.
    ///
    /// # Errors
    /// The outcome is unknown then; the next call loads what is there.
    pub async fn store(&self, state: &dyn AuthorityState) -> Result<(), PluginError> {
        BOOK.store(state, &Form::of(self)).await
    }

    /// As [`IssuerAnswers::answered`].
    ///
    /// # Errors
    /// `Denied` when the id was used for another request.
    pub fn answered(
        &self,
        id: &RequestId,
        request: &IssuerRequest,
    ) -> Result<Option<IssuerChain>, PluginError> {
        self.issuers.answered(id, request)
    }

    /// As [`IssuerAnswers::remember`].
    pub fn remember(
        &mut self,
        id: &RequestId,
        request: &IssuerRequest,
        judged: &JudgedIssuer,
        now: Timestamp,
    ) {
        self.issuers.remember(id, request, judged, now);
    }

    /// Cross certificates that were answered.
    pub fn crosses(&mut self) -> &mut CrossAnswers {
        &mut self.crosses
    }

    /// Takes notice of what there is now. True if that changes what is announced; then the book is to be stored before it
    /// is told.
    pub fn announce(&mut self, present: &Announcement) -> bool {
        let Announcement { roots, signing, above, further } = present;
        let mut changed = self.announce_roots(roots, *signing);
        changed |= self.announce_further(further);
        changed | above.as_ref().is_some_and(|above| self.announce_above(above))
    }

    /// When roots came and others went, those that went are announced once more beside the new ones.
    fn announce_roots(&mut self, present: &[RootDer], signing: Option<RootId>) -> bool {
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

    /// What stands between issuers and the signing root.
    fn announce_above(&mut self, above: &[Vec<u8>]) -> bool {
        let changed = self.above.as_deref() != Some(above);
        if changed {
            self.above = Some(above.to_vec());
            self.generation += 1;
        }
        changed
    }

    /// The roots of others that everybody shall trust.
    fn announce_further(&mut self, further: &[RootDer]) -> bool {
        let changed = self.further != further;
        if changed {
            self.further = further.to_vec();
            self.generation += 1;
        }
        changed
    }

    /// What is announced.
    pub fn roots(&self) -> RootSet {
        // A root that is on its way out is announced once more, and as that.
        let further =
            self.further.iter().filter(|root| !self.announced.contains(root)).cloned().collect();
        RootSet::new(self.announced.clone(), self.signing, self.generation)
            .with_above(self.above.clone())
            .with_further(further)
    }
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
    #[serde(default, skip_serializing_if = "CrossAnswers::is_empty")]
    crosses: CrossAnswers,
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
        let answer = |(id, answer): (&str, &IssuerAnswer)| {
            let chain = answer.chain.iter().map(text).collect();
            (
                id.to_owned(),
                AnswerForm { asked: answer.asked.clone(), ends: answer.ends.as_secs(), chain },
            )
        };
        Self {
            format: BOOK.format,
            generation: book.generation,
            signing: book.signing.map(|id| id.to_string()),
            announced: book.announced.iter().map(text).collect(),
            above: book.above.as_ref().map(|above| above.iter().map(text).collect()),
            further: book.further.iter().map(text).collect(),
            answers: book.issuers.iter().map(answer).collect(),
            crosses: book.crosses.clone(),
        }
    }

    fn read(self) -> Result<AnswerBook, String> {
        let bytes = |texts: &[String]| -> Result<Vec<Vec<u8>>, String> {
            texts
                .iter()
                .map(|text| STANDARD.decode(text).map_err(|error| error.to_string()))
                .collect()
        };
        let signing =
            self.signing.map(|id| id.parse::<RootId>().map_err(|error| error.to_string()));
        let answer = |(id, form): (String, AnswerForm)| {
            let ends = Timestamp::from_secs(form.ends);
            Ok::<_, String>((
                id,
                IssuerAnswer { asked: form.asked, ends, chain: bytes(&form.chain)? },
            ))
        };
        Ok(AnswerBook {
            announced: bytes(&self.announced)?,
            above: self.above.as_deref().map(bytes).transpose()?,
            further: bytes(&self.further)?,
            signing: signing.transpose()?,
            generation: self.generation,
            issuers: self.answers.into_iter().map(answer).collect::<Result<_, _>>()?,
            crosses: self.crosses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::MemoryState;

    fn root(name: &str) -> RootDer {
        name.as_bytes().to_vec()
    }

    fn request(csr: &str) -> IssuerRequest {
        let domain = trust::TrustDomain::parse("example.org").expect("domain");
        IssuerRequest::new(
            RootId::of(b"r"),
            csr.as_bytes().to_vec(),
            domain,
            Duration::from_secs(60),
        )
    }

    #[test]
    fn roots_are_added_or_removed_never_both() {
        let mut book = AnswerBook::default();
        assert!(book.announce_roots(&[root("a")], None));
        assert!(!book.announce_roots(&[root("a")], None), "nothing changed");
        assert!(book.announce_roots(&[root("b")], Some(RootId::of(b"b"))), "first b comes");
        assert_eq!(book.roots().roots, [root("b"), root("a")]);
        assert!(book.announce_roots(&[root("b")], Some(RootId::of(b"b"))), "then a goes");
        assert_eq!((book.roots().roots, book.roots().generation), (vec![root("b")], 3));
    }

    #[tokio::test]
    async fn another_intermediate_above_the_issuers_is_a_change() {
        let (mut book, state) = (AnswerBook::default(), MemoryState::new());
        assert_eq!(book.roots().above, None, "nobody knows before the first look");
        assert!(book.announce_above(&[b"one".to_vec()]));
        assert!(!book.announce_above(&[b"one".to_vec()]), "nothing changed");
        let before = book.roots().generation;
        assert!(book.announce_above(&[]) && book.roots().generation > before);
        book.store(&state).await.expect("stored");
        assert_eq!(AnswerBook::load(&state).await.expect("read"), book);
    }

    #[tokio::test]
    async fn further_roots_are_kept_and_one_that_is_announced_is_not_told_twice() {
        let state = MemoryState::new();
        let mut book = AnswerBook::default();
        book.announce_roots(&[root("a")], None);
        let before = book.roots().generation;
        assert!(book.announce_further(&[root("b")]) && book.roots().generation > before);
        assert!(!book.announce_further(&[root("b")]), "nothing changed");
        book.store(&state).await.expect("stored");
        assert_eq!(AnswerBook::load(&state).await.expect("read"), book);
        // The authority signs with the other one now: what signed goes last, and is named as a further root then.
        book.announce_roots(&[root("b")], None);
        book.announce_further(&[root("a")]);
        let set = book.roots();
        assert_eq!((set.roots.len(), set.further.len()), (2, 0));
        book.announce_roots(&[root("b")], None);
        let set = book.roots();
        assert_eq!((set.roots, set.further), (vec![root("b")], vec![root("a")]));
    }

    #[tokio::test]
    async fn an_answer_is_the_same_after_a_restart_and_another_request_is_denied() {
        let (state, id) = (MemoryState::new(), RequestId::parse("one").expect("id"));
        let mut book = AnswerBook::load(&state).await.expect("empty");
        let chain = IssuerChain::new(vec![vec![1, 2]]);
        let (now, ends) = (Timestamp::from_secs(5), Timestamp::from_secs(9));
        let judged = JudgedIssuer::unjudged(chain.clone(), ends);
        book.remember(&id, &request("csr"), &judged, now);
        book.store(&state).await.expect("stored");
        let mut again = AnswerBook::load(&state).await.expect("read");
        assert_eq!(again, book);
        assert_eq!(again.answered(&id, &request("csr")), Ok(Some(chain.clone())));
        assert!(matches!(again.answered(&id, &request("other")), Err(PluginError::Denied { .. })));
        let later = RequestId::parse("later").expect("id");
        let judged = JudgedIssuer::unjudged(chain, Timestamp::from_secs(99));
        again.remember(&later, &request("csr"), &judged, ends);
        assert_eq!(again.answered(&id, &request("csr")), Ok(None), "what ended is forgotten");
    }

    #[tokio::test]
    async fn a_book_of_a_former_release_opens_and_gives_the_same_answers() {
        let state = MemoryState::new();
        let stored = br#"{"format":1,"generation":3,"signing":null,"announced":["YQ=="],"answers":{"one":{
            "asked":"454349e422f05297191ead13e21d3db520e5abef52055e4964b82fb213f593a1 example.org 60s 0 c27338c453067b437471afbce792704d816112c6031bb996b62c698ea599ef80",
            "ends":9,"chain":["AQI="]}}}"#;
        let name = crate::state::StateName::parse("answers").expect("name");
        state.put(&name, stored).await.expect("put");
        let book = AnswerBook::load(&state).await.expect("reads");
        assert_eq!((book.roots().roots, book.roots().generation), (vec![root("a")], 3));
        let id = RequestId::parse("one").expect("id");
        let answered = book.answered(&id, &request("csr"));
        assert_eq!(answered, Ok(Some(IssuerChain::new(vec![vec![1, 2]]))));
    }
}
