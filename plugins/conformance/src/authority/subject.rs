//! The authority to be tried, and the calls that all rules share.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use plugins::ca_certificate::RootProfile;
use plugins::checks::{
    self, CheckedIssuer, CheckedRoots, FurtherExpectation, FurtherFault, IssuerExpectation,
    RootsExpectation,
};
use plugins::memory::MemoryKeys;
use plugins::{
    CallContext, IssuerChain, IssuerRequest, KeyBackend, KeyHandle, KeySpec, Outcome, PluginError,
    RequestId, RootAuthority, RootDer, RootSet, StageRequest, StageRoots, ca_certificate,
};
use tokio::sync::OnceCell;
use trust::{Clock, PublicKey, Root, RootId, Serial, Timestamp, TrustDomain, Validity};

use crate::report::{Broken, Gaps, Report, Verdict, demand, skip, works};

/// How long issuers are asked for.
pub(super) const ISSUER_TTL: Duration = Duration::from_secs(30 * 86_400);
/// How long roots are asked for.
pub(super) const ROOT_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// How much shorter an issuer may be than asked when it is looked at: clocks go on while the suite asks for others.
const MEANWHILE: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(30);

/// A root authority to be tried.
pub struct Subject {
    open: Box<dyn Fn() -> Arc<dyn RootAuthority> + Send + Sync>,
    trust_domain: TrustDomain,
    clock: Arc<dyn Clock>,
    run: String,
    variant: Option<String>,
    gaps: Gaps,
    answers_within: Option<Duration>,
}

impl Subject {
    /// Takes what opens the authority (called again, it opens the same one again, as after a restart), the trust
    /// domain it may issue for, and its clock.
    pub fn new(
        open: impl Fn() -> Arc<dyn RootAuthority> + Send + Sync + 'static,
        trust_domain: TrustDomain,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let run = "conformance".to_owned();
        Self {
            open: Box::new(open),
            trust_domain,
            clock,
            run,
            variant: None,
            gaps: Gaps::new(),
            answers_within: None,
        }
    }

    /// The same, for an authority that answers later, such as one that waits for people: the suite asks again as the
    /// authority says, for at most so long. Without it, rules that meet such an answer are skipped.
    #[must_use]
    pub fn answering_within(self, longest: Duration) -> Self {
        Self { answers_within: Some(longest), ..self }
    }

    /// The same, for an authority that remembers earlier runs: request ids begin with this, which must be new.
    #[must_use]
    pub fn run_named(self, run: impl Into<String>) -> Self {
        Self { run: run.into(), ..self }
    }

    /// The same, tried in one of several ways of setting it up, which the report is named after.
    #[must_use]
    pub fn variant(self, variant: impl Into<String>) -> Self {
        Self { variant: Some(variant.into()), ..self }
    }

    /// The same, which is known to break a rule for a reason. The rule is tried all the same: a gap that is none is a
    /// failure.
    #[must_use]
    pub fn gap(mut self, rule: &str, reason: &str) -> Self {
        self.gaps.insert(rule.to_owned(), reason.to_owned());
        self
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

/// One run: an open authority, and keys for the issuers that are asked of it.
pub(super) struct Trial<'a> {
    subject: &'a Subject,
    authority: Arc<dyn RootAuthority>,
    keys: MemoryKeys,
    other_root: OnceCell<Root>,
}

impl<'a> Trial<'a> {
    pub(super) fn new(subject: &'a Subject) -> Self {
        Self {
            subject,
            authority: (subject.open)(),
            keys: MemoryKeys::new(),
            other_root: OnceCell::new(),
        }
    }

    pub(super) fn trust_domain(&self) -> &TrustDomain {
        &self.subject.trust_domain
    }

    pub(super) fn now(&self) -> Timestamp {
        self.subject.clock.now()
    }

    /// A root of somebody else in the trust domain: the same throughout the run.
    pub(super) async fn other_root(&self) -> Result<&Root, Broken> {
        self.other_root.get_or_try_init(|| self.made_root()).await
    }

    async fn made_root(&self) -> Result<Root, Broken> {
        let key = self.issuer_key("other-root").await?;
        let mut serial = [0; Serial::LEN];
        serial.iter_mut().zip(key.public.hash().as_bytes()).for_each(|(to, byte)| *to = *byte);
        // The form that serial numbers of ours have.
        let [first, ..] = &mut serial;
        *first = *first & 0x3f | 0x40;
        let none = || Broken::Failed("the suite's root has no serial number".to_owned());
        let profile = RootProfile {
            trust_domain: self.trust_domain().clone(),
            serial: Serial::from_bytes(&serial).ok_or_else(none)?,
            validity: works(
                "the suite's validity",
                Validity::new(self.now().minus(MEANWHILE), self.now().plus(ROOT_LIFETIME)),
            )?,
        };
        works("the suite's root", ca_certificate::build_root(&self.keys, &key, &profile).await)
    }

    /// An empty report about the authority.
    pub(super) fn report(&self) -> Report {
        let Subject { variant, gaps, .. } = self.subject;
        Report::about(&self.authority.describe().plugin, variant.as_deref(), gaps)
    }

    pub(super) fn authority(&self) -> &dyn RootAuthority {
        self.authority.as_ref()
    }

    /// The same authority, opened anew.
    pub(super) fn reopened(&self) -> Arc<dyn RootAuthority> {
        (self.subject.open)()
    }

    pub(super) fn context(&self, name: &str) -> Result<CallContext, Broken> {
        let id = works(
            "the suite's request id",
            RequestId::parse(&format!("{}-{name}", self.subject.run)),
        )?;
        Ok(CallContext::new(id, DEADLINE))
    }

    pub(super) fn staging(&self) -> Result<&dyn StageRoots, Broken> {
        self.authority.staging().map_or_else(|| skip("it cannot stage roots"), Ok)
    }

    pub(super) fn stage_request(&self) -> StageRequest {
        StageRequest::new(self.subject.trust_domain.clone(), ROOT_LIFETIME, KeySpec::P256)
    }

    pub(super) async fn stage(&self, name: &str) -> Result<RootDer, Broken> {
        let (context, request) = (self.context(name)?, self.stage_request());
        let mut wait = self.wait();
        loop {
            let outcome = works("stage", self.staging()?.stage(&context, &request).await)?;
            match outcome {
                Outcome::Pending { retry_after, .. } if wait.allows(retry_after) => {
                    tokio::time::sleep(retry_after).await;
                }
                outcome => return ready(outcome),
            }
        }
    }

    /// A root to sign under: a staged one, or the one that signs.
    pub(super) async fn root(&self, name: &str) -> Result<RootId, Broken> {
        if self.authority.staging().is_some() {
            return Ok(RootId::of(&self.stage(name).await?));
        }
        let none = || Broken::Failed("no root signs, and none can be staged".to_owned());
        self.roots().await?.signing.ok_or_else(none)
    }

    pub(super) async fn roots(&self) -> Result<RootSet, Broken> {
        works("roots", self.authority.roots(&self.context("roots")?).await)
    }

    pub(super) fn check_roots(
        &self,
        set: &RootSet,
        before: Option<&CheckedRoots>,
    ) -> Result<CheckedRoots, Broken> {
        let now = self.subject.clock.now();
        let expected = RootsExpectation {
            trust_domain: &self.subject.trust_domain,
            path_len: 1,
            now,
            covers_until: now.plus(ISSUER_TTL),
            before,
            known: &[],
            retired: &BTreeSet::new(),
            on_purpose: &BTreeSet::new(),
        };
        works("the check of the roots", checks::check_roots(set, &expected))
    }

    pub(super) fn check_further(
        &self,
        set: &RootSet,
    ) -> Result<(Vec<Root>, Vec<FurtherFault>), Broken> {
        let Subject { trust_domain, clock, .. } = self.subject;
        let expected = FurtherExpectation { trust_domain, now: clock.now(), known: &[] };
        works("the check of the further roots", checks::check_further(set, &expected))
    }

    pub(super) async fn issuer_key(&self, name: &str) -> Result<KeyHandle, Broken> {
        let id = self.context(name)?.request_id;
        works("the suite's key", self.keys.generate(&id, KeySpec::P256).await)
    }

    pub(super) async fn issuer_request(
        &self,
        root: RootId,
        key: &KeyHandle,
    ) -> Result<IssuerRequest, Broken> {
        let csr_der =
            works("the suite's CSR", ca_certificate::build_issuer_csr(&self.keys, key).await)?;
        let trust_domain = self.subject.trust_domain.clone();
        Ok(IssuerRequest::new(root, csr_der, trust_domain, ISSUER_TTL))
    }

    pub(super) async fn sign(
        &self,
        name: &str,
        request: &IssuerRequest,
    ) -> Result<Result<Outcome<IssuerChain>, PluginError>, Broken> {
        self.sign_at(self.authority(), name, request).await
    }

    /// Asks one that was opened anew.
    pub(super) async fn sign_at(
        &self,
        authority: &dyn RootAuthority,
        name: &str,
        request: &IssuerRequest,
    ) -> Result<Result<Outcome<IssuerChain>, PluginError>, Broken> {
        let context = self.context(name)?;
        let mut signed = authority.sign_issuer(&context, request).await;
        let mut wait = self.wait();
        while let Ok(Outcome::Pending { ticket, retry_after }) = &signed {
            if !wait.allows(*retry_after) {
                break;
            }
            tokio::time::sleep(*retry_after).await;
            signed = authority.poll(&context, ticket).await;
        }
        Ok(signed)
    }

    /// Asks for an issuer once, and does not wait.
    pub(super) async fn ask(
        &self,
        authority: &dyn RootAuthority,
        name: &str,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, Broken> {
        works("sign_issuer", authority.sign_issuer(&self.context(name)?, request).await)
    }

    fn wait(&self) -> Wait {
        Wait { left: self.subject.answers_within.unwrap_or_default() }
    }

    pub(super) async fn check_issuer(
        &self,
        root: RootId,
        key: &PublicKey,
        chain: &IssuerChain,
    ) -> Result<CheckedIssuer, Broken> {
        let announced = self.check_roots(&self.roots().await?, None)?;
        let now = self.subject.clock.now();
        let expected = IssuerExpectation {
            key,
            trust_domain: &self.subject.trust_domain,
            root,
            path_len: 0,
            now,
            covers_until: now.plus(ISSUER_TTL).minus(MEANWHILE),
            announced: announced.roots(),
            retired: &BTreeSet::new(),
        };
        works("the check of the issuer", checks::check_issuer_answer(chain, &expected))
    }
}

/// How long an answer is still waited for.
struct Wait {
    left: Duration,
}

impl Wait {
    fn allows(&mut self, pause: Duration) -> bool {
        let enough = self.left > pause;
        // An authority that names no pause at all must not be asked for ever.
        self.left = self.left.saturating_sub(pause.max(Duration::from_millis(1)));
        enough
    }
}

/// Whether two answers tell the same: roots come in any order.
pub(super) fn same(mut first: RootSet, mut second: RootSet) -> bool {
    for set in [&mut first, &mut second] {
        set.roots.sort();
        set.further.sort();
    }
    first == second
}

/// The answer that is there. One that comes later is no answer here.
pub(super) fn ready<T>(outcome: Outcome<T>) -> Result<T, Broken> {
    match outcome {
        Outcome::Ready(answer) => Ok(answer),
        Outcome::Pending { .. } => skip("it answers later than the suite waits"),
    }
}

pub(super) fn denied<T: fmt::Debug>(call: &str, result: &Result<T, PluginError>) -> Verdict {
    let right = matches!(result, Err(PluginError::Denied { .. }));
    demand(right, format!("{call} must be refused as Denied, and gave {result:?}"))
}
