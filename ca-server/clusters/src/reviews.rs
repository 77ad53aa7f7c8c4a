//! Reviews of tokens. What a cluster said is remembered for a bounded time, and never beyond the end of the token; who asks
//! about a token that is being asked about waits for that answer; so many are asked about at a time, and who waits too long for
//! a place is told to retry. A refusal is not remembered.
//!
//! A token that names a key of the cluster's key set which did not sign it is refused without asking. One that names no known key
//! may be good all the same (a cluster may publish a key late, or never), so it is asked about, but with few others at a time:
//! whoever makes such tokens up takes no place from those that are proven to be signed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use auth::authn::cluster::{ClusterTokens, Presented, unavailable};
use auth::authn::jwt::TokenClaims;
use auth::authn::signed::{KnownKeys, Signed, forged};
use auth::bounded_cache::BoundedCache;
use auth::refusal::Refusal;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use trust::digest::sha256;
use trust::{Clock, Timestamp};

use crate::api::{Api, Failed};
use crate::counters::Counted;
use crate::health::{Health, Look};
use crate::keys::Keys;

/// Answers that are remembered.
const REMEMBERED_MAX: usize = 16 * 1024;
/// Of so many places one is for tokens that name no known key, and one at least.
const DOUBTFUL_SHARE: usize = 4;
/// Questions under way of which is known; beyond it those that have ended are let go.
const UNDER_WAY_MAX: usize = 1_024;

type Name = [u8; 32];
type Answer = Result<TokenClaims, Refusal>;
type Asking = Shared<BoxFuture<'static, Answer>>;
type Asked = WeakShared<BoxFuture<'static, Answer>>;

/// What reviews are made with.
pub(crate) struct Parts {
    pub(crate) tokens: ClusterTokens,
    pub(crate) keys: Keys<KnownKeys>,
    pub(crate) api: Arc<Api>,
    pub(crate) health: Arc<Health>,
    pub(crate) counted: Counted,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cache_age: Duration,
    pub(crate) timeout: Duration,
    pub(crate) at_a_time: usize,
}

/// The reviews of one cluster.
pub(crate) struct Reviews {
    parts: Arc<Parts>,
    places: Arc<Semaphore>,
    doubtful: Arc<Semaphore>,
    remembered: Arc<BoundedCache<Name, Remembered>>,
    /// Held for map work only.
    under_way: Mutex<HashMap<Name, Asked>>,
}

#[derive(Clone)]
struct Remembered {
    claims: TokenClaims,
    /// Uptime before the question was sent.
    asked_at: Duration,
    expires: Timestamp,
}

impl Reviews {
    pub(crate) fn new(parts: Parts) -> Self {
        let places = Arc::new(Semaphore::new(parts.at_a_time));
        let doubtful = Arc::new(Semaphore::new((parts.at_a_time / DOUBTFUL_SHARE).max(1)));
        let remembered = Arc::new(BoundedCache::new(REMEMBERED_MAX));
        let under_way = Mutex::default();
        Self { parts: Arc::new(parts), places, doubtful, remembered, under_way }
    }

    /// Keeps the key set up. Ends never.
    pub(crate) async fn keep(&self) {
        self.parts.keys.keep().await;
    }

    /// What the cluster says of a token.
    pub(crate) async fn judge(&self, token: &str) -> Answer {
        let Parts { clock, tokens, keys, counted, cache_age, .. } = self.parts.as_ref();
        let name = sha256(token.as_bytes());
        let is_fresh = |found: &Remembered| {
            clock.uptime().saturating_sub(found.asked_at) < *cache_age
                && found.expires > clock.now()
        };
        if let Some(found) = self.remembered.find(name).filter(is_fresh) {
            counted.saved("remembered");
            return Ok(found.claims);
        }
        let presented = tokens.present(token, clock.now())?;
        let places = match keys.signed(token).await {
            Signed::ByKnown | Signed::Unjudged => &self.places,
            Signed::ByUnknown => &self.doubtful,
            Signed::Forged => {
                counted.saved("forged");
                return Err(forged(&tokens.cluster));
            }
        };
        let (asking, joined) = self.asking(name, token, presented, places);
        if joined {
            counted.saved("joined");
        }
        asking.await
    }

    /// The question about a token: the one that is under way, or a new one.
    fn asking(
        &self,
        name: Name,
        token: &str,
        presented: Presented,
        places: &Arc<Semaphore>,
    ) -> (Asking, bool) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has ended has an answer already, which may be too old by now.
        let running = under_way.get(&name).and_then(Asked::upgrade);
        if let Some(running) = running.filter(|running| running.peek().is_none()) {
            return (running, true);
        }
        if under_way.len() >= UNDER_WAY_MAX {
            under_way.retain(|_, asked| asked.upgrade().is_some_and(|one| one.peek().is_none()));
        }
        let question = Question {
            parts: Arc::clone(&self.parts),
            places: Arc::clone(places),
            remembered: Arc::clone(&self.remembered),
            name,
            token: token.to_owned(),
            presented,
        };
        let asking = question.asked().boxed().shared();
        if let Some(weak) = asking.downgrade() {
            under_way.insert(name, weak);
        }
        (asking, false)
    }
}

/// One question, for however many wait for it.
struct Question {
    parts: Arc<Parts>,
    places: Arc<Semaphore>,
    remembered: Arc<BoundedCache<Name, Remembered>>,
    name: Name,
    token: String,
    presented: Presented,
}

impl Question {
    async fn asked(self) -> Answer {
        let Self { parts, places, remembered, name, token, presented } = self;
        let Parts { tokens, api, health, counted, clock, cache_age, timeout: within, .. } =
            parts.as_ref();
        let began = clock.uptime();
        let took = || clock.uptime().saturating_sub(began);
        let away = || Err(unavailable(&tokens.cluster));
        // Who waits in vain for a place learns nothing of the cluster: the calls that have one do.
        let Ok(Ok(_place)) = timeout(*within, places.acquire()).await else {
            counted.reviewed("away", took());
            return away();
        };
        let asked_at = clock.uptime();
        let reviewed = api.review(&token, &tokens.audiences).await;
        let review = match reviewed {
            Ok(review) => review,
            Err(failed) => {
                counted.reviewed("away", took());
                health.saw(Look::Tokens, Some(&cannot_ask(&failed)));
                return away();
            }
        };
        if review.is_undecided() {
            counted.reviewed("away", took());
            health.saw(Look::Tokens, Some(&undecided(&review.error)));
            return away();
        }
        health.saw(Look::Tokens, None);
        let answer = tokens.believed(&presented, &review);
        counted.reviewed(if answer.is_ok() { "good" } else { "refused" }, took());
        if let Ok(claims) = &answer
            && !cache_age.is_zero()
        {
            let (claims, expires) = (claims.clone(), presented.expires());
            remembered.insert(name, Remembered { claims, asked_at, expires });
        }
        answer
    }
}

/// What is wrong while the API server gives no answer.
pub(crate) fn cannot_ask(failed: &Failed) -> String {
    format!(
        "its API server cannot be asked about tokens, so whoever comes with one is told to retry: {}",
        failed.text()
    )
}

fn undecided(error: &str) -> String {
    format!(
        "its API server cannot tell whether tokens are good, so whoever comes with one is told to retry: {}",
        error.escape_debug()
    )
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}
