//! Root authorities as the rest of the server sees them: every call counted and timed, and a panic kept to the one call.
//!
//! Labels are names of the configuration and of a closed set of calls and outcomes; nothing of a request or an answer is
//! in them.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use plugins::{
    AuthorityState, CallContext, CrossSign, CrossSignRequest, Description, Health, IssuerChain,
    IssuerRequest, Outcome, PluginError, RetireRoots, RootAuthority, RootDer, RootSet,
    StageRequest, StageRoots, Ticket, UpstreamCa, WatchRoots, WithdrawRequests,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use trust::{Clock, RootId};

/// Root authorities by the name of their section.
pub type Authorities = BTreeMap<String, Arc<dyn RootAuthority>>;

/// Upper ends of the buckets, in seconds: 1 ms to 60 s.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

/// Counters of calls, shared by all authorities and by the registry that shows them.
#[derive(Clone, Debug)]
pub struct AuthorityCalls {
    calls: Family<CallLabels, Counter>,
    seconds: Family<TimeLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    authority: Arc<str>,
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeLabels {
    authority: Arc<str>,
    call: &'static str,
}

/// An authority whose calls are counted.
#[derive(Debug)]
pub struct Metered {
    name: Arc<str>,
    inner: Arc<dyn RootAuthority>,
    state: Option<Arc<dyn AuthorityState>>,
    calls: AuthorityCalls,
    clock: Arc<dyn Clock>,
}

/// One call under way; a call that its caller gave up is counted as that.
struct UnderWay<'m> {
    of: &'m Metered,
    call: &'static str,
    since: Duration,
    outcome: &'static str,
}

impl Default for AuthorityCalls {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

impl AuthorityCalls {
    /// Shows the counters in a registry.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Calls to root authorities, by what came of them";
        registry.register("authority_calls", help, self.calls.clone());
        let help = "Time that root authorities took for a call";
        registry.register_with_unit("authority_call", help, Unit::Seconds, self.seconds.clone());
    }
}

impl Metered {
    /// The same authority, counted under this name.
    pub fn new(
        name: &str,
        inner: Arc<dyn RootAuthority>,
        calls: AuthorityCalls,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { name: Arc::from(name), inner, state: None, calls, clock }
    }

    /// The same, of an authority that keeps its state here: it is unhealthy when that is gone.
    pub fn over(self, state: Arc<dyn AuthorityState>) -> Self {
        Self { state: Some(state), ..self }
    }

    async fn counted<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T, PluginError>>,
    ) -> Result<T, PluginError> {
        let since = self.clock.uptime();
        let mut under_way = UnderWay { of: self, call, since, outcome: "given_up" };
        let answer = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
            let detail = format!("the plugin broke off with a panic: {}", words(panic.as_ref()));
            tracing::error!(
                authority = &*self.name,
                call,
                detail,
                "a plugin is broken; report it to its author"
            );
            Err(PluginError::Transient { detail })
        });
        under_way.outcome = outcome(&answer);
        answer
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let (authority, call) = (Arc::clone(&self.of.name), self.call);
        let took = self.of.clock.uptime().saturating_sub(self.since);
        let labels = CallLabels { authority: Arc::clone(&authority), call, outcome: self.outcome };
        self.of.calls.calls.get_or_create(&labels).inc();
        self.of
            .calls
            .seconds
            .get_or_create(&TimeLabels { authority, call })
            .observe(took.as_secs_f64());
    }
}

fn outcome<T>(answer: &Result<T, PluginError>) -> &'static str {
    match answer {
        Ok(_) => "answered",
        Err(PluginError::RateLimited { .. }) => "rate_limited",
        Err(PluginError::Transient { .. }) => "transient",
        Err(PluginError::Denied { .. }) => "denied",
        Err(PluginError::Outlives { .. }) => "outlives",
        Err(PluginError::AuthorityDown { .. }) => "down",
        Err(PluginError::Misconfigured { .. }) => "misconfigured",
        Err(PluginError::Permanent { .. }) => "permanent",
        Err(PluginError::Unsafe(_)) => "unsafe",
        Err(_) => "other",
    }
}

/// What a panic says, bounded; plugins are told to put no secrets into texts.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    text.chars().take(200).collect()
}

#[async_trait]
impl RootAuthority for Metered {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    async fn check(&self, context: &CallContext) -> Health {
        if let Some(state) = &self.state
            && let Err(gone) = state.check().await
        {
            return Health::down(gone.detail);
        }
        let answered = self.counted("check", async { Ok(self.inner.check(context).await) }).await;
        answered.unwrap_or_else(|error| Health::down(error.to_string()))
    }

    async fn roots(&self, context: &CallContext) -> Result<RootSet, PluginError> {
        self.counted("roots", self.inner.roots(context)).await
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.counted("sign_issuer", self.inner.sign_issuer(context, request)).await
    }

    async fn poll(
        &self,
        context: &CallContext,
        ticket: &Ticket,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.counted("poll", self.inner.poll(context, ticket)).await
    }

    fn staging(&self) -> Option<&dyn StageRoots> {
        self.inner.staging().map(|_| self as &dyn StageRoots)
    }

    fn watching(&self) -> Option<&dyn WatchRoots> {
        self.inner.watching().map(|_| self as &dyn WatchRoots)
    }

    fn cross_signing(&self) -> Option<&dyn CrossSign> {
        self.inner.cross_signing().map(|_| self as &dyn CrossSign)
    }

    fn retiring(&self) -> Option<&dyn RetireRoots> {
        self.inner.retiring().map(|_| self as &dyn RetireRoots)
    }

    fn upstream(&self) -> Option<&dyn UpstreamCa> {
        self.inner.upstream()
    }

    fn withdrawing(&self) -> Option<&dyn WithdrawRequests> {
        self.inner.withdrawing()
    }
}

/// The answer to a call of a capability that came and went: the contract says that it does neither.
fn gone(capability: &str) -> PluginError {
    PluginError::Permanent {
        detail: format!("the plugin can no longer {capability}; restart the server"),
    }
}

#[async_trait]
impl StageRoots for Metered {
    async fn stage(
        &self,
        context: &CallContext,
        request: &StageRequest,
    ) -> Result<Outcome<RootDer>, PluginError> {
        let staging = self.inner.staging().ok_or_else(|| gone("stage roots"))?;
        self.counted("stage", staging.stage(context, request)).await
    }

    async fn activate(&self, context: &CallContext, root: &RootId) -> Result<(), PluginError> {
        let staging = self.inner.staging().ok_or_else(|| gone("stage roots"))?;
        self.counted("activate", staging.activate(context, root)).await
    }
}

#[async_trait]
impl WatchRoots for Metered {
    async fn changed(&self, seen: u64) -> Result<RootSet, PluginError> {
        // Not timed: it waits for a change.
        let watching = self.inner.watching().ok_or_else(|| gone("watch roots"))?;
        let waited = AssertUnwindSafe(watching.changed(seen)).catch_unwind().await;
        waited.unwrap_or_else(|panic| {
            let detail = format!("the plugin broke off with a panic: {}", words(panic.as_ref()));
            Err(PluginError::Transient { detail })
        })
    }
}

#[async_trait]
impl CrossSign for Metered {
    async fn cross_sign(
        &self,
        context: &CallContext,
        request: &CrossSignRequest,
    ) -> Result<Outcome<Vec<u8>>, PluginError> {
        let signing = self.inner.cross_signing().ok_or_else(|| gone("cross-sign"))?;
        self.counted("cross_sign", signing.cross_sign(context, request)).await
    }
}

#[async_trait]
impl RetireRoots for Metered {
    async fn retire(&self, context: &CallContext, root: &RootId) -> Result<(), PluginError> {
        let retiring = self.inner.retiring().ok_or_else(|| gone("retire roots"))?;
        self.counted("retire", retiring.retire(context, root)).await
    }
}

#[cfg(test)]
mod tests {
    use plugins::{HealthState, RequestId};
    use trust::{ManualClock, Timestamp};

    use super::*;

    /// A fake that panics, answers or hangs, as it is asked.
    #[derive(Debug)]
    struct Odd;

    #[async_trait]
    impl RootAuthority for Odd {
        fn describe(&self) -> Description {
            Description::new("odd", "odd", "1")
        }

        async fn check(&self, _: &CallContext) -> Health {
            panic!("no health today")
        }

        async fn roots(&self, _: &CallContext) -> Result<RootSet, PluginError> {
            Ok(RootSet::new(Vec::new(), None, 0))
        }

        async fn sign_issuer(
            &self,
            _: &CallContext,
            _: &IssuerRequest,
        ) -> Result<Outcome<IssuerChain>, PluginError> {
            std::future::pending().await
        }

        async fn poll(
            &self,
            _: &CallContext,
            _: &Ticket,
        ) -> Result<Outcome<IssuerChain>, PluginError> {
            Err(PluginError::Denied { reason: "no ticket".to_owned() })
        }
    }

    #[tokio::test]
    async fn a_panic_fails_one_call_and_every_outcome_is_counted() {
        let calls = AuthorityCalls::default();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1)));
        let metered = Metered::new("main", Arc::new(Odd), calls.clone(), clock);
        let id = RequestId::parse("one").expect("id");
        let context = CallContext::new(id, Duration::from_secs(1));
        let health = metered.check(&context).await;
        assert!(
            health.state == HealthState::Down && health.detail.contains("no health today"),
            "{health:?}"
        );
        assert!(metered.roots(&context).await.is_ok(), "the instance is of use after a panic");
        assert!(metered.poll(&context, &Ticket::new("t")).await.is_err());
        let domain = trust::TrustDomain::parse("example.org").expect("domain");
        let request =
            IssuerRequest::new(RootId::of(b"root"), Vec::new(), domain, Duration::from_secs(1));
        let given_up = metered.sign_issuer(&context, &request).now_or_never();
        assert!(given_up.is_none());
        assert!(metered.staging().is_none(), "what it cannot do is still not there");
        let mut registry = Registry::with_prefix("banyan");
        calls.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        for (call, outcome) in [
            ("check", "transient"),
            ("roots", "answered"),
            ("poll", "denied"),
            ("sign_issuer", "given_up"),
        ] {
            let line = format!(
                "banyan_authority_calls_total{{authority=\"main\",call=\"{call}\",outcome=\"{outcome}\"}} 1"
            );
            assert!(text.contains(&line), "{line} is missing in\n{text}");
        }
    }
}
