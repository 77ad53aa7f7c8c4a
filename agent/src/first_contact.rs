//! The right bundle: how an agent that knows nothing, or was away, comes to believe the right CA before it sends anything
//! secret.
//!
//! With a join token, the CA's id and the digest of a bundle are known; an agent that was away has a bundle of its own. It
//! connects without believing anybody, notes the chain that it is shown, asks for the bundle of that digest and the
//! changes since, judges each change by the bundle before it, and the chain by the last. Only then does it connect
//! again, with the real verifier, and only there goes the token. With a bundle file there is nothing to find out.

use std::path::Path;
use std::sync::Arc;

use proto::banyan::agent::v1 as wire;
use trust::join_token::{JOIN_TOKEN_LEN_MAX, JoinToken};
use trust::transition::Transition;
use trust::{Bundle, BundleDigest, Chain, Clock, PeerRole, Sequence, SpiffeId, TrustDomain};
use zeroize::Zeroizing;

use crate::bundle_store;
use crate::ca_client::tls::{RecordingVerifier, client_config};
use crate::ca_client::{CaAddress, CallError, channel, client, timed};
use crate::config::{AgentConfig, Attestation};

/// Longest JWT that is read.
const JWT_LEN_MAX: usize = 16 * 1024;
/// Changes of the bundle that are followed at once.
const TRANSITIONS_MAX: usize = 64;

/// What proves the right to join, and whom to show it.
pub(crate) enum Proof {
    /// A join token in text and in parts.
    Token(Zeroizing<String>, Box<JoinToken>),
    /// A JWT.
    Jwt(Zeroizing<String>),
}

/// Why there is no first bundle, or nothing to join with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirstContactError {
    /// The configuration names no way to join.
    #[error(
        "nothing to join with: make a token with `banyan token create` on the CA, and set join_token_file (or jwt_file)"
    )]
    NoProof,
    /// The configuration names no way to know the CA.
    #[error("nothing says which CA to believe: set trust_bundle, or join with a join token")]
    NoPin,
    /// The token, JWT or bundle cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// Whoever answers at the CA's address is not the CA of the token, or not any more.
    #[error("{0}; is this the CA that made the token? If it is, make a new token with `banyan token create`")]
    NotTheCa(String),
    /// The CA cannot be reached.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Reads what the configuration names, anew at each attempt.
pub(crate) fn proof(config: &AgentConfig) -> Result<Proof, FirstContactError> {
    let unreadable = |what: String| FirstContactError::Unreadable(what);
    match config.attestation.as_ref().ok_or(FirstContactError::NoProof)? {
        Attestation::JoinTokenFile(path) => {
            host::check_private(path).map_err(|error| unreadable(error.to_string()))?;
            token(read(path, JOIN_TOKEN_LEN_MAX)?)
        }
        Attestation::JoinTokenEnv(name) => {
            let text = std::env::var(name).map_err(|error| unreadable(format!("{name}: {error}")))?;
            token(Zeroizing::new(text.trim().to_owned()))
        }
        Attestation::JwtFile(path) => Ok(Proof::Jwt(read(path, JWT_LEN_MAX)?)),
    }
}

/// Finds the first bundle.
pub(crate) async fn bundle(
    config: &AgentConfig,
    address: &CaAddress,
    clock: &Arc<dyn Clock>,
) -> Result<Bundle, FirstContactError> {
    if let Some(path) = &config.trust_bundle {
        return from_file(path, &config.trust_domain);
    }
    match proof(config)? {
        Proof::Token(_, token) => pinned(&token, config, address, clock).await,
        Proof::Jwt(_) => Err(FirstContactError::NoPin),
    }
}

async fn pinned(
    token: &JoinToken,
    config: &AgentConfig,
    address: &CaAddress,
    clock: &Arc<dyn Clock>,
) -> Result<Bundle, FirstContactError> {
    if token.ca_id().trust_domain() != &config.trust_domain {
        return Err(FirstContactError::NotTheCa(format!(
            "the token is for the trust domain `{}`, not for `{}`",
            token.ca_id().trust_domain(),
            config.trust_domain
        )));
    }
    let is_the_one = |id: &SpiffeId| match id == token.ca_id() {
        true => Ok(()),
        false => Err(format!("`{id}` answered, the token is of `{}`", token.ca_id())),
    };
    let domain = &config.trust_domain;
    led((token.bundle_digest(), None), domain, (address, clock), is_the_one).await
}

/// Comes from a bundle that was held to the present one, by changes that a CA of each bundle before vouched for.
pub(crate) async fn forward(
    held: &Bundle,
    trust_domain: &TrustDomain,
    address: &CaAddress,
    clock: &Arc<dyn Clock>,
) -> Result<Bundle, FirstContactError> {
    let is_a_ca = |id: &SpiffeId| match id.is_ca() && id.trust_domain() == trust_domain {
        true => Ok(()),
        false => Err(format!("`{id}` answered, which is no CA of `{trust_domain}`")),
    };
    led((held.digest(), Some(held)), trust_domain, (address, clock), is_a_ca).await
}

/// Asks for the bundle with a digest, follows the changes since, and judges whoever answered by the last.
async fn led(
    (digest, held): (BundleDigest, Option<&Bundle>),
    trust_domain: &TrustDomain,
    (address, clock): (&CaAddress, &Arc<dyn Clock>),
    is_right: impl Fn(&SpiffeId) -> Result<(), String>,
) -> Result<Bundle, FirstContactError> {
    let recorder = Arc::new(RecordingVerifier::default());
    let tls = client_config(Arc::clone(&recorder) as _, None).map_err(CallError::from)?;
    let mut client = client(channel(address, tls)?);
    let request = wire::GetBundleRequest { digest: digest.as_bytes().to_vec() };
    let answer = client.get_bundle(timed(request)).await;
    let answer = answer.map_err(|status| CallError::Refused {
        address: address.address.clone(),
        status: Box::new(status),
    })?;
    let stranger = |what: String| FirstContactError::NotTheCa(what);
    let answer = answer.into_inner();
    let offered = bundle_store::from_wire(trust_domain, &answer.bundle.unwrap_or_default());
    let offered = offered.map_err(|error| stranger(error.to_string()))?;
    if offered.digest() != digest {
        let pinned_by = if held.is_some() { "this agent has" } else { "the token pins" };
        return Err(stranger(format!("the CA's bundle is not the one that {pinned_by}")));
    }
    let start = held.cloned().unwrap_or(offered);
    let bundle = followed(start, trust_domain, &answer.transitions).map_err(&stranger)?;
    let seen = recorder.seen().ok_or_else(|| stranger("the CA showed no certificate".to_owned()))?;
    let chain = Chain::parse(&seen).map_err(|error| stranger(error.to_string()))?;
    chain
        .verify(&bundle, clock.now(), PeerRole::Server)
        .map_err(|error| stranger(format!("the CA's own certificate does not verify: {error}")))?;
    let id = chain.leaf().spiffe_id().map_err(|error| stranger(error.to_string()))?;
    is_right(&id).map_err(stranger)?;
    Ok(bundle)
}

/// Goes from a bundle over each change to the last.
fn followed(
    start: Bundle,
    trust_domain: &TrustDomain,
    transitions: &[wire::Transition],
) -> Result<Bundle, String> {
    if transitions.len() > TRANSITIONS_MAX {
        return Err(format!("{} changes at once; {TRANSITIONS_MAX} are taken", transitions.len()));
    }
    transitions.iter().try_fold(start, |held, change| {
        let after = change.bundle.clone().unwrap_or_default();
        let after = bundle_store::from_wire(trust_domain, &after).map_err(|error| error.to_string())?;
        let transition = Transition {
            statement: change.statement.clone(),
            signature: change.signature.clone(),
            chain: change.issuer_chain.clone(),
        };
        transition.verify(&held, &after).map_err(|error| error.to_string())?;
        Ok(after)
    })
}

/// A file of roots has no sequence: it stands before every bundle of the CA.
fn from_file(path: &Path, trust_domain: &TrustDomain) -> Result<Bundle, FirstContactError> {
    let unreadable =
        |what: String| FirstContactError::Unreadable(format!("trust_bundle {}: {what}", path.display()));
    let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let blocks = pem::parse_many(&text).map_err(|error| unreadable(error.to_string()))?;
    let ders: Vec<Vec<u8>> = blocks.into_iter().map(pem::Pem::into_contents).collect();
    Bundle::from_ders(trust_domain.clone(), Sequence(0), &ders).map_err(|error| unreadable(error.to_string()))
}

fn token(text: Zeroizing<String>) -> Result<Proof, FirstContactError> {
    let parts = JoinToken::decode(&text).map_err(|error| FirstContactError::Unreadable(error.to_string()))?;
    Ok(Proof::Token(text, Box::new(parts)))
}

fn read(path: &Path, most: usize) -> Result<Zeroizing<String>, FirstContactError> {
    let unreadable = |what: String| FirstContactError::Unreadable(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let text = Zeroizing::new(text);
    let trimmed = text.trim();
    match trimmed.is_empty() || trimmed.len() > most {
        true => Err(unreadable(format!("it has {} bytes; 1 to {most} are taken", trimmed.len()))),
        false => Ok(Zeroizing::new(trimmed.to_owned())),
    }
}

impl Proof {
    /// What goes into the `authorization` header.
    pub(crate) fn bearer(&self) -> Zeroizing<String> {
        match self {
            Self::Token(text, _) | Self::Jwt(text) => Zeroizing::new(format!("Bearer {}", text.as_str())),
        }
    }
}
