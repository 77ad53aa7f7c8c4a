//! One cluster.

use std::sync::Arc;
use std::time::Duration;

use auth::authn::cluster::{ClusterTokens, PodSeen};
use auth::authn::jwt::{ClusterIssuer, JwtVerifier, TokenClaims, TokenIssuer};
use auth::authn::signed::KnownKeys;
use auth::refusal::{Reason, Refusal};
use futures::future;
use tokio::time::sleep;
use trust::Clock;

use crate::api::{Api, Right};
use crate::counters::Counted;
use crate::health::{Health, Look};
use crate::keys::{self, Keys, Source};
use crate::look;
use crate::pods::Pods;
use crate::reviews::{self, Reviews, cannot_ask};
use crate::settings::{ClusterSettings, Judged};
use crate::watch::PodWatch;

/// How often rights are looked at, and how often while anything is wrong.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A cluster with everything that is known of it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) settings: ClusterSettings,
    api: Arc<Api>,
    by: By,
    pods: Arc<Pods>,
    watch: Option<PodWatch>,
    pub(crate) health: Arc<Health>,
    clock: Arc<dyn Clock>,
    rights: Vec<Right>,
}

#[derive(Debug)]
enum By {
    Review(Reviews),
    Keys(Box<Keys<JwtVerifier>>),
}

impl Cluster {
    pub(crate) fn new(settings: ClusterSettings, counted: Counted, clock: Arc<dyn Clock>) -> Self {
        let api = Arc::new(Api::new(settings.access.clone(), settings.timeout));
        let health = Arc::new(Health::of(&settings.name));
        let of_source = |source| keys::Parts {
            source,
            health: Arc::clone(&health),
            counted: counted.clone(),
            clock: Arc::clone(&clock),
            timeout: settings.timeout,
            age_max: settings.key_set_age,
        };
        let of_api = || of_source(Source::Api(Arc::clone(&api)));
        let by_keys = |parts| By::Keys(Box::new(Keys::new(verifier_of(&settings), parts)));
        let by = match &settings.judged {
            Judged::ByReview => By::Review(Reviews::new(reviews::Parts {
                tokens: tokens_of(&settings),
                keys: Keys::new(KnownKeys::default(), of_api()),
                api: Arc::clone(&api),
                health: Arc::clone(&health),
                counted: counted.clone(),
                clock: Arc::clone(&clock),
                cache_age: settings.cache_age,
                timeout: settings.timeout,
                at_a_time: settings.reviews_at_a_time,
            })),
            Judged::ByKeySet => by_keys(of_api()),
            Judged::ByKeySetAt(address) => by_keys(of_source(Source::Address(address.clone()))),
        };
        let pods = Arc::new(Pods::default());
        let watch = (!settings.node_accounts.is_empty()).then(|| PodWatch {
            api: Arc::clone(&api),
            pods: Arc::clone(&pods),
            health: Arc::clone(&health),
            counted,
            clock: Arc::clone(&clock),
            age_max: settings.cache_age,
        });
        let rights = look::rights(&settings);
        Self { settings, api, by, pods, watch, health, clock, rights }
    }

    pub(crate) async fn judge(&self, token: &str) -> Result<TokenClaims, Refusal> {
        match &self.by {
            By::Review(reviews) => reviews.judge(token).await,
            By::Keys(keys) => keys.judge(token).await,
        }
    }

    pub(crate) fn pods_on(&self, node: &str) -> Result<Vec<PodSeen>, Refusal> {
        if !self.pods.is_fresh(self.clock.uptime(), self.settings.cache_age) {
            let text = format!(
                "the pods of cluster \"{}\" are not known now; retry in 2 s",
                self.settings.name
            );
            return Err(Refusal::new(Reason::PodsNotSynced, text));
        }
        Ok(self.pods.on(node))
    }

    /// Everything that goes on by itself. Ends never.
    pub(crate) async fn keep(&self) {
        let keys = async {
            match &self.by {
                By::Keys(keys) => keys.keep().await,
                By::Review(reviews) => reviews.keep().await,
            }
        };
        let pods = async {
            match &self.watch {
                Some(watch) => watch.keep().await,
                None => future::pending().await,
            }
        };
        futures::join!(keys, pods, self.keep_looking());
    }

    /// Finds out what is wrong although nobody asks, and that it is no longer.
    async fn keep_looking(&self) {
        loop {
            self.look().await;
            sleep(if self.health.is_well() { LOOK_EVERY } else { LOOK_AGAIN }).await;
        }
    }

    async fn look(&self) {
        if self.rights.is_empty() {
            return;
        }
        match look::missing(&self.api, &self.rights).await {
            Ok(missing) => {
                self.health.saw(Look::Tokens, None);
                let told = (!missing.is_empty()).then(|| look::told(&missing));
                self.health.saw(Look::Rights, told.as_deref());
            }
            Err(failed) => self.health.saw(Look::Tokens, Some(&cannot_ask(&failed))),
        }
    }
}

fn tokens_of(settings: &ClusterSettings) -> ClusterTokens {
    ClusterTokens {
        cluster: settings.name.clone(),
        issuer: settings.issuer.clone(),
        audiences: settings.audiences.clone(),
        life_max: settings.token_life_max,
        skew: settings.skew,
        trust_domain: settings.trust_domain.clone(),
    }
}

fn verifier_of(settings: &ClusterSettings) -> JwtVerifier {
    let issuer = TokenIssuer::of_cluster(ClusterIssuer {
        cluster: settings.name.clone(),
        issuer: settings.issuer.clone().unwrap_or_default(),
        audiences: settings.audiences.clone(),
        token_life_max: settings.token_life_max,
    });
    JwtVerifier::new(vec![issuer], settings.trust_domain.clone(), settings.skew)
}
