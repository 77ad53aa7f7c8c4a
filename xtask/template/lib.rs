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
    Announcement, Answering, AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem, Description, Health,
    IssuerChain, IssuerRequest, JudgedIssuer, Outcome, PluginError, RootAuthority, RootSet, Ticket,
};
use trust::RootId;

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
    /// One call at a time looks into the book of answers, asks, and writes what came of it.
    answering: Answering,
}

impl AcmeAuthority {
    /// Makes what is asked for, or says why not. What the caller would refuse is not remembered, so that the next try asks
    /// anew.
    async fn sign(&self, request: &IssuerRequest) -> Result<JudgedIssuer, PluginError> {
        let root = self.upstream.root().await?;
        if request.root != root.id() {
            let (own, asked) = (root.id().short(), RootId::short(&request.root));
            return Err(PluginError::denied(format!("the root is {own}, not {asked}")));
        }
        let csr = request.verified_csr()?;
        let (now, ends) = (self.deps.clock.now(), root.certificate().validity().not_after());
        if now.plus(request.ttl) > ends {
            return Err(PluginError::Outlives { above: format!("root {}", root.id().short()), ends });
        }
        let chain = self.upstream.sign(&root, csr.public_key(), request).await?;
        Ok(JudgedIssuer::of_request(chain, request, csr.public_key(), &root, now)?)
    }
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
        let look = async {
            let root = self.upstream.root().await?;
            let (roots, signing) = (vec![root.der().to_vec()], Some(root.id()));
            Ok(Announcement { roots, signing, ..Announcement::default() })
        };
        self.answering.announce(look).await
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.answering.issuer(context, request, self.sign(request)).await
    }

    async fn poll(&self, _: &CallContext, _: &Ticket) -> Result<Outcome<IssuerChain>, PluginError> {
        // FILL IN: if `sign_issuer` ever answers `Pending`, look the ticket up here.
        self.answering.no_ticket()
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
        let answering = Answering::new(&deps);
        Ok(Arc::new(AcmeAuthority { deps, upstream, answering }))
    }
}
