//! The authority itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use plugins::checks::IssuerExpectation;
use plugins::memory::MemoryKeys;
use plugins::{
    Announcement, Answering, AuthorityDeps, CallContext, Description, Health, IssuerChain,
    IssuerRequest, JudgedIssuer, KeyBackend as _, KeySpec, Outcome, PluginError, RequestId,
    RootAuthority, RootSet, Ticket, WithdrawRequests, ca_certificate,
};
use serde_json::Value;
use tokio::time::Instant;
use trust::digest::sha256;
use trust::{Certificate, Root};

use crate::cluster::Requests;
use crate::config::Settings;
use crate::look::{Present, self_signed};
use crate::object::{self, ISSUER, LOOK, Standing, Wanted};
use crate::ticket;

/// How long a call waits for cert-manager before it gives out a ticket, or tells what was seen before.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks meanwhile.
const EVERY: Duration = Duration::from_millis(200);
/// When a caller asks again for what waits.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Longest wait for one answer of the cluster.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Life of the certificates by which it is looked who signs.
const LOOK_LIFE: Duration = Duration::from_secs(3_600);
/// How far the clocks of the cluster and this server may be apart.
const CLOCKS: Duration = Duration::from_secs(60);

/// An authority that is an issuer of cert-manager.
#[derive(Debug)]
pub struct CertManagerAuthority {
    deps: AuthorityDeps,
    settings: Settings,
    answering: Answering,
    requests: Requests,
}

/// What is there of looks.
#[derive(Default)]
struct Looks {
    /// The last one that was signed.
    present: Option<Seen>,
    /// Why a later one is not.
    waits: Option<String>,
    over: Option<String>,
}

/// What a look showed.
struct Seen {
    present: Present,
    /// Every root that counts.
    roots: Vec<Root>,
}

impl CertManagerAuthority {
    pub(crate) fn new(settings: Settings, deps: AuthorityDeps) -> Self {
        let requests = Requests::of(&settings, Arc::clone(&deps.clock));
        let answering = Answering::new(&deps);
        Self { deps, settings, answering, requests }
    }

    /// Whose requests these are, among those of other CAs and authorities in the namespace.
    fn owner(&self) -> String {
        digits(&format!("{} {}", self.deps.trust_domain, self.deps.name))
    }

    /// Under what the issuer signs, as far as it was seen lately: it is looked again when the last look is too old.
    async fn present(&self, within: Duration) -> Result<Seen, PluginError> {
        let owner = self.owner();
        let every = i64::try_from(self.settings.look_every.as_secs()).unwrap_or(i64::MAX);
        let slot = self.deps.clock.now().as_secs().div_euclid(every.max(1));
        let name = format!("banyan-look-{owner}-{slot}");
        let each = within.min(ANSWER_WITHIN);
        let mut all = self.requests.labelled([LOOK, &owner], each).await?;
        if !all.iter().any(|one| object::name(one) == name) {
            let csr_pem = csr_of_nobody().await?;
            let wanted = Wanted {
                name: &name,
                csr_pem: &csr_pem,
                life: LOOK_LIFE,
                is_ca: false,
                label: [LOOK, &owner],
                asked: "",
                request: "",
            };
            self.requests.make(&wanted.object(&self.settings), each).await?;
        }
        let made = self.settled(&name, within).await?;
        all.retain(|one| object::name(one) != name);
        all.sort_by_key(object::made_at);
        let looks = self.looks(all.iter().chain(made.as_ref())).await?;
        self.tidy(&all, made.as_ref(), each).await;
        match looks {
            Looks { present: Some(seen), .. } => Ok(seen),
            Looks { over: Some(why), .. } => Err(PluginError::denied(why)),
            Looks { waits: Some(detail), .. } => Err(PluginError::Transient { detail }),
            Looks { .. } => {
                let detail = format!("the CertificateRequest {name} was deleted");
                Err(PluginError::Transient { detail })
            }
        }
    }

    /// Deletes looks that a later one has made useless, and one that got nothing, so that it is asked for anew.
    async fn tidy(&self, former: &[Value], last: Option<&Value>, within: Duration) {
        let is = |one: &Value, wanted: fn(&Standing) -> bool| {
            object::standing(one).is_ok_and(|standing| wanted(&standing))
        };
        let issued = |one: &Value| is(one, |standing| matches!(standing, Standing::Issued { .. }));
        let over = |one: &Value| is(one, |standing| matches!(standing, Standing::Over(_)));
        // The last one that was signed is kept until there is a later one.
        let kept = match last.is_some_and(issued) {
            true => None,
            false => former.iter().rev().find(|one| issued(one)).map(object::name),
        };
        let useless = former.iter().filter(|one| Some(object::name(one)) != kept);
        for one in useless.chain(last.filter(|one| over(one))) {
            // It is tried again at the next look.
            let _ = self.requests.delete(object::name(one), within).await;
        }
    }

    /// What looks show, of which the last ones come last.
    async fn looks<'v>(&self, all: impl Iterator<Item = &'v Value>) -> Result<Looks, PluginError> {
        let pinned = self.pinned().await?;
        let mut looks = Looks::default();
        for one in all {
            let told = |why: String| {
                let Settings { namespace, .. } = &self.settings;
                let issuer = self.settings.issuer();
                format!("CertificateRequest {namespace}/{} for {issuer}: {why}", object::name(one))
            };
            match object::standing(one) {
                Ok(Standing::Issued { chain, ca }) => {
                    let candidates = match &pinned {
                        Some(pinned) => pinned.clone(),
                        None => self_signed(ca.into_iter().chain(chain.clone()).collect()),
                    };
                    let present = Present::of(&chain, &candidates)?;
                    let roots = match &pinned {
                        Some(pinned) => roots(pinned)?,
                        None => vec![present.root().clone()],
                    };
                    looks = Looks { present: Some(Seen { present, roots }), ..Looks::default() };
                }
                Ok(Standing::Over(why)) => looks.over = Some(told(why)),
                Ok(Standing::Waits(why)) => looks.waits = Some(told(why)),
                Err(why) => return Err(PluginError::Permanent { detail: told(why) }),
            }
        }
        Ok(looks)
    }

    fn no_root(&self, detail: String) -> PluginError {
        PluginError::Misconfigured { field: "roots_file".to_owned(), detail }
    }

    /// The roots of the file, if one is set; read each time, so that a new one counts at once.
    async fn pinned(&self) -> Result<Option<Vec<Certificate>>, PluginError> {
        let Some(path) = self.settings.roots_file.clone() else { return Ok(None) };
        let wrong = |why: String| self.no_root(format!("{}: {why}", path.display()));
        let read = tokio::fs::read(&path).await.map_err(|error| wrong(error.to_string()))?;
        let found = object::pem_certificates(&read).map_err(wrong)?;
        match found.is_empty() {
            true => Err(wrong("it holds no certificate".to_owned())),
            false => Ok(Some(found)),
        }
    }

    /// A request, once it is signed or over; as it is when patience ends. None if it is gone.
    async fn settled(&self, name: &str, within: Duration) -> Result<Option<Value>, PluginError> {
        let until = Instant::now() + PATIENCE.min(within / 2);
        loop {
            let found = self.requests.find(name, within.min(ANSWER_WITHIN)).await?;
            let standing = found.as_ref().map(object::standing);
            let waits = matches!(standing, Some(Ok(Standing::Waits(_))));
            if !waits || Instant::now() >= until {
                return Ok(found);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn issuer_name(&self, id: &RequestId) -> String {
        format!("banyan-issuer-{}", digits(&format!("{} {id}", self.owner())))
    }

    /// The issuer; none while its request waits.
    async fn signed(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Option<JudgedIssuer>, PluginError> {
        let csr = request.verified_csr()?;
        let (within, name) = (context.deadline, self.issuer_name(&context.request_id));
        let each = within.min(ANSWER_WITHIN);
        let Seen { present, .. } = self.present(within / 2).await?;
        let fingerprint = request.fingerprint();
        let before = self.requests.find(&name, each).await?;
        if before.as_ref().is_some_and(|one| object::asked(one) != fingerprint) {
            return Err(PluginError::reused(&context.request_id));
        }
        if before.is_none() {
            self.fits(request, &present)?;
            let csr_pem =
                pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", request.csr_der.clone()));
            let wanted = Wanted {
                name: &name,
                csr_pem: &csr_pem,
                life: request.ttl,
                is_ca: true,
                label: [ISSUER, &self.owner()],
                asked: &fingerprint,
                request: context.request_id.as_str(),
            };
            self.requests.make(&wanted.object(&self.settings), each).await?;
        }
        let Some(made) = self.settled(&name, within / 2).await? else {
            let detail = format!("the CertificateRequest {name} was deleted");
            return Err(PluginError::Transient { detail });
        };
        let Settings { namespace, .. } = &self.settings;
        let told = |why: &dyn std::fmt::Display| {
            format!("CertificateRequest {namespace}/{name} for {}: {why}", self.settings.issuer())
        };
        let problem = match object::standing(&made) {
            Ok(Standing::Waits(_)) => return Ok(None),
            Ok(Standing::Issued { chain, .. }) => {
                let now = self.deps.clock.now();
                // cert-manager begins it at the second in which it signs, by another clock.
                let begins = chain.first().map(|one| one.validity().not_before());
                if begins.is_some_and(|begins| begins > now && begins <= now.plus(CLOCKS)) {
                    return Ok(None);
                }
                // It was asked for then, and may have waited for somebody.
                let asked_at = object::made_at(&made).map_or(now, |at| at.min(now));
                let chain = chain.iter().filter(|one| one.der() != present.root().der());
                let chain = chain.map(|one| one.der().to_vec()).collect();
                let expected = IssuerExpectation {
                    key: csr.public_key(),
                    trust_domain: &request.trust_domain,
                    root: request.root,
                    path_len: request.path_len,
                    now,
                    covers_until: asked_at.plus(request.ttl).minus(CLOCKS),
                    announced: std::slice::from_ref(present.root()),
                    retired: &std::collections::BTreeSet::new(),
                };
                match JudgedIssuer::new(IssuerChain::new(chain), &expected) {
                    Ok(judged) => return Ok(Some(judged)),
                    Err(problem) => problem.into(),
                }
            }
            Ok(Standing::Over(why)) => PluginError::denied(told(&why)),
            Err(why) => PluginError::Permanent { detail: told(&why) },
        };
        // What is mended counts at the next request, also under the same id.
        self.requests.delete(&name, each).await?;
        Err(problem)
    }

    /// Whether the issuer, as it stands, can give what is asked.
    fn fits(&self, request: &IssuerRequest, present: &Present) -> Result<(), PluginError> {
        let issuer = self.settings.issuer();
        if present.signing() != request.root {
            return Err(PluginError::denied(format!(
                "{issuer} signs under root {}, not under {}",
                present.signing().short(),
                request.root.short()
            )));
        }
        present.has_room(request.path_len).map_err(PluginError::denied)?;
        if self.deps.clock.now().plus(request.ttl) > present.valid_until() {
            let above = format!("the certificate of {issuer}");
            return Err(PluginError::Outlives { above, ends: present.valid_until() });
        }
        Ok(())
    }

    async fn answer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let waits = AtomicBool::new(false);
        let signed = async {
            let judged = self.signed(context, request).await?;
            judged.ok_or_else(|| {
                waits.store(true, Ordering::Relaxed);
                PluginError::Transient { detail: "it waits".to_owned() }
            })
        };
        let answer = self.answering.issuer(context, request, signed).await;
        match waits.into_inner() {
            true => {
                let ticket = ticket::of(&context.request_id, request);
                Ok(Outcome::Pending { ticket, retry_after: RETRY_AFTER })
            }
            false => answer,
        }
    }

    async fn well(&self, context: &CallContext) -> Result<Health, PluginError> {
        let within = context.deadline.min(ANSWER_WITHIN);
        let mut all = self.requests.labelled([LOOK, &self.owner()], within).await?;
        all.sort_by_key(object::made_at);
        let looks = self.looks(all.iter()).await?;
        let Some(Seen { present, .. }) = looks.present else {
            return Ok(match (looks.over, looks.waits) {
                (Some(why), _) => Health::down(why),
                (None, Some(why)) => Health::waiting(why),
                (None, None) => Health::ok().noted("it was not looked yet who signs"),
            });
        };
        let until = present.valid_until();
        let health = match (present.has_room(0), looks.over, looks.waits) {
            (Err(problem), ..) => Health::down(problem),
            _ if until <= self.deps.clock.now() => Health::down(format!(
                "the certificate of {} ended at {until}",
                self.settings.issuer()
            )),
            (_, Some(why), _) => Health::degraded(why),
            (_, None, Some(why)) => Health::waiting(why),
            (_, None, None) => Health::ok(),
        };
        Ok(health.until(Some(until)))
    }
}

#[async_trait]
impl RootAuthority for CertManagerAuthority {
    fn describe(&self) -> Description {
        let Settings { namespace, exclusive, .. } = &self.settings;
        let described =
            Description::new(self.deps.name.clone(), "cert-manager", env!("CARGO_PKG_VERSION"));
        let place = format!("cert-manager's {} in {namespace}", self.settings.issuer());
        let described = described.at(place);
        if *exclusive { described } else { described.shared() }
    }

    async fn check(&self, context: &CallContext) -> Health {
        self.well(context).await.unwrap_or_else(|error| Health::down(error.to_string()))
    }

    async fn roots(&self, context: &CallContext) -> Result<RootSet, PluginError> {
        let look = async {
            let Seen { present, roots } = self.present(context.deadline).await?;
            Ok(Announcement {
                roots: roots.iter().map(|root| root.der().to_vec()).collect(),
                signing: Some(present.signing()),
                above: Some(present.chain_ders()),
                ..Announcement::default()
            })
        };
        self.answering.announce(look).await
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.answer(context, request).await
    }

    async fn poll(
        &self,
        context: &CallContext,
        ticket: &Ticket,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let Some((id, request)) = ticket::read(ticket, &self.deps.trust_domain) else {
            return Err(PluginError::denied(
                "this ticket was never given: ask for the issuer again",
            ));
        };
        self.answer(&CallContext::new(id, context.deadline), &request).await
    }

    fn withdrawing(&self) -> Option<&dyn WithdrawRequests> {
        Some(self)
    }
}

#[async_trait]
impl WithdrawRequests for CertManagerAuthority {
    async fn open_requests(&self, context: &CallContext) -> Result<Vec<RequestId>, PluginError> {
        let within = context.deadline.min(ANSWER_WITHIN);
        let all = self.requests.labelled([ISSUER, &self.owner()], within).await?;
        let waits =
            all.iter().filter(|one| matches!(object::standing(one), Ok(Standing::Waits(_))));
        Ok(waits.filter_map(|one| RequestId::parse(object::request(one)).ok()).collect())
    }

    async fn withdraw(
        &self,
        context: &CallContext,
        request_id: &RequestId,
    ) -> Result<(), PluginError> {
        let (within, name) = (context.deadline.min(ANSWER_WITHIN), self.issuer_name(request_id));
        match self.requests.find(&name, within).await?.as_ref().map(object::standing) {
            Some(Ok(Standing::Waits(_))) => self.requests.delete(&name, within).await,
            _ => Ok(()),
        }
    }
}

fn roots(pinned: &[Certificate]) -> Result<Vec<Root>, PluginError> {
    let read = pinned.iter().cloned().map(Root::from_certificate).collect::<Result<_, _>>();
    read.map_err(|error| PluginError::Misconfigured {
        field: "roots_file".to_owned(),
        detail: format!("it holds a certificate that is no root: {error}"),
    })
}

/// A CSR for a key that is thrown away.
async fn csr_of_nobody() -> Result<String, PluginError> {
    let keys = MemoryKeys::new();
    let failed =
        |error: &dyn std::fmt::Display| PluginError::Transient { detail: error.to_string() };
    let id = RequestId::parse("look").map_err(|error| failed(&error))?;
    let key = keys.generate(&id, KeySpec::P256).await.map_err(|error| failed(&error))?;
    let csr =
        ca_certificate::build_issuer_csr(&keys, &key).await.map_err(|error| failed(&error))?;
    Ok(pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", csr)))
}

/// A short name that is the same for the same text.
fn digits(text: &str) -> String {
    sha256(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
