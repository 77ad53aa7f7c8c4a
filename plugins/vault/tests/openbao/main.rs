//! The plugin against a real OpenBao: the suite, logins, and what goes wrong in the life of such a server.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

mod faults;
mod logins;
mod minting;
mod server;
mod signing;

use std::sync::Arc;
use std::time::Duration;

use host::{OsRandomness, SystemClock};
use plugin_vault::VaultPlugin;
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{
    AuthorityDeps, AuthorityPlugin as _, AuthorityState, CallContext, IssuerRequest,
    KeyBackend as _, KeySpec, Outcome, PluginError, RequestId, RootAuthority, ca_certificate,
};
use server::Bao;
use trust::{Clock, RootId, TrustDomain};

/// The policies of `docs/plugins/vault.md`: to sign, and what minting roots needs beyond that.
const SIGN: &str = r#"path "pki/issuers"                   { capabilities = ["list"] }
path "pki/issuer/+"                   { capabilities = ["read"] }
path "pki/issuer/+/sign-intermediate" { capabilities = ["update"] }
"#;
const MINT: &str = r#"path "pki/config/issuers"             { capabilities = ["read"] }
path "pki/root/rotate/internal"       { capabilities = ["update"] }
path "pki/root/replace"               { capabilities = ["update"] }
path "pki/issuer/+"                   { capabilities = ["read", "delete"] }
path "pki/key/+"                      { capabilities = ["delete"] }
"#;

const TOKEN: &str = "auth = { method = 'token', token_file = 'token' }";

fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

fn context(id: &str) -> CallContext {
    CallContext::new(RequestId::parse(id).unwrap(), Duration::from_secs(10))
}

/// What an authority keeps, and its clock.
#[derive(Clone)]
struct Own {
    state: Arc<dyn AuthorityState>,
    clock: Arc<dyn Clock>,
}

impl Own {
    fn new() -> Self {
        Self { state: Arc::new(MemoryState::new()), clock: Arc::new(SystemClock) }
    }

    fn open(&self, bao: &Bao, more: &str) -> Arc<dyn RootAuthority> {
        let settings = format!("address = '{}'\nca_file = 'ca.pem'\n{more}", bao.address);
        let (keys, state) = (Arc::new(MemoryKeys::new()), Arc::clone(&self.state));
        let (clock, randomness) = (Arc::clone(&self.clock), Arc::new(OsRandomness::new()));
        let deps = AuthorityDeps::new(domain(), keys, state, clock, randomness);
        VaultPlugin.open(&settings.parse().unwrap(), deps.at(bao.home.path())).unwrap()
    }
}

/// A server with a root in `pki`, the policy to sign, and a token for it in `token`.
async fn signing_bao() -> Bao {
    let bao = Bao::start().await;
    bao.mount("pki").await;
    bao.root("pki", "first").await;
    bao.policy("banyan", SIGN).await;
    bao.token("token", serde_json::json!({})).await;
    bao
}

async fn signing(authority: &dyn RootAuthority) -> Result<RootId, PluginError> {
    Ok(authority.roots(&context("roots")).await?.signing.unwrap())
}

/// Asks for an issuer of 30 days.
async fn asked(
    authority: &dyn RootAuthority,
    id: &str,
    root: RootId,
) -> Result<Vec<Vec<u8>>, PluginError> {
    lasting(authority, id, root, Duration::from_secs(30 * 86_400)).await
}

/// Asks for an issuer of so long.
async fn lasting(
    authority: &dyn RootAuthority,
    id: &str,
    root: RootId,
    ttl: Duration,
) -> Result<Vec<Vec<u8>>, PluginError> {
    let keys = MemoryKeys::new();
    let key = keys.generate(&RequestId::parse(id).unwrap(), KeySpec::P256).await.unwrap();
    let csr = ca_certificate::build_issuer_csr(&keys, &key).await.unwrap();
    let request = IssuerRequest::new(root, csr, domain(), ttl);
    match authority.sign_issuer(&context(id), &request).await? {
        Outcome::Ready(chain) => Ok(chain.certificates),
        pending => panic!("{pending:?}"),
    }
}

/// An error's words, which must hold none of these secrets.
fn told<T: std::fmt::Debug>(result: Result<T, PluginError>, secrets: &[&str]) -> String {
    let error = result.unwrap_err();
    let words = format!("{error} {error:?}");
    assert!(!secrets.iter().any(|secret| words.contains(secret)), "{words}");
    words
}

#[test]
fn the_policies_that_are_tried_here_are_the_documented_ones() {
    let text = include_str!("../../../../docs/plugins/vault.md");
    assert!(text.contains(SIGN) && text.contains(MINT));
}
