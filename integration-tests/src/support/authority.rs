//! A root authority that can be away: `self-signed` behind a switch.

use std::sync::Arc;

use async_trait::async_trait;
use plugin_self_signed::SelfSignedPlugin;
use plugins::{
    AuthorityDeps, AuthorityPlugin, CallContext, ConfigProblem, CrossSign, CrossSignRequest,
    Description, Health, IssuerChain, IssuerRequest, Outcome, PluginError, RootAuthority, RootSet,
    StageRequest, StageRoots, Ticket,
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
    crossing: Arc<watch::Sender<Crossing>>,
}

/// What it does when another root is to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// It signs.
    Works,
    /// It answers that it is away.
    Away,
    /// It signs for longer than it was asked for.
    Lies,
    /// It cannot, and never could.
    Never,
}

impl AuthoritySwitch {
    /// A switch in a position.
    #[must_use]
    pub fn new(mode: AuthorityMode) -> Self {
        Self {
            mode: Arc::new(watch::Sender::new(mode)),
            asked: Arc::new(watch::Sender::new(0)),
            crossing: Arc::new(watch::Sender::new(Crossing::Works)),
        }
    }

    /// Decides what it does when another root is to be signed. `Never` must be said before it is opened.
    pub fn crosses(&self, crossing: Crossing) {
        self.crossing.send_replace(crossing);
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

    fn cross_signing(&self) -> Option<&dyn CrossSign> {
        let can = *self.switch.crossing.borrow() != Crossing::Never;
        self.inner.cross_signing().filter(|_| can).map(|_| self as &dyn CrossSign)
    }
}

#[async_trait]
impl CrossSign for Switched {
    async fn cross_sign(
        &self,
        context: &CallContext,
        request: &CrossSignRequest,
    ) -> Result<Outcome<Vec<u8>>, PluginError> {
        let (crossing, mut request) = (*self.switch.crossing.borrow(), request.clone());
        match crossing {
            Crossing::Away => {
                return Err(PluginError::AuthorityDown { detail: "it is switched off".to_owned() });
            }
            Crossing::Lies => request.ttl *= 2,
            Crossing::Works | Crossing::Never => {}
        }
        self.switch.pass().await?;
        let gone = || PluginError::Permanent { detail: "it signs no other root".to_owned() };
        self.inner.cross_signing().ok_or_else(gone)?.cross_sign(context, &request).await
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
