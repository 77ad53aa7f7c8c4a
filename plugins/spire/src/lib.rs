//! The root authority of a SPIRE server: this CA is a downstream CA below it, in the same trust domain.
//!
//! The server is asked with an X509-SVID of an entry that is marked as downstream. The SVID comes from the Workload API
//! of a SPIRE agent, or from files that somebody keeps fresh, and is read anew for each call.
//!
//! SPIRE never says which of its authorities signs. So that is found out by use: a look asks for an intermediate of one
//! minute for a key that was thrown away before the first call, and takes the root that the answer chains to. One look
//! tells the whole set of roots too.
//!
//! What SPIRE decides: names and path length of the intermediate (it has none, so others could stand below it), and how
//! long its own authority lasts. An intermediate that would be shorter than asked is refused here, with the setting of
//! the server that makes it longer. Others issue under the same roots, so the authority is never exclusive.
//!
//! Start at [`SpireAuthority`]; [`SpirePlugin`] lists it in a registry as `spire`.

mod channel;
mod config;
mod identity;
mod server;
mod workload_api;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plugins::ca_certificate::build_issuer_csr;
use plugins::memory::MemoryKeys;
use plugins::{
    Announcement, Answering, AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem,
    Description, Health, IssuerChain, IssuerRequest, JudgedIssuer, KeyBackend as _, KeySpec,
    LookEvery, Outcome, PluginError, RequestId, RootAuthority, RootSet, Ticket, Unsafe, WatchRoots,
    watch_by_looking,
};
use tokio::sync::OnceCell;
use trust::{Root, RootId};

use config::Settings;
use server::{Downstream, new_downstream_ca};

/// How long the intermediate of a look lasts; its key is gone already.
const LOOK_TTL_SECS: i32 = 60;
/// Asked for beyond what the caller wants, for clocks that differ and the time that the answer takes.
const TTL_MARGIN: Duration = Duration::from_secs(300);

/// An authority that is a SPIRE server.
#[derive(Debug)]
pub struct SpireAuthority {
    deps: AuthorityDeps,
    settings: Settings,
    /// A CSR whose key nobody has.
    answering: Answering,
    look_csr: OnceCell<Vec<u8>>,
}

/// Lists [`SpireAuthority`] in a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpirePlugin;

impl SpireAuthority {
    /// Asks the server which roots there are, and which signs.
    async fn look(&self, within: Duration) -> Result<Downstream, PluginError> {
        let csr = self.look_csr.get_or_try_init(csr_without_key).await?;
        new_downstream_ca(&self.settings, &self.deps, csr.clone(), LOOK_TTL_SECS, within).await
    }

    /// Asks for an intermediate as it was requested, or says why it is not.
    async fn ask(
        &self,
        request: &IssuerRequest,
        within: Duration,
    ) -> Result<JudgedIssuer, PluginError> {
        let csr = request.verified_csr()?;
        let ttl = i32::try_from(request.ttl.saturating_add(TTL_MARGIN).as_secs())
            .map_err(|_| PluginError::denied("SPIRE signs nothing for longer than 68 years"))?;
        let needed = self.deps.clock.now().plus(request.ttl);
        let csr_der = request.csr_der.clone();
        let answer = new_downstream_ca(&self.settings, &self.deps, csr_der, ttl, within).await?;
        if !answer.signers.contains(&request.root) {
            let signs =
                answer.signers.first().map_or_else(|| "none that it announces".to_owned(), short);
            return Err(PluginError::denied(format!(
                "{} signs under root {signs} now, not under {}; `spire-server localauthority x509 show` prints its \
                 authorities, and one that is prepared signs after `spire-server localauthority x509 activate`",
                self.settings.server,
                short(&request.root)
            )));
        }
        if answer.ends < needed {
            let above = format!(
                "the authority of {} (for longer ones set `ca_ttl` in the server's configuration to at least twice \
                 root.issuer_lifetime, then prepare and activate a new authority with `spire-server localauthority x509`)",
                self.settings.server
            );
            return Err(PluginError::Outlives { above, ends: answer.ends });
        }
        let root = answer.roots.iter().find(|der| RootId::of(der) == request.root);
        let root = root
            .map(|der| Root::parse(der))
            .transpose()
            .map_err(|error| PluginError::denied(error.to_string()))?;
        let root = root.ok_or(Unsafe::UnknownRoot)?;
        let (chain, now) = (IssuerChain::new(answer.chain), self.deps.clock.now());
        Ok(JudgedIssuer::of_request(chain, request, csr.public_key(), &root, now)?)
    }
}

#[async_trait]
impl RootAuthority for SpireAuthority {
    fn describe(&self) -> Description {
        let described =
            Description::new(self.deps.name.clone(), "spire", env!("CARGO_PKG_VERSION"));
        described.shared().at(format!("the SPIRE server {}", self.settings.server))
    }

    async fn check(&self, context: &CallContext) -> Health {
        match self.look(context.deadline).await {
            Err(error) => Health::down(error.to_string()),
            Ok(answer) => Health::ok().until(answer.root_ends),
        }
    }

    async fn roots(&self, context: &CallContext) -> Result<RootSet, PluginError> {
        let look = async {
            let Downstream { roots, signers, .. } = self.look(context.deadline).await?;
            Ok(Announcement { roots, signing: signers.first().copied(), ..Announcement::default() })
        };
        self.answering.announce(look).await
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.answering.issuer(context, request, self.ask(request, context.deadline)).await
    }

    async fn poll(&self, _: &CallContext, _: &Ticket) -> Result<Outcome<IssuerChain>, PluginError> {
        self.answering.no_ticket()
    }

    fn watching(&self) -> Option<&dyn WatchRoots> {
        Some(self)
    }
}

#[async_trait]
impl WatchRoots for SpireAuthority {
    async fn changed(&self, seen: u64) -> Result<RootSet, PluginError> {
        let pause = self.settings.look_every;
        watch_by_looking(
            self,
            seen,
            LookEvery { pause, within: pause.max(Duration::from_secs(10)) },
        )
        .await
    }
}

impl AuthorityPlugin for SpirePlugin {
    fn name(&self) -> &'static str {
        "spire"
    }

    fn is_exclusive(&self, _: &toml::Table) -> bool {
        false
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        Settings::read(settings, std::path::Path::new("")).map(drop)
    }

    fn open(
        &self,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, Vec<ConfigProblem>> {
        let settings = Settings::read(settings, &deps.base)?;
        let (answering, look_csr) = (Answering::new(&deps), OnceCell::new());
        Ok(Arc::new(SpireAuthority { deps, settings, answering, look_csr }))
    }
}

/// A CSR whose key is gone when it is there.
async fn csr_without_key() -> Result<Vec<u8>, PluginError> {
    let keys = MemoryKeys::new();
    let name = RequestId::parse("look").map_err(|error| PluginError::denied(error.to_string()))?;
    let key = keys.generate(&name, KeySpec::P256).await?;
    Ok(build_issuer_csr(&keys, &key).await?)
}

fn short(root: &RootId) -> String {
    RootId::short(root).to_string()
}
