//! The root authority of a PKI secrets engine: OpenBao and Vault.
//!
//! The mount's default issuer signs (or the one that the settings name). It may be a root, or an intermediate whose
//! chain, root included, is in the mount. Each root that once signed is announced as long as its issuer is in the mount,
//! so whoever rotates the root there, by hand or by another program, finds old and new beside each other here.
//!
//! With `mint_roots` the authority makes new roots in the mount by itself, activates them by making them the default
//! issuer, and, where the mount is its own (`exclusive`), deletes their keys in the end. The keys never leave the server.
//!
//! From a CSR comes its public key and nothing else: names, path length and end are said in the request, and what comes
//! back is checked before it is kept. Tokens and secrets are read again at each use; a token is renewed before it ends,
//! and made anew by a login where there is one.
//!
//! | file | what |
//! |---|---|
//! | `config`, `credentials` | the settings; tokens, secrets and logins |
//! | `session`, `reply` | calls with a token that is good; what refusals mean |
//! | `mount` | the PKI engine's requests |
//! | `roots` | what is remembered of roots |
//! | `minting` | new roots, and the end of old ones |
//!
//! Start at [`VaultAuthority`]; [`VaultPlugin`] lists it in a registry as `vault`.

mod config;
mod credentials;
mod minting;
mod mount;
mod reply;
mod roots;
mod session;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plugins::answering::Turn;
use plugins::checks::IssuerExpectation;
use plugins::{
    Announcement, Answering, AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem,
    Description, Health, IssuerChain, IssuerRequest, JudgedIssuer, LookEvery, Outcome, PluginError,
    RetireRoots, RootAuthority, RootSet, StageRoots, Ticket, WatchRoots, watch_by_looking,
};
use trust::Serial;

use config::Settings;
use mount::{Issuer, Listed, Mount, Subject, Wanted};
use reply::misconfigured;
use roots::{Retired, Roots};
use session::Session;

/// How often the mount is looked at while somebody waits for a change.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What an issuer lasts beyond the time asked for, so that it still lasts that long when its answer is late.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// An authority whose roots are in a PKI secrets engine.
#[derive(Debug)]
pub struct VaultAuthority {
    deps: AuthorityDeps,
    settings: Settings,
    mount: Mount,
    /// Its turn is also the one to change what is remembered of roots.
    answering: Answering,
}

/// Lists [`VaultAuthority`] in a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct VaultPlugin;

/// What the mount holds now, and what is announced of it.
struct Present {
    listed: Vec<Listed>,
    /// The issuer that signs by default in the mount.
    signing: Option<Issuer>,
    roots: Roots,
    set: RootSet,
}

impl Present {
    fn holds(&self, issuer: &str) -> bool {
        self.listed.iter().any(|listed| listed.id == issuer)
    }
}

impl VaultAuthority {
    /// The mount's issuers, and a reference to the one that signs.
    async fn issuers(
        &self,
        within: Duration,
    ) -> Result<(Vec<Listed>, Option<String>), PluginError> {
        let listed = self.mount.list(within).await?;
        let default =
            listed.iter().find(|listed| listed.is_default).map(|listed| listed.id.clone());
        let reference = self.settings.issuer.clone().or(default);
        Ok((listed, reference))
    }

    /// Reads the mount, and writes down what is new.
    async fn present(&self, turn: &Turn<'_>, within: Duration) -> Result<Present, PluginError> {
        let state = self.deps.state.as_ref();
        let (listed, reference) = self.issuers(within).await?;
        let mut roots = Roots::load(state).await?;
        let named =
            |id: &String| listed.iter().any(|one| one.id == *id && roots.unfinished(&one.name));
        let signing = match reference.filter(|id| !named(id)) {
            Some(reference) => Some(self.mount.issuer(&reference, within).await?),
            None => None,
        };
        if signing.as_ref().is_some_and(|issuer| roots.learn(issuer)) {
            roots.store(state).await?;
        }
        let living = roots.living(|issuer| listed.iter().any(|listed| listed.id == issuer))?;
        if living.is_empty()
            && !(self.settings.mint_roots && turn.announced().await?.roots.is_empty())
        {
            return Err(self.no_issuer());
        }
        let signs = |issuer: &&Issuer| {
            roots
                .get(&issuer.root.id())
                .is_some_and(|known| !known.waits && known.retired == Retired::No)
        };
        let root = signing.as_ref().filter(signs).map(|issuer| issuer.root.id());
        let above = signing.as_ref().filter(|issuer| Some(issuer.root.id()) == root);
        let above = above
            .map(|issuer| issuer.chain.iter().map(|one| one.der().to_vec()).collect::<Vec<_>>());
        let found = Announcement { roots: living, signing: root, above, ..Announcement::default() };
        let set = turn.announce(&found).await?;
        Ok(Present { listed, signing, roots, set })
    }

    async fn sign(
        &self,
        turn: &Turn<'_>,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<JudgedIssuer, PluginError> {
        let csr = request.verified_csr()?;
        let present = self.present(turn, context.deadline).await?;
        let known = present.roots.get(&request.root).filter(|known| known.retired == Retired::No);
        let Some(known) = known.filter(|known| present.holds(&known.issuer)) else {
            let (path, root) = (self.mount.path(), request.root.short());
            return Err(PluginError::denied(format!(
                "no issuer of {path} stands for root {root}; ask for one that is announced"
            )));
        };
        let issuer = self.mount.issuer(&known.issuer, context.deadline).await?;
        let covers_until = self.deps.clock.now().plus(request.ttl);
        if issuer.not_after() < covers_until {
            let above = format!("the issuer {} in {}", issuer.id, self.mount.path());
            return Err(PluginError::Outlives { above, ends: issuer.not_after() });
        }
        let not_after = covers_until.plus(ANSWER_TIME).min(issuer.not_after());
        let subject = Subject {
            common_name: format!("Banyan issuer {}", Serial::random(self.deps.randomness.as_ref())),
            trust_domain: &request.trust_domain,
            not_after,
        };
        let wanted =
            Wanted { csr_der: &request.csr_der, path_len: request.path_len, subject: &subject };
        let signed = self.mount.sign(&issuer, &wanted, context.deadline).await?;
        let above = issuer.chain.iter().map(|certificate| certificate.der().to_vec());
        let chain = IssuerChain::new([signed].into_iter().chain(above).collect());
        let expected = IssuerExpectation {
            key: csr.public_key(),
            trust_domain: &request.trust_domain,
            root: request.root,
            path_len: request.path_len,
            now: self.deps.clock.now(),
            covers_until,
            announced: std::slice::from_ref(&issuer.root),
            retired: &BTreeSet::new(),
        };
        Ok(JudgedIssuer::new(chain, &expected)?)
    }

    async fn health(&self, within: Duration) -> Result<Health, PluginError> {
        if let Some(why) = self.mount.session().unfit(within).await? {
            return Ok(Health::down(why));
        }
        let (_, reference) = self.issuers(within).await?;
        let Some(reference) = reference else {
            return match self.settings.mint_roots {
                true => Ok(Health::degraded(format!(
                    "{} has no issuer yet; a rotation makes one",
                    self.mount.path()
                ))),
                false => Err(self.no_issuer()),
            };
        };
        let ends = self.mount.issuer(&reference, within).await?.not_after();
        if ends <= self.deps.clock.now() {
            return Ok(Health::down(format!(
                "the issuer in {} ended at {ends}",
                self.mount.path()
            ))
            .until(Some(ends)));
        }
        match self.mount.session().token_end().await {
            Some(token) if token.soon => {
                let place = self.mount.session().place();
                let detail = format!(
                    "{place} ends at {} and cannot be renewed; put a new one there",
                    token.at
                );
                Ok(Health::degraded(detail).until(Some(ends.min(token.at))))
            }
            Some(token) => Ok(Health::ok().until(Some(ends.min(token.at)))),
            None => Ok(Health::ok().until(Some(ends))),
        }
    }

    fn no_issuer(&self) -> PluginError {
        let detail = format!(
            "{} has no issuer that signs; make or import a root there and make it the default, or set mint_roots",
            self.mount.path()
        );
        misconfigured("mount", &detail)
    }
}

#[async_trait]
impl RootAuthority for VaultAuthority {
    fn describe(&self) -> Description {
        let described =
            Description::new(self.deps.name.clone(), "vault", env!("CARGO_PKG_VERSION"));
        let described = described.at(self.mount.path());
        if self.settings.exclusive { described } else { described.shared() }
    }

    async fn check(&self, context: &CallContext) -> Health {
        self.health(context.deadline).await.unwrap_or_else(|error| Health::down(error.to_string()))
    }

    async fn roots(&self, context: &CallContext) -> Result<RootSet, PluginError> {
        let turn = self.answering.turn().await;
        Ok(self.present(&turn, context.deadline).await?.set)
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        let turn = self.answering.turn().await;
        turn.issuer(context, request, self.sign(&turn, context, request)).await
    }

    async fn poll(&self, _: &CallContext, _: &Ticket) -> Result<Outcome<IssuerChain>, PluginError> {
        self.answering.no_ticket()
    }

    fn staging(&self) -> Option<&dyn StageRoots> {
        self.settings.mint_roots.then_some(self)
    }

    fn watching(&self) -> Option<&dyn WatchRoots> {
        Some(self)
    }

    fn retiring(&self) -> Option<&dyn RetireRoots> {
        (self.settings.mint_roots && self.settings.exclusive).then_some(self)
    }
}

#[async_trait]
impl WatchRoots for VaultAuthority {
    async fn changed(&self, seen: u64) -> Result<RootSet, PluginError> {
        watch_by_looking(self, seen, LookEvery { pause: LOOK_EVERY, within: LOOK_EVERY * 2 }).await
    }
}

impl AuthorityPlugin for VaultPlugin {
    fn name(&self) -> &'static str {
        "vault"
    }

    fn is_exclusive(&self, settings: &toml::Table) -> bool {
        plugins::says_exclusive(settings).unwrap_or(false)
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
        let session = Session::new(&settings, Arc::clone(&deps.clock));
        let mount = Mount::new(session, &settings.mount);
        let answering = Answering::new(&deps);
        Ok(Arc::new(VaultAuthority { deps, settings, mount, answering }))
    }
}
