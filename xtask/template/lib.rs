//! A root authority: Acme.
//!
//! FILL IN: what Acme is, what it is not, where its root's key lies, and who else issues under its root.
//!
//! Start at [`AcmePlugin`], which lists it in a registry as `acme`.

mod config;
mod upstream;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use plugins::{
    AnswerBook, AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem, Description, Health, IssuerChain,
    IssuerRequest, JudgedIssuer, Outcome, PluginError, RootAuthority, RootSet, Ticket,
};
use tokio::sync::Mutex;
use trust::RootId;
use trust::csr::ParsedCsr;

use config::Settings;
use upstream::Upstream;

/// Lists [`AcmeAuthority`] in a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcmePlugin;

/// A CA at Acme.
#[derive(Debug)]
pub struct AcmeAuthority {
    deps: AuthorityDeps,
    upstream: Upstream,
    /// One call at a time looks into the book, asks, and writes what came of it.
    turn: Mutex<()>,
}

#[async_trait]
impl RootAuthority for AcmeAuthority {
    fn describe(&self) -> Description {
        // FILL IN: leave `.shared()` away only if nobody but this CA issues under the root, so that its own ledger knows
        // every leaf.
        Description::new(self.deps.name.clone(), "acme", env!("CARGO_PKG_VERSION")).shared()
    }

    async fn check(&self, _context: &CallContext) -> Health {
        match self.upstream.root().await {
            Ok(root) => Health::ok().until(Some(root.certificate().validity().not_after())),
            Err(error) => Health::down(error.to_string()),
        }
    }

    async fn roots(&self, _context: &CallContext) -> Result<RootSet, PluginError> {
        let _turn = self.turn.lock().await;
        let root = self.upstream.root().await?;
        let mut book = AnswerBook::load(self.deps.state.as_ref()).await?;
        if book.announce(&[root.der().to_vec()], Some(root.id())) {
            book.store(self.deps.state.as_ref()).await?;
        }
        Ok(book.roots())
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let _turn = self.turn.lock().await;
        let mut book = AnswerBook::load(self.deps.state.as_ref()).await?;
        if let Some(chain) = book.answered(&context.request_id, request)? {
            return Ok(Outcome::Ready(chain));
        }
        if request.trust_domain != self.deps.trust_domain {
            return Err(denied(format!("this authority stands for {}", self.deps.trust_domain)));
        }
        let root = self.upstream.root().await?;
        if request.root != root.id() {
            let (own, asked) = (root.id().short(), RootId::short(&request.root));
            return Err(denied(format!("the root is {own}, not {asked}")));
        }
        let csr = ParsedCsr::from_der(&request.csr_der).and_then(ParsedCsr::verify);
        let csr = csr.map_err(|error| denied(format!("the CSR is refused: {error}")))?;
        let (now, ends) = (self.deps.clock.now(), root.certificate().validity().not_after());
        if now.plus(request.ttl) > ends {
            return Err(PluginError::Outlives { above: format!("root {}", root.id().short()), ends });
        }
        let chain = self.upstream.sign(&root, csr.public_key(), request).await?;
        // What the caller would refuse is not remembered, so that the next try asks anew.
        let judged = JudgedIssuer::of_request(chain, (request, csr.public_key()), &root, now)?;
        book.remember((&context.request_id, request), &judged, now);
        book.store(self.deps.state.as_ref()).await?;
        Ok(Outcome::Ready(judged.into_chain()))
    }

    async fn poll(
        &self,
        _context: &CallContext,
        _ticket: &Ticket,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        // FILL IN: if `sign_issuer` ever answers `Pending`, look the ticket up here.
        Err(denied("this authority answers at once and never gave a ticket; ask for the issuer again".to_owned()))
    }
}

impl AuthorityPlugin for AcmePlugin {
    fn name(&self) -> &'static str {
        "acme"
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
        let upstream = Upstream::new(settings, &deps);
        Ok(Arc::new(AcmeAuthority { deps, upstream, turn: Mutex::new(()) }))
    }
}

fn denied(reason: String) -> PluginError {
    PluginError::Denied { reason }
}
