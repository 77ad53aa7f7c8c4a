//! The key set of a cluster: fetched by one task, believed until it is too old, and fetched anew when a token names a key that
//! is not in it, so often and not oftener.
//!
//! Where tokens are judged by it, it decides, and that it cannot be fetched is wrong. Where the cluster is asked about each token,
//! it only spares the cluster questions about forgeries, and without it each is asked about.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use auth::authn::jwks::{KEY_SET_LEN_MAX, KeySetFault};
use auth::authn::jwt::{JwtVerifier, TokenClaims};
use auth::authn::signed::{KnownKeys, Signed};
use auth::refusal::{Reason, Refusal};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use trust::Clock;
use trust::plain::span;

use crate::api::Api;
use crate::counters::Counted;
use crate::fetch::KeySetAddress;
use crate::health::{Health, Look};

/// How often the key set is fetched without being asked.
const EVERY: Duration = Duration::from_secs(300);
/// How often while it cannot be fetched, where it decides and where it only spares questions.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_SPARING: Duration = Duration::from_secs(30);
/// Longest wait for another fetch where the cluster is asked afterwards, which has waits of its own.
const SPARING_WITHIN: Duration = Duration::from_secs(1);
/// Least time between two fetches, however many tokens name unknown keys.
const LEAST: Duration = Duration::from_secs(10);

/// Where a key set is.
#[derive(Debug)]
pub(crate) enum Source {
    Api(Arc<Api>),
    Address(KeySetAddress),
}

/// What keys are kept with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) source: Source,
    pub(crate) health: Arc<Health>,
    pub(crate) counted: Counted,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) timeout: Duration,
    pub(crate) age_max: Duration,
}

/// What key sets are fetched for.
pub(crate) trait Judge: Debug {
    /// Whether nothing can be judged without a key set.
    const DECIDES: bool;

    /// Takes one that was fetched; the last good one stays if it is not good.
    fn take(&self, bytes: &[u8]) -> Result<(), KeySetFault>;

    /// Has none any more.
    fn forget(&self);
}

impl Judge for JwtVerifier {
    const DECIDES: bool = true;

    fn take(&self, bytes: &[u8]) -> Result<(), KeySetFault> {
        self.take_fetched(bytes).map(drop)
    }

    fn forget(&self) {
        self.forget_fetched();
    }
}

impl Judge for KnownKeys {
    const DECIDES: bool = false;

    fn take(&self, bytes: &[u8]) -> Result<(), KeySetFault> {
        self.take(bytes)
    }

    fn forget(&self) {
        self.forget();
    }
}

/// The keys of one cluster.
#[derive(Debug)]
pub(crate) struct Keys<J> {
    judge: J,
    parts: Parts,
    /// Uptime of the last fetch that was taken. Held to read and write it.
    taken_at: Mutex<Option<Duration>>,
    wanted: Notify,
    fetched: watch::Sender<Fetched>,
}

/// How often it was fetched, when last, and how that went.
#[derive(Clone, Copy, Debug, Default)]
struct Fetched {
    times: u64,
    at: Duration,
    failed: bool,
}

/// What a wish for another fetch came to.
enum Again {
    /// The key set is one of just now.
    Fetched,
    /// It was fetched so shortly before that it is not fetched again.
    JustBefore,
    /// It could not be fetched.
    Failed,
}

impl Keys<JwtVerifier> {
    /// Judges a token by the keys that there are, and once more when another fetch has brought others.
    pub(crate) async fn judge(&self, token: &str) -> Result<TokenClaims, Refusal> {
        self.forget_what_is_too_old();
        let judged = self.verify(token);
        let lacks_key = |refusal: &Refusal| {
            matches!(refusal.reason(), Reason::TokenKeyUnknown | Reason::KeySetUnavailable)
        };
        match judged {
            Err(refusal) if lacks_key(&refusal) => match self.again().await {
                Again::Fetched => self.verify(token),
                Again::JustBefore => Err(refusal),
                // A key that is not known may be one that could not be fetched.
                Again::Failed => Err(unavailable()),
            },
            judged => judged,
        }
    }

    fn verify(&self, token: &str) -> Result<TokenClaims, Refusal> {
        self.judge.verify(token, self.parts.clock.now())
    }
}

impl Keys<KnownKeys> {
    /// What the keys say of a token's signature; of one that is not proven, those of just now. Without them it may be of any key.
    pub(crate) async fn signed(&self, token: &str) -> Signed {
        self.forget_what_is_too_old();
        match self.judge.judge(token) {
            Signed::Forged | Signed::ByUnknown => match self.again().await {
                Again::Fetched | Again::JustBefore => self.judge.judge(token),
                Again::Failed => Signed::ByUnknown,
            },
            judged => judged,
        }
    }
}

impl<J: Judge> Keys<J> {
    pub(crate) fn new(judge: J, parts: Parts) -> Self {
        let (fetched, _) = watch::channel(Fetched::default());
        Self { judge, parts, taken_at: Mutex::default(), wanted: Notify::new(), fetched }
    }

    /// Has the key set fetched again, if the last time is long enough ago.
    async fn again(&self) -> Again {
        let mut fetched = self.fetched.subscribe();
        let before = *fetched.borrow();
        if before.times > 0 && self.parts.clock.uptime().saturating_sub(before.at) < LEAST {
            return if before.failed { Again::Failed } else { Again::JustBefore };
        }
        self.wanted.notify_one();
        let another = fetched.wait_for(|now| now.times > before.times);
        let within = match J::DECIDES {
            true => self.parts.timeout,
            false => self.parts.timeout.min(SPARING_WITHIN),
        };
        match timeout(within, another).await {
            Ok(Ok(now)) if !now.failed => Again::Fetched,
            _ => Again::Failed,
        }
    }

    fn forget_what_is_too_old(&self) {
        let taken_at = *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner);
        let age = taken_at.map(|at| self.parts.clock.uptime().saturating_sub(at));
        if age.is_some_and(|age| age > self.parts.age_max) {
            self.judge.forget();
        }
    }

    /// Fetches the key set now and then, and when it is wanted. Ends never.
    pub(crate) async fn keep(&self) {
        loop {
            let failed = self.fetch().await.is_err();
            let at = self.parts.clock.uptime();
            self.fetched.send_modify(|fetched| {
                *fetched = Fetched { times: fetched.times + 1, at, failed };
            });
            let pause = match failed {
                true if J::DECIDES => AGAIN,
                true => AGAIN_SPARING,
                false => EVERY,
            };
            let least = async {
                sleep(LEAST).await;
                self.wanted.notified().await;
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = least => {}
            }
        }
    }

    async fn fetch(&self) -> Result<(), ()> {
        let Parts { source, health, counted, clock, timeout, age_max } = &self.parts;
        let asked_at = clock.uptime();
        let bytes = match source {
            Source::Api(api) => {
                let fetched = api.key_set(KEY_SET_LEN_MAX).await;
                fetched.map_err(|failed| failed.text().to_owned())
            }
            Source::Address(address) => address.fetch(*timeout, KEY_SET_LEN_MAX).await,
        };
        let taken = bytes.and_then(|bytes| {
            self.judge.take(&bytes).map_err(|fault| format!("it was not taken: {fault}"))
        });
        let Err(why) = taken else {
            *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked_at);
            counted.fetched_keys("good");
            health.saw(Look::Keys, None);
            return Ok(());
        };
        counted.fetched_keys("failed");
        self.forget_what_is_too_old();
        if !J::DECIDES {
            if !self.fetched.borrow().failed {
                tracing::warn!(
                    why,
                    "a cluster's key set cannot be fetched, so it is asked about forged tokens too"
                );
            }
            return Err(());
        }
        let taken_at = *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken_at.and_then(|at| (at + *age_max).checked_sub(clock.uptime()));
        let meanwhile = match left {
            Some(left) => format!("the last one is believed for another {}", span(left)),
            None => {
                "there is none to go by, so whoever comes with a token is told to retry".to_owned()
            }
        };
        health.saw(
            Look::Keys,
            Some(&format!("its key set cannot be fetched, and {meanwhile}: {why}")),
        );
        Err(())
    }
}

fn unavailable() -> Refusal {
    let text = "the cluster's key set could not be fetched, and the token may be of a key in it: retry in 10 s";
    Refusal::new(Reason::KeySetUnavailable, text)
}
