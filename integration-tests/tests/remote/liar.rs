//! A root authority that lies: `self-signed`, except for one answer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plugin_self_signed::SelfSignedPlugin;
use plugins::ca_certificate::build_issuer_csr;
use plugins::memory::MemoryKeys;
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem, Description, Health, IssuerChain,
    IssuerRequest, KeyBackend as _, KeySpec, Outcome, PluginError, RequestId, RootAuthority,
    RootSet, StageRequest, StageRoots, Ticket,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use tokio::sync::watch;
use trust::RootId;

/// What is wrong with what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misbehavior {
    None,
    RootIsNoCa,
    RootIsExpired,
    RootHasNoRoom,
    RootOfOtherDomain,
    RootIsNoCertificate,
    Huge,
    EndlessChain,
    EmptySet,
    SigningIsNotAnnounced,
    IssuerForOtherKey,
    IssuerOfOtherRoot,
    Hangs,
    CrashesWhileItSigns,
    TellsItsKey,
}

/// Lists the liar in a registry, as `liar`. Clones tell the same lie.
#[derive(Debug, Clone)]
pub(crate) struct LiarPlugin {
    misbehavior: Arc<watch::Sender<Misbehavior>>,
}

impl LiarPlugin {
    pub(crate) fn new() -> Self {
        Self { misbehavior: Arc::new(watch::Sender::new(Misbehavior::None)) }
    }

    pub(crate) fn tell(&self, misbehavior: Misbehavior) {
        self.misbehavior.send_replace(misbehavior);
    }
}

impl AuthorityPlugin for LiarPlugin {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        let _ = settings;
        Ok(())
    }

    fn open(
        &self,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, Vec<ConfigProblem>> {
        let stages = settings.get("stages").and_then(toml::Value::as_bool).unwrap_or(true);
        let inner = SelfSignedPlugin.open(&toml::Table::new(), deps.clone())?;
        Ok(Arc::new(Liar { inner, deps, stages, misbehavior: Arc::clone(&self.misbehavior) }))
    }
}

#[derive(Debug)]
struct Liar {
    inner: Arc<dyn RootAuthority>,
    deps: AuthorityDeps,
    stages: bool,
    misbehavior: Arc<watch::Sender<Misbehavior>>,
}

impl Liar {
    fn misbehavior(&self) -> Misbehavior {
        *self.misbehavior.borrow()
    }

    fn inner(&self) -> Result<&dyn StageRoots, PluginError> {
        self.inner.staging().ok_or_else(|| permanent("self-signed stages no roots"))
    }

    /// Makes a root at the honest one, and lets it sign.
    async fn own_root(&self, name: &str) -> Result<RootId, PluginError> {
        let request = StageRequest::new(
            self.deps.trust_domain.clone(),
            Duration::from_secs(86_400 * 365),
            KeySpec::P256,
        );
        let context = context(name)?;
        let Outcome::Ready(root) = self.inner()?.stage(&context, &request).await? else {
            return Err(permanent("self-signed answers later"));
        };
        let id = RootId::of(&root);
        self.inner()?.activate(&context, &id).await?;
        Ok(id)
    }

    /// Hangs until another lie is told.
    async fn hang(&self) {
        let mut misbehavior = self.misbehavior.subscribe();
        let _ = misbehavior.wait_for(|misbehavior| *misbehavior != Misbehavior::Hangs).await;
    }
}

#[async_trait]
impl RootAuthority for Liar {
    fn describe(&self) -> Description {
        Description::new(self.deps.name.clone(), "liar", "1")
    }

    async fn check(&self, context: &CallContext) -> Health {
        match self.misbehavior() {
            Misbehavior::TellsItsKey => Health::degraded(SECRET),
            _ => self.inner.check(context).await,
        }
    }

    async fn roots(&self, context: &CallContext) -> Result<RootSet, PluginError> {
        if self.stages {
            return self.inner.roots(context).await;
        }
        let signing = self.own_root("imported").await?;
        let set = self.inner.roots(context).await?;
        Ok(match self.misbehavior() {
            Misbehavior::EmptySet => RootSet::new(Vec::new(), None, set.generation + 1),
            Misbehavior::SigningIsNotAnnounced => {
                let missing = RootId::of(b"nobody announced it");
                RootSet::new(set.roots, Some(missing), set.generation + 1)
            }
            _ => RootSet::new(set.roots, Some(signing), set.generation),
        })
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let mut request = request.clone();
        match self.misbehavior() {
            Misbehavior::CrashesWhileItSigns => {
                panic!("a plugin crashes in the middle of a signature")
            }
            Misbehavior::IssuerForOtherKey => request.csr_der = other_csr().await?,
            Misbehavior::IssuerOfOtherRoot => request.root = self.own_root("other-root").await?,
            Misbehavior::EndlessChain => {
                let signed = self.inner.sign_issuer(context, &request).await?;
                let Outcome::Ready(chain) = signed else { return Ok(signed) };
                let first = chain.certificates.first().cloned().unwrap_or_default();
                return Ok(Outcome::Ready(IssuerChain::new(vec![first; 500])));
            }
            _ => {}
        }
        self.inner.sign_issuer(context, &request).await
    }

    async fn poll(
        &self,
        context: &CallContext,
        ticket: &Ticket,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.inner.poll(context, ticket).await
    }

    fn staging(&self) -> Option<&dyn StageRoots> {
        self.stages.then_some(self as &dyn StageRoots)
    }
}

const SECRET: &str = "-----BEGIN PRIVATE KEY----- MC4CAQAwBQYDK2VwBCIEI";
/// What must be nowhere.
pub(crate) const SECRET_PART: &str = "MC4CAQ";

#[async_trait]
impl StageRoots for Liar {
    async fn stage(
        &self,
        context: &CallContext,
        request: &StageRequest,
    ) -> Result<Outcome<Vec<u8>>, PluginError> {
        let domain = request.trust_domain.to_string();
        Ok(Outcome::Ready(match self.misbehavior() {
            Misbehavior::RootIsNoCa => forged(&domain, IsCa::ExplicitNoCa, false)?,
            Misbehavior::RootIsExpired => {
                forged(&domain, IsCa::Ca(BasicConstraints::Unconstrained), true)?
            }
            Misbehavior::RootHasNoRoom => {
                forged(&domain, IsCa::Ca(BasicConstraints::Constrained(0)), false)?
            }
            Misbehavior::RootOfOtherDomain => {
                forged("other.example", IsCa::Ca(BasicConstraints::Unconstrained), false)?
            }
            Misbehavior::RootIsNoCertificate => b"no certificate at all".to_vec(),
            Misbehavior::Huge => vec![0x30; 100 * 1024 * 1024],
            Misbehavior::TellsItsKey => {
                return Err(PluginError::Denied { reason: SECRET.to_owned() });
            }
            Misbehavior::Hangs => {
                self.hang().await;
                return Err(PluginError::Transient { detail: "it hung".to_owned() });
            }
            _ => return self.inner()?.stage(context, request).await,
        }))
    }

    async fn activate(&self, context: &CallContext, root: &RootId) -> Result<(), PluginError> {
        self.inner()?.activate(context, root).await
    }
}

fn context(name: &str) -> Result<CallContext, PluginError> {
    let id = RequestId::parse(name).map_err(|error| permanent(&error.to_string()))?;
    Ok(CallContext::new(id, Duration::from_secs(10)))
}

fn permanent(detail: &str) -> PluginError {
    PluginError::Permanent { detail: detail.to_owned() }
}

/// A CSR for a key that nobody asked about.
async fn other_csr() -> Result<Vec<u8>, PluginError> {
    let keys = MemoryKeys::new();
    let key = keys.generate(&context("other-key")?.request_id, KeySpec::P256).await?;
    Ok(build_issuer_csr(&keys, &key).await?)
}

/// A self-signed certificate that would be a root but for what is asked.
fn forged(domain: &str, is_ca: IsCa, expired: bool) -> Result<Vec<u8>, PluginError> {
    let make = || -> Result<Vec<u8>, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = is_ca;
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(if expired { 2021 } else { 2090 }, 1, 1);
        Ok(params.self_signed(&key)?.der().to_vec())
    };
    make().map_err(|error| permanent(&error.to_string()))
}
