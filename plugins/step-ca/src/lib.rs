//! The root authority of a step-ca: intermediates by a JWK provisioner whose template allows CA certificates.
//!
//! | asked of it | by |
//! |---|---|
//! | roots, and which of them signs | `GET /1.0/roots` and `/1.0/intermediates` |
//! | an issuer | `POST /1.0/sign`, with a token that the provisioner's key signed |
//! | health | `GET /health`, and the two above |
//!
//! The step-ca's template makes the issuer; what it must say is in `docs/plugins/step-ca.md`. Every answer is checked
//! here as the caller will check it, so that a template that is wrong is told as what to change in it.
//!
//! A step-ca certifies others too, so the authority is not exclusive unless its settings say so. It has no idea of
//! request ids: what was answered is remembered here and answered again, but an answer that was lost on its way leaves
//! an intermediate in the step-ca's records that nobody has.
//!
//! Start at [`StepCaAuthority`]; [`StepCaPlugin`] lists it in a registry as `step-ca`.

mod config;
mod present;
mod server;
mod token;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plugins::checks::{Fault, IssuerExpectation, Which};
use plugins::{
    Announcement, Answering, AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem,
    Description, Health, IssuerChain, IssuerRequest, JudgedIssuer, Outcome, PluginError,
    RootAuthority, RootSet, Ticket, Unsafe,
};
use trust::{Certificate, Timestamp};
use zeroize::Zeroizing;

use config::Settings;
use present::Present;
use server::{SignRequest, StepCa};
use token::{Claims, ProvisionerKey};

/// How far before now an issuer starts, so that peers whose clocks are behind take it at once.
const BACKDATE: Duration = Duration::from_secs(60);
/// Where an operator reads what the template must be.
const TEMPLATE: &str = "give the provisioner the template in docs/plugins/step-ca.md";

/// An authority that is a step-ca.
#[derive(Debug)]
pub struct StepCaAuthority {
    deps: AuthorityDeps,
    settings: Settings,
    answering: Answering,
    step: StepCa,
}

/// Lists [`StepCaAuthority`] in a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepCaPlugin;

impl StepCaAuthority {
    /// Reads the provisioner's key; for each request, so that a new one counts at once.
    async fn key(&self) -> Result<ProvisionerKey, PluginError> {
        let (path, id) = (self.settings.key_file.clone(), self.settings.key_id.clone());
        let shown = path.display().to_string();
        let wrong = |problem: String| PluginError::Misconfigured {
            field: "key_file".to_owned(),
            detail: format!("{shown} {problem}"),
        };
        let read = tokio::task::spawn_blocking(move || {
            let contents = std::fs::read(path).map(Zeroizing::new);
            let contents = contents.map_err(|error| format!("cannot be read: {error}"))?;
            ProvisionerKey::parse(&contents, id.as_deref())
        });
        let read =
            read.await.map_err(|error| PluginError::Transient { detail: error.to_string() })?;
        read.map_err(wrong)
    }

    async fn signed(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<JudgedIssuer, PluginError> {
        let csr = request.verified_csr()?;
        let now = self.deps.clock.now();
        let not_after = now.plus(request.ttl);
        let present = self.step.present(context.deadline).await?;
        self.fits(request, &present, not_after)?;
        let key = self.key().await?;
        let names = [format!("spiffe://{}", request.trust_domain)];
        let audience = self.step.audience();
        let claims = Claims {
            issuer: &self.settings.provisioner,
            audience: &audience,
            subject: csr.names().common_name.as_deref().unwrap_or("Banyan issuer"),
            sans: &names,
        };
        let asked = SignRequest {
            csr_der: &request.csr_der,
            token: key.token(&claims, now, self.deps.randomness.as_ref())?,
            not_before: now.minus(BACKDATE),
            not_after,
        };
        let signed = self.step.sign(&asked, context.deadline).await;
        let mut chain = signed.map_err(|error| with_key_id(error, key.id()))?;
        chain.retain(|certificate| {
            !present.roots().iter().any(|root| root.der() == certificate.der())
        });
        let [issuer, ..] = chain.as_slice() else {
            return Err(Unsafe::ChainLength { count: 0 }.into());
        };
        named_after(issuer, &names)?;
        let answer =
            IssuerChain::new(chain.iter().map(|certificate| certificate.der().to_vec()).collect());
        let expected = IssuerExpectation {
            key: csr.public_key(),
            trust_domain: &request.trust_domain,
            root: request.root,
            path_len: request.path_len,
            now,
            covers_until: not_after,
            announced: present.roots(),
            retired: &BTreeSet::new(),
        };
        JudgedIssuer::new(answer, &expected).map_err(advised)
    }

    /// Whether the step-ca, as it stands, can give what is asked.
    fn fits(
        &self,
        request: &IssuerRequest,
        present: &Present,
        not_after: Timestamp,
    ) -> Result<(), PluginError> {
        let address = &self.settings.address;
        if present.signing() != request.root {
            return Err(PluginError::denied(format!(
                "{address} signs under root {}, not under {}",
                present.signing().short(),
                request.root.short()
            )));
        }
        present.has_room(request.path_len).map_err(PluginError::denied)?;
        if not_after > present.valid_until() {
            let above = format!("the chain of {address}");
            return Err(PluginError::Outlives { above, ends: present.valid_until() });
        }
        Ok(())
    }

    async fn well(&self, context: &CallContext) -> Result<Health, PluginError> {
        self.step.health(context.deadline).await?;
        self.key().await?;
        let present = self.step.present(context.deadline).await?;
        let until = present.valid_until();
        let health = match present.has_room(0) {
            Err(problem) => Health::down(problem),
            Ok(()) if until <= self.deps.clock.now() => Health::down(format!(
                "the certificates of {} ended at {until}",
                self.settings.address
            )),
            Ok(()) => Health::ok(),
        };
        Ok(health.until(Some(until)))
    }
}

#[async_trait]
impl RootAuthority for StepCaAuthority {
    fn describe(&self) -> Description {
        let described =
            Description::new(self.deps.name.clone(), "step-ca", env!("CARGO_PKG_VERSION"));
        let described = described.at(format!("the step-ca {}", self.settings.address));
        if self.settings.exclusive { described } else { described.shared() }
    }

    async fn check(&self, context: &CallContext) -> Health {
        self.well(context).await.unwrap_or_else(|error| Health::down(error.to_string()))
    }

    async fn roots(&self, context: &CallContext) -> Result<RootSet, PluginError> {
        let look = async {
            let present = self.step.present(context.deadline).await?;
            let (roots, above) = (present.root_ders(), Some(present.chain_ders()));
            let signing = Some(present.signing());
            Ok(Announcement { roots, signing, above, ..Announcement::default() })
        };
        self.answering.announce(look).await
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.answering.issuer(context, request, self.signed(context, request)).await
    }

    async fn poll(&self, _: &CallContext, _: &Ticket) -> Result<Outcome<IssuerChain>, PluginError> {
        self.answering.no_ticket()
    }
}

impl AuthorityPlugin for StepCaPlugin {
    fn name(&self) -> &'static str {
        "step-ca"
    }

    fn is_exclusive(&self, settings: &toml::Table) -> bool {
        plugins::says_exclusive(settings).unwrap_or(false)
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        Settings::read(settings, Path::new("")).map(drop)
    }

    fn open(
        &self,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, Vec<ConfigProblem>> {
        let settings = Settings::read(settings, &deps.base)?;
        let (answering, step) = (Answering::new(&deps), StepCa::of(&settings));
        Ok(Arc::new(StepCaAuthority { deps, settings, answering, step }))
    }
}

/// The issuer carries the trust domain's name and no other.
fn named_after(issuer: &Certificate, names: &[String]) -> Result<(), PluginError> {
    let found = issuer.names();
    if found.uris == names && found.dns.is_empty() && found.ips.is_empty() && found.others == 0 {
        return Ok(());
    }
    let wanted = names.join(", ");
    Err(PluginError::denied(format!(
        "the issuer's names are not {wanted} alone, but {:?}; {TEMPLATE}",
        found.uris
    )))
}

/// What a template or a life of the step-ca's makes wrong is told with what to change; anything else is not safe.
fn advised(problem: Unsafe) -> PluginError {
    match problem {
        Unsafe::Certificate {
            which: Which::Issuer,
            fault:
                Fault::NotCa
                | Fault::ConstraintsNotCritical
                | Fault::NoCertSign
                | Fault::ExtendedKeyUsage
                | Fault::PathLength { .. }
                | Fault::NoSubjectKeyId
                | Fault::CriticalExtension(_)
                | Fault::UriNameConstraints,
        } => PluginError::denied(format!("{problem}; {TEMPLATE}")),
        Unsafe::Certificate { fault: Fault::EndsTooEarly { .. }, .. } => {
            PluginError::denied(format!(
                "{problem}; take notAfter out of the template, and give the step-ca certificates that last longer"
            ))
        }
        problem => problem.into(),
    }
}

/// A refusal, with what an operator compares with the provisioner in ca.json.
fn with_key_id(error: PluginError, key_id: &str) -> PluginError {
    match error {
        PluginError::Denied { reason } => {
            PluginError::denied(format!("{reason}; the token names the key id {key_id}"))
        }
        error => error,
    }
}
