//! A root authority that can be away: `self-signed` behind a switch.

use std::sync::Arc;

use async_trait::async_trait;
use plugin_self_signed::SelfSignedPlugin;
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem, Description, Health, IssuerChain,
    IssuerRequest, Outcome, PluginError, RootAuthority, RootSet, StageRequest, StageRoots, Ticket,
};
use tokio::sync::watch;
use trust::RootId;

/// What an authority does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorityMode {
    /// It answers.
    Works,
    /// It never answers, until the switch is turned.
    Hangs,
    /// It answers with an error at once.
    Down,
    /// It works, but the roots that it makes are none: certificates that may sign nothing.
    Lies,
}

/// Turns an authority on and off, and counts how often issuers were asked for. Clones are the same switch; as a plugin it
/// takes the place of `self-signed`.
#[derive(Debug, Clone)]
pub struct AuthoritySwitch {
    mode: Arc<watch::Sender<AuthorityMode>>,
    asked: Arc<watch::Sender<u64>>,
}

impl AuthoritySwitch {
    /// A switch in a position.
    #[must_use]
    pub fn new(mode: AuthorityMode) -> Self {
        Self { mode: Arc::new(watch::Sender::new(mode)), asked: Arc::new(watch::Sender::new(0)) }
    }

    /// Turns it.
    pub fn turn(&self, mode: AuthorityMode) {
        self.mode.send_replace(mode);
    }

    /// How often an issuer was asked for.
    #[must_use]
    pub fn asked(&self) -> u64 {
        *self.asked.borrow()
    }

    async fn pass(&self) -> Result<(), PluginError> {
        let mut mode = self.mode.subscribe();
        let found = mode.wait_for(|mode| *mode != AuthorityMode::Hangs).await.map(|mode| *mode);
        match found {
            Ok(AuthorityMode::Works | AuthorityMode::Lies) => Ok(()),
            _ => Err(PluginError::Transient { detail: "the authority is down".to_owned() }),
        }
    }
}

#[derive(Debug)]
struct Switched {
    inner: Arc<dyn RootAuthority>,
    switch: AuthoritySwitch,
}

#[async_trait]
impl RootAuthority for Switched {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    async fn check(&self, context: &CallContext) -> Health {
        match self.switch.pass().await {
            Ok(()) => self.inner.check(context).await,
            Err(error) => Health::down(error.to_string()),
        }
    }

    async fn roots(&self, context: &CallContext) -> Result<RootSet, PluginError> {
        self.switch.pass().await?;
        self.inner.roots(context).await
    }

    async fn sign_issuer(
        &self,
        context: &CallContext,
        request: &IssuerRequest,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.switch.asked.send_modify(|asked| *asked += 1);
        self.switch.pass().await?;
        self.inner.sign_issuer(context, request).await
    }

    async fn poll(
        &self,
        context: &CallContext,
        ticket: &Ticket,
    ) -> Result<Outcome<IssuerChain>, PluginError> {
        self.switch.pass().await?;
        self.inner.poll(context, ticket).await
    }

    fn staging(&self) -> Option<&dyn StageRoots> {
        self.inner.staging().map(|_| self as &dyn StageRoots)
    }
}

#[async_trait]
impl StageRoots for Switched {
    async fn stage(
        &self,
        context: &CallContext,
        request: &StageRequest,
    ) -> Result<Outcome<Vec<u8>>, PluginError> {
        self.switch.pass().await?;
        let staging = self
            .inner
            .staging()
            .ok_or(PluginError::Permanent { detail: "it stages no roots".to_owned() })?;
        if *self.switch.mode.borrow() == AuthorityMode::Lies {
            let forged = rcgen::generate_simple_self_signed(vec!["no.ca.example".to_owned()]);
            let forged =
                forged.map_err(|error| PluginError::Transient { detail: error.to_string() })?;
            return Ok(Outcome::Ready(forged.cert.der().to_vec()));
        }
        staging.stage(context, request).await
    }

    async fn activate(&self, context: &CallContext, root: &RootId) -> Result<(), PluginError> {
        self.switch.pass().await?;
        let staging = self
            .inner
            .staging()
            .ok_or(PluginError::Permanent { detail: "it stages no roots".to_owned() })?;
        staging.activate(context, root).await
    }
}

impl AuthorityPlugin for AuthoritySwitch {
    fn name(&self) -> &'static str {
        SelfSignedPlugin.name()
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        SelfSignedPlugin.validate(settings)
    }

    fn open(
        &self,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, Vec<ConfigProblem>> {
        let inner = SelfSignedPlugin.open(settings, deps)?;
        Ok(Arc::new(Switched { inner, switch: self.clone() }))
    }
}
