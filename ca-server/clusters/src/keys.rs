//! The key set of a cluster: fetched by one task, believed until it is too old, and fetched anew when a token names a key that
//! is not in it, so often and not oftener.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use auth::authn::jwks::KEY_SET_LEN_MAX;
use auth::authn::jwt::{JwtVerifier, TokenClaims};
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
/// How often while it cannot be fetched.
const AGAIN: Duration = Duration::from_secs(5);
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
    pub(crate) verifier: JwtVerifier,
    pub(crate) health: Arc<Health>,
    pub(crate) counted: Counted,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) timeout: Duration,
    pub(crate) age_max: Duration,
}

/// The keys of one cluster.
#[derive(Debug)]
pub(crate) struct Keys {
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

impl Keys {
    pub(crate) fn new(parts: Parts) -> Self {
        let (fetched, _) = watch::channel(Fetched::default());
        Self { parts, taken_at: Mutex::default(), wanted: Notify::new(), fetched }
    }

    /// Judges a token by the keys that there are, and once more when another fetch has brought others.
    pub(crate) async fn judge(&self, token: &str) -> Result<TokenClaims, Refusal> {
        self.forget_what_is_too_old();
        let judged = self.verify(token);
        let lacks_key = |refusal: &Refusal| {
            matches!(refusal.reason(), Reason::TokenKeyUnknown | Reason::KeySetUnavailable)
        };
        match judged {
            Err(refusal) if lacks_key(&refusal) => self.fetched_anew(token, refusal).await,
            judged => judged,
        }
    }

    fn verify(&self, token: &str) -> Result<TokenClaims, Refusal> {
        self.parts.verifier.verify(token, self.parts.clock.now())
    }

    async fn fetched_anew(&self, token: &str, refusal: Refusal) -> Result<TokenClaims, Refusal> {
        let mut fetched = self.fetched.subscribe();
        let before = *fetched.borrow();
        if before.times > 0 && self.parts.clock.uptime().saturating_sub(before.at) < LEAST {
            return Err(if before.failed { unavailable() } else { refusal });
        }
        self.wanted.notify_one();
        let another = fetched.wait_for(|now| now.times > before.times);
        match timeout(self.parts.timeout, another).await {
            Ok(Ok(now)) if !now.failed => {}
            // A key that is not known may be one that could not be fetched.
            _ => return Err(unavailable()),
        }
        self.verify(token)
    }

    fn forget_what_is_too_old(&self) {
        let taken_at = *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner);
        let age = taken_at.map(|at| self.parts.clock.uptime().saturating_sub(at));
        if age.is_some_and(|age| age > self.parts.age_max) {
            self.parts.verifier.forget_fetched();
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
            let least = async {
                sleep(LEAST).await;
                self.wanted.notified().await;
            };
            tokio::select! {
                () = sleep(if failed { AGAIN } else { EVERY }) => {}
                () = least => {}
            }
        }
    }

    async fn fetch(&self) -> Result<(), ()> {
        let Parts { source, verifier, health, counted, clock, timeout, age_max } = &self.parts;
        let asked_at = clock.uptime();
        let bytes = match source {
            Source::Api(api) => {
                let fetched = api.key_set(KEY_SET_LEN_MAX).await;
                fetched.map_err(|failed| failed.text().to_owned())
            }
            Source::Address(address) => address.fetch(*timeout, KEY_SET_LEN_MAX).await,
        };
        let taken = bytes.and_then(|bytes| {
            verifier.take_fetched(&bytes).map_err(|fault| format!("it was not taken: {fault}"))
        });
        let Err(why) = taken else {
            *self.taken_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked_at);
            counted.fetched_keys("good");
            health.saw(Look::Keys, None);
            return Ok(());
        };
        counted.fetched_keys("failed");
        self.forget_what_is_too_old();
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
