//! How an authority that signs through somebody else keeps the contract: one caller at a time looks into the
//! [`AnswerBook`], asks, and writes down what came of it before it is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use trust::{Clock, TrustDomain};

use crate::answers::{Announcement, AnswerBook, JudgedIssuer};
use crate::authority::{CrossSignRequest, IssuerChain, IssuerRequest, RootAuthority, RootSet};
use crate::call::{CallContext, Outcome, RequestId};
use crate::cross::JudgedCross;
use crate::error::PluginError;
use crate::registry::AuthorityDeps;
use crate::state::AuthorityState;

/// The answers of an authority that answers at once, and the roots that it announced.
#[derive(Debug)]
pub struct Answering {
    state: Arc<dyn AuthorityState>,
    clock: Arc<dyn Clock>,
    trust_domain: TrustDomain,
    /// Whose turn it is to change the book. It guards no data; a call that is dropped gives its turn back.
    turn: Mutex<()>,
}

/// The turn of one call: nobody else changes the book while it is held.
#[derive(Debug)]
pub struct Turn<'a> {
    answering: &'a Answering,
    _turn: MutexGuard<'a, ()>,
}

impl Answering {
    /// The answers of the instance that was given these.
    pub fn new(deps: &AuthorityDeps) -> Self {
        let (state, clock) = (Arc::clone(&deps.state), Arc::clone(&deps.clock));
        Self { state, clock, trust_domain: deps.trust_domain.clone(), turn: Mutex::new(()) }
    }

    /// Waits for a turn.
    pub async fn turn(&self) -> Turn<'_> {
        Turn { answering: self, _turn: self.turn.lock().await }
    }

    /// Looks at what there is and announces it, in one turn, so that an older look never follows a newer one.
    ///
    /// # Errors
    /// Those of the look and of the book.
    pub async fn announce(
        &self,
        look: impl Future<Output = Result<Announcement, PluginError>>,
    ) -> Result<RootSet, PluginError> {
        let turn = self.turn().await;
        let present = look.await?;
        turn.announce(&present).await
    }

    /// As [`Turn::issuer`], in a turn of its own.
    ///
    /// # Errors
    /// As [`Turn::issuer`].
    pub async fn issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
        sign: impl Future<Output = Result<JudgedIssuer, PluginError>>,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.turn().await.issuer(context, request, sign).await
    }

    /// The answer to any ticket: there are none.
    ///
    /// # Errors
    /// `Denied`, always.
    pub fn no_ticket<T>(&self) -> Result<T, PluginError> {
        no_ticket()
    }

    /// Refuses a request for another trust domain than the instance's.
    ///
    /// # Errors
    /// `Denied`, with the trust domain that it stands for.
    pub fn for_domain(&self, asked: &TrustDomain) -> Result<(), PluginError> {
        match *asked == self.trust_domain {
            true => Ok(()),
            false => {
                Err(PluginError::denied(format!("this authority stands for {}", self.trust_domain)))
            }
        }
    }
}

impl Turn<'_> {
    /// What is announced.
    ///
    /// # Errors
    /// When the book cannot be read.
    pub async fn announced(&self) -> Result<RootSet, PluginError> {
        Ok(AnswerBook::load(self.state()).await?.roots())
    }

    /// Announces what there is now; what is new is durable before it is told.
    ///
    /// # Errors
    /// When the book can be neither read nor stored.
    pub async fn announce(&self, present: &Announcement) -> Result<RootSet, PluginError> {
        let mut book = AnswerBook::load(self.state()).await?;
        if book.announce(present) {
            book.store(self.state()).await?;
        }
        Ok(book.roots())
    }

    /// The issuer that this request got before; otherwise the one that `sign` makes, which is durable before it is told.
    ///
    /// `sign` does nothing before it is awaited, so whoever repeats a request asks nobody a second time.
    ///
    /// # Errors
    /// `Denied` for another trust domain, and for an id that was used for another request; the errors of `sign`, after
    /// which nothing is remembered; and those of the book.
    pub async fn issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
        sign: impl Future<Output = Result<JudgedIssuer, PluginError>>,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let before = AnswerBook::load(self.state()).await?;
        if let Some(chain) = before.answered(&context.request_id, request)? {
            return Ok(Outcome::Ready(chain));
        }
        self.answering.for_domain(&request.trust_domain)?;
        let judged = sign.await?;
        // Read again: signing may have announced something.
        let mut book = AnswerBook::load(self.state()).await?;
        book.remember(&context.request_id, request, &judged, self.answering.clock.now());
        book.store(self.state()).await?;
        Ok(Outcome::Ready(judged.into_chain()))
    }

    /// The cross certificate that this request got before; otherwise the one that `sign` makes, which is durable before it is
    /// told. As with [`issuer`](Self::issuer), whoever repeats a request asks nobody a second time.
    ///
    /// # Errors
    /// `Denied` for an id that was used for another request; the errors of `sign`, after which nothing is remembered; and
    /// those of the book.
    pub async fn cross(
        &self,
        context: &CallContext,
        request: &CrossSignRequest,
        sign: impl Future<Output = Result<JudgedCross, PluginError>>,
    ) -> Result<Outcome<Vec<u8>>, PluginError> {
        let mut book = AnswerBook::load(self.state()).await?;
        if let Some(der) = book.crosses().answered(&context.request_id, request)? {
            return Ok(Outcome::Ready(der));
        }
        let judged = sign.await?;
        let now = self.answering.clock.now();
        book.crosses().remember(&context.request_id, request, &judged, now);
        book.store(self.state()).await?;
        Ok(Outcome::Ready(judged.der().to_vec()))
    }

    fn state(&self) -> &dyn AuthorityState {
        self.answering.state.as_ref()
    }
}

/// The answer to any ticket of an authority that gives none.
///
/// # Errors
/// `Denied`, always.
pub fn no_ticket<T>() -> Result<T, PluginError> {
    Err(PluginError::denied(
        "this authority answers at once and never gave a ticket; ask for the issuer again",
    ))
}

/// Looks at an authority's roots every so often until they are of another generation than `seen`: a
/// [`WatchRoots`](crate::WatchRoots) for an authority that cannot be told of changes.
///
/// # Errors
/// Those of the look.
pub async fn watch_by_looking(
    authority: &dyn RootAuthority,
    seen: u64,
    look: LookEvery,
) -> Result<RootSet, PluginError> {
    let watcher =
        RequestId::parse("watch").map_err(|error| PluginError::denied(error.to_string()))?;
    let context = CallContext::new(watcher, look.within);
    loop {
        let set = authority.roots(&context).await?;
        if set.generation != seen {
            return Ok(set);
        }
        tokio::time::sleep(look.pause).await;
    }
}

/// How often a watcher looks, and how long one look may take.
#[derive(Clone, Copy, Debug)]
pub struct LookEvery {
    /// The pause between two looks.
    pub pause: Duration,
    /// How long one look may take.
    pub within: Duration,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use trust::{ManualClock, RootId, SeededRandomness, Timestamp};

    use super::*;
    use crate::memory::MemoryKeys;
    use crate::state::{MemoryState, PutFault};

    fn answering(state: &Arc<MemoryState>) -> Answering {
        let domain = TrustDomain::parse("example.org").expect("domain");
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(5)));
        let state: Arc<dyn AuthorityState> = Arc::<MemoryState>::clone(state);
        let (keys, randomness) = (Arc::new(MemoryKeys::new()), Arc::new(SeededRandomness::new(1)));
        Answering::new(&AuthorityDeps::new(domain, keys, state, clock, randomness))
    }

    fn request(domain: &str, csr: &[u8]) -> IssuerRequest {
        let domain = TrustDomain::parse(domain).expect("domain");
        IssuerRequest::new(RootId::of(b"r"), csr.to_vec(), domain, Duration::from_secs(60))
    }

    fn context(id: &str) -> CallContext {
        CallContext::new(RequestId::parse(id).expect("id"), Duration::from_secs(1))
    }

    async fn sign(calls: &AtomicUsize) -> Result<JudgedIssuer, PluginError> {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        let chain = IssuerChain::new(vec![call.to_be_bytes().to_vec()]);
        Ok(JudgedIssuer::unjudged(chain, Timestamp::from_secs(99)))
    }

    #[tokio::test]
    async fn a_repeated_request_gets_the_same_bytes_and_nobody_is_asked_again() {
        let (state, calls) = (Arc::new(MemoryState::new()), AtomicUsize::new(0));
        let asked = request("example.org", b"csr");
        let first =
            answering(&state).issuer(&context("one"), &asked, sign(&calls)).await.expect("signed");
        // As after a restart: nothing but the state is left.
        let again =
            answering(&state).issuer(&context("one"), &asked, sign(&calls)).await.expect("again");
        assert_eq!((first, calls.load(Ordering::Relaxed)), (again, 1));
        let other = request("example.org", b"other");
        let refused = answering(&state).issuer(&context("one"), &other, sign(&calls)).await;
        assert!(matches!(refused, Err(PluginError::Denied { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn a_refusal_is_not_remembered_and_the_same_request_is_answered_once_it_is_mended() {
        let (state, calls) = (Arc::new(MemoryState::new()), AtomicUsize::new(0));
        let asked = request("example.org", b"csr");
        for refusal in [
            PluginError::denied("not there yet"),
            PluginError::Outlives {
                above: "the intermediate".to_owned(),
                ends: Timestamp::from_secs(9),
            },
        ] {
            let refused = std::future::ready(Err(refusal.clone()));
            let refused = answering(&state).issuer(&context("one"), &asked, refused).await;
            assert_eq!(refused, Err(refusal));
        }
        // Nothing was made under this id yet.
        let mended = request("example.org", b"another csr");
        let first =
            answering(&state).issuer(&context("one"), &mended, sign(&calls)).await.expect("signed");
        let again =
            answering(&state).issuer(&context("one"), &mended, sign(&calls)).await.expect("again");
        assert_eq!((first, calls.load(Ordering::Relaxed)), (again, 1));
    }

    #[tokio::test]
    async fn an_answer_that_was_not_durable_is_not_told_and_another_domain_is_refused_before_anybody_is_asked()
     {
        let (state, calls) = (Arc::new(MemoryState::new()), AtomicUsize::new(0));
        let answering = answering(&state);
        let elsewhere = request("elsewhere.org", b"csr");
        let refused = answering.issuer(&context("one"), &elsewhere, sign(&calls)).await;
        assert!(
            matches!(&refused, Err(PluginError::Denied { reason }) if reason.contains("example.org"))
        );
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        state.fail_next_put(PutFault::FailedNotStored);
        let asked = request("example.org", b"csr");
        let failed = answering.issuer(&context("one"), &asked, sign(&calls)).await;
        assert!(matches!(failed, Err(PluginError::Transient { .. })), "{failed:?}");
    }

    #[tokio::test]
    async fn what_is_announced_is_durable_and_of_a_new_generation_only_when_it_changed() {
        let state = Arc::new(MemoryState::new());
        let present = Announcement { roots: vec![b"a".to_vec()], ..Announcement::default() };
        let look = |present: &Announcement| std::future::ready(Ok(present.clone()));
        let first = answering(&state).announce(look(&present)).await.expect("announced");
        let again = answering(&state).announce(look(&present)).await.expect("announced");
        assert_eq!((first.generation, &again), (1, &first));
        assert_eq!(answering(&state).turn().await.announced().await, Ok(first));
    }
}
