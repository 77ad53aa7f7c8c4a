//! What stands behind the plugin. FILL IN: this one is a stand-in, a CA in this process; in its place comes whatever speaks
//! to Acme. The rest of the crate may stay as it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plugins::ca_certificate::{CaSigner, IssuerProfile, RootProfile, build_root, sign_issuer};
use plugins::{
    AuthorityDeps, AuthorityState, IssuerChain, IssuerRequest, KeyBackend, KeyHandle, KeySpec, PluginError,
    RequestId, StateName,
};
use trust::{Clock, PublicKey, Randomness, Root, Serial, Timestamp, TrustDomain, Validity};

use crate::config::Settings;

/// How far starts lie in the past, for clocks that are behind.
const BACKDATE: Duration = Duration::from_secs(60);

/// Acme.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// FILL IN: where the credentials are, read anew for each call. The stand-in needs none.
    token_file: Option<PathBuf>,
    lifetime: Duration,
    trust_domain: TrustDomain,
    keys: Arc<dyn KeyBackend>,
    state: Arc<dyn AuthorityState>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
}

impl Upstream {
    pub(crate) fn new(settings: Settings, deps: &AuthorityDeps) -> Self {
        Self {
            token_file: settings.token_file,
            lifetime: settings.lifetime,
            trust_domain: deps.trust_domain.clone(),
            keys: Arc::clone(&deps.keys),
            state: Arc::clone(&deps.state),
            clock: Arc::clone(&deps.clock),
            randomness: Arc::clone(&deps.randomness),
        }
    }

    /// The root at Acme. FILL IN: ask for it. An error says what the caller does next: `Transient` and `AuthorityDown` are
    /// repeated, `Denied`, `Misconfigured` and `Permanent` wait for a human.
    pub(crate) async fn root(&self) -> Result<Root, PluginError> {
        if let Some(path) = self.token_file.as_ref().filter(|path| !path.is_file()) {
            let detail = format!("there is no file {}; put the token there", path.display());
            return Err(PluginError::Misconfigured { field: "token_file".to_owned(), detail });
        }
        let name = StateName::parse("root").map_err(|error| permanent(&error))?;
        if let Some(der) = self.state.get(&name).await.map_err(|error| transient(&error))? {
            return Root::parse(&der).map_err(|error| permanent(&error));
        }
        let profile = RootProfile {
            trust_domain: self.trust_domain.clone(),
            serial: Serial::random(self.randomness.as_ref()),
            validity: self.until(self.clock.now().plus(self.lifetime))?,
        };
        let root = build_root(self.keys.as_ref(), &self.key().await?, &profile).await?;
        self.state.put(&name, root.der()).await.map_err(|error| transient(&error))?;
        Ok(root)
    }

    /// An issuer for a key, under the root. FILL IN: let Acme sign it; the answer is the issuer first, each certificate
    /// signed by the next, without the root. A call that may have been done before is not made twice, or makes no second
    /// issuer: give Acme the request id where it takes one.
    pub(crate) async fn sign(
        &self,
        root: &Root,
        issuer_key: &PublicKey,
        request: &IssuerRequest,
    ) -> Result<IssuerChain, PluginError> {
        let key = self.key().await?;
        let signer = CaSigner { keys: self.keys.as_ref(), key_id: &key.id, certificate: root.certificate() };
        let profile = IssuerProfile {
            trust_domain: request.trust_domain.clone(),
            serial: Serial::random(self.randomness.as_ref()),
            validity: self.until(self.clock.now().plus(request.ttl))?,
            path_len: request.path_len,
        };
        let issuer = sign_issuer(&signer, issuer_key, &profile).await?;
        Ok(IssuerChain::new(vec![issuer.der().to_vec()]))
    }

    async fn key(&self) -> Result<KeyHandle, PluginError> {
        let id = RequestId::parse("acme-root").map_err(|error| permanent(&error))?;
        Ok(self.keys.generate(&id, KeySpec::P256).await?)
    }

    fn until(&self, ends: Timestamp) -> Result<Validity, PluginError> {
        Validity::new(self.clock.now().minus(BACKDATE), ends).map_err(|error| permanent(&error))
    }
}

fn transient(error: &dyn std::fmt::Display) -> PluginError {
    PluginError::Transient { detail: error.to_string() }
}

fn permanent(error: &dyn std::fmt::Display) -> PluginError {
    PluginError::Permanent { detail: error.to_string() }
}
