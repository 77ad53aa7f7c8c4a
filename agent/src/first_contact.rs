//! The right bundle: how an agent that knows nothing, or was away, comes to believe the right CA before it sends anything
//! secret.
//!
//! With a join token, the CA's id and the digest of a bundle are known; an agent that was away has a bundle of its own. It
//! connects without believing anybody, notes the chain that it is shown, asks for the bundle of that digest and the
//! changes since, judges each change by the bundle before it, and the chain by the last. Only then does it connect
//! again, with the real verifier, and only there goes the token. With a bundle file there is nothing to find out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::banyan::agent::v1 as wire;
use trust::digest::sha256;
use trust::join_token::{JOIN_TOKEN_LEN_MAX, JoinToken};
use trust::transition::Transition;
use trust::{Bundle, BundleDigest, Chain, Clock, PeerRole, Sequence, SpiffeId, TrustDomain};
use zeroize::Zeroizing;

use crate::bundle_store;
use crate::ca_client::tls::{RecordingRule, client_config};
use crate::ca_client::{CallError, Place, believing, channel, client, refused, timed};
use crate::config::{AgentConfig, Attestation};

/// Longest JWT that is read.
const JWT_LEN_MAX: usize = 16 * 1024;
/// Changes of the bundle that are followed in one answer.
const TRANSITIONS_MAX: usize = 64;
/// Answers that are asked for on one way; a CA keeps no more changes than that.
const ANSWERS_MAX: usize = 64;

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
    #[error(
        "{0}; is this the CA that made the token? If it is, make a new token with `banyan token create`"
    )]
    NotTheCa(String),
    /// The bundle that is held is not of this CA's past, and the configuration names nothing else to go by.
    #[error(
        "{why}, so no way leads from bundle {held} that this agent holds to the CA's present one: give the agent a new join token, or \
         a trust_bundle with what `banyan root list --pem` prints on the CA"
    )]
    NoWay {
        /// The bundle that is held.
        held: Sequence,
        /// What the CA answered.
        why: String,
    },
    /// The file of roots does not trust the CA that answers.
    #[error(
        "trust_bundle {} does not trust the CA that answers at {address} ({why}): the file is older than the CA's roots, or this is \
         another CA; replace it with what `banyan root list --pem` prints on the CA", path.display()
    )]
    FileDisagrees {
        /// The file.
        path: PathBuf,
        /// Where the CA was asked.
        address: String,
        /// What the verifier said.
        why: String,
    },
    /// The CA's bundles do not go on from the ones that this agent has had.
    #[error(
        "the CA at {address} is at bundle {found}, and this agent has had bundle {held} with other roots: the CA was set up anew, was \
         restored from a backup, or is another one. If that is meant, stop this agent, move {} away, start it with a new join \
         token, and restart the processes that it served", state_dir.display()
    )]
    WentBack {
        /// Where the CA was asked.
        address: String,
        /// Its bundle.
        found: Sequence,
        /// The bundle that is held.
        held: Sequence,
        /// What would have to go.
        state_dir: PathBuf,
    },
    /// The CA cannot be reached.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl FirstContactError {
    /// Whether another address of the CA may do what this one did not: also where somebody else answers than the CA.
    pub(crate) fn leaves(&self) -> bool {
        match self {
            Self::Call(error) => error.leaves(),
            Self::NotTheCa(_)
            | Self::FileDisagrees { .. }
            | Self::WentBack { .. }
            | Self::NoWay { .. } => true,
            Self::NoProof | Self::NoPin | Self::Unreadable(_) => false,
        }
    }
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
            let text =
                std::env::var(name).map_err(|error| unreadable(format!("{name}: {error}")))?;
            token(Zeroizing::new(text.trim().to_owned()))
        }
        Attestation::JwtFile(path) => Ok(Proof::Jwt(read(path, JWT_LEN_MAX)?)),
    }
}

/// Tells one token or JWT from the next, without keeping it; `None` if it cannot be read now.
pub(crate) fn mark(config: &AgentConfig) -> Option<[u8; 32]> {
    Some(sha256(proof(config).ok()?.bearer().as_bytes()))
}

/// Finds the first bundle.
pub(crate) async fn bundle(
    config: &AgentConfig,
    place: &Place,
    clock: &Arc<dyn Clock>,
) -> Result<Bundle, FirstContactError> {
    if let Some(path) = &config.trust_bundle {
        return from_file(path, &config.trust_domain);
    }
    match proof(config)? {
        Proof::Token(_, token) => pinned(&token, config, place, clock).await,
        Proof::Jwt(_) => Err(FirstContactError::NoPin),
    }
}

/// Finds the present bundle for an agent that has one: by the changes since, or where no such way leads, by what the
/// configuration pins today. A file of roots that was taken before first contact is read again: nothing rests on it yet.
pub(crate) async fn present(
    held: &Bundle,
    config: &AgentConfig,
    place: &Place,
    clock: &Arc<dyn Clock>,
) -> Result<Bundle, FirstContactError> {
    if held.sequence() == Sequence(0) {
        return bundle(config, place, clock).await;
    }
    let why = match forward(held, &config.trust_domain, place, clock).await {
        Ok(found) => return Ok(found),
        Err(FirstContactError::Call(error)) if error.is_unreachable() => return Err(error.into()),
        Err(FirstContactError::NotTheCa(why)) => why,
        Err(error) => error.to_string(),
    };
    let pinned = match &config.trust_bundle {
        Some(path) => by_file(path, config, place, clock).await,
        None => bundle(config, place, clock).await,
    };
    let found = pinned.map_err(|error| match error {
        FirstContactError::NoProof | FirstContactError::NoPin => {
            FirstContactError::NoWay { held: held.sequence(), why }
        }
        error => error,
    })?;
    let goes_on = found.sequence() > held.sequence() || found == *held;
    goes_on.then_some(found.clone()).ok_or_else(|| FirstContactError::WentBack {
        address: place.label(),
        found: found.sequence(),
        held: held.sequence(),
        state_dir: config.state_dir.clone(),
    })
}

/// Asks the CA for its bundle, believing the roots of the file.
async fn by_file(
    path: &Path,
    config: &AgentConfig,
    place: &Place,
    clock: &Arc<dyn Clock>,
) -> Result<Bundle, FirstContactError> {
    let roots = from_file(path, &config.trust_domain)?;
    let mut client = believing(roots, place, clock)?;
    let answer = client.get_bundle(timed(wire::GetBundleRequest::default())).await;
    let answer = answer.map_err(|status| {
        let refused = refused(place, status);
        // It was reached just now, without belief.
        match refused.is_unreachable() {
            true => FirstContactError::FileDisagrees {
                path: path.to_owned(),
                address: place.label(),
                why: refused.to_string(),
            },
            false => refused.into(),
        }
    })?;
    let offered = answer.into_inner().bundle.unwrap_or_default();
    bundle_store::from_wire(&config.trust_domain, &offered)
        .map_err(|error| FirstContactError::NotTheCa(error.to_string()))
}

/// What is to be said of a file of roots beside the bundle that is held, if anything.
pub(crate) fn file_beside(held: &Bundle, config: &AgentConfig) -> Option<String> {
    let path = config.trust_bundle.as_ref().filter(|_| held.sequence() > Sequence(0))?;
    let known = |roots: &Bundle| roots.roots().iter().any(|root| held.contains(&root.id()));
    let said = match from_file(path, &config.trust_domain) {
        Ok(roots) if known(&roots) => return None,
        Ok(_) => format!("trust_bundle {} has no root in common with it", path.display()),
        Err(error) => error.to_string(),
    };
    Some(format!(
        "this agent goes by bundle {}, which it holds, and {said}: the file counts only where no way leads from the bundle; replace \
         it with what `banyan root list --pem` prints on the CA",
        held.sequence()
    ))
}

async fn pinned(
    token: &JoinToken,
    config: &AgentConfig,
    place: &Place,
    clock: &Arc<dyn Clock>,
) -> Result<Bundle, FirstContactError> {
    if token.ca_id().trust_domain() != &config.trust_domain {
        return Err(FirstContactError::NotTheCa(format!(
            "the token is for the trust domain `{}`, not for `{}`",
            token.ca_id().trust_domain(),
            config.trust_domain
        )));
    }
    let start =
        Start { digest: token.bundle_digest(), held: None, trust_domain: &config.trust_domain };
    led(&start, place, clock, is_a_ca_of(token.ca_id().trust_domain())).await
}

/// Comes from a bundle that was held to the present one, by changes that a CA of each bundle before signed.
pub(crate) async fn forward(
    held: &Bundle,
    trust_domain: &TrustDomain,
    place: &Place,
    clock: &Arc<dyn Clock>,
) -> Result<Bundle, FirstContactError> {
    let start = Start { digest: held.digest(), held: Some(held), trust_domain };
    led(&start, place, clock, is_a_ca_of(trust_domain)).await
}

/// Any server of the CA may answer, whichever made a token or a bundle.
fn is_a_ca_of(trust_domain: &TrustDomain) -> impl Fn(&SpiffeId) -> Result<(), String> {
    move |id| match id.is_ca() && id.trust_domain() == trust_domain {
        true => Ok(()),
        false => Err(format!("`{id}` answered, which is no CA of `{trust_domain}`")),
    }
}

/// Where a way to the present bundle starts.
struct Start<'a> {
    /// The bundle that is asked for first.
    digest: BundleDigest,
    /// That bundle, if it is at hand.
    held: Option<&'a Bundle>,
    trust_domain: &'a TrustDomain,
}

/// Asks for the bundle with a digest, follows the changes since, and judges whoever answered by the last.
async fn led(
    start: &Start<'_>,
    place: &Place,
    clock: &Arc<dyn Clock>,
    is_right: impl Fn(&SpiffeId) -> Result<(), String>,
) -> Result<Bundle, FirstContactError> {
    let recorder = Arc::new(RecordingRule::default());
    let tls = client_config(trust_tls::server_verifier(Arc::clone(&recorder) as _), None)
        .map_err(CallError::from)?;
    let client = client(channel(place, tls)?);
    let impostor = |what: String| FirstContactError::NotTheCa(what);
    let ask = |wanted: BundleDigest| {
        let (mut client, place) = (client.clone(), place.clone());
        let request = wire::GetBundleRequest { digest: wanted.as_bytes().to_vec() };
        async move {
            let answer = client.get_bundle(timed(request)).await;
            Ok(answer.map_err(|status| refused(&place, status))?.into_inner())
        }
    };
    let bundle = walked(start, ask).await?;
    let seen =
        recorder.seen().ok_or_else(|| impostor("the CA showed no certificate".to_owned()))?;
    let chain = Chain::parse(&seen).map_err(|error| impostor(error.to_string()))?;
    chain
        .verify(&bundle, clock.now(), PeerRole::Server)
        .map_err(|error| impostor(format!("the CA's own certificate does not verify: {error}")))?;
    let id = chain.leaf().spiffe_id().map_err(|error| impostor(error.to_string()))?;
    is_right(&id).map_err(impostor)?;
    Ok(bundle)
}

/// Goes from the bundle with a digest to the present one, answer by answer.
async fn walked<F>(
    start: &Start<'_>,
    ask: impl Fn(BundleDigest) -> F,
) -> Result<Bundle, FirstContactError>
where
    F: Future<Output = Result<wire::GetBundleResponse, FirstContactError>>,
{
    let Start { digest, held, trust_domain } = *start;
    let impostor = |what: String| FirstContactError::NotTheCa(what);
    let mut reached = held.cloned();
    for _ in 0..ANSWERS_MAX {
        let wanted = reached.as_ref().map_or(digest, Bundle::digest);
        let answer = ask(wanted).await?;
        let offered = bundle_store::from_wire(trust_domain, &answer.bundle.unwrap_or_default());
        let offered = offered.map_err(|error| impostor(error.to_string()))?;
        if offered.digest() != wanted {
            let pinned_by = if held.is_some() { "this agent has" } else { "the token pins" };
            return Err(impostor(format!("the CA's bundle is not the one that {pinned_by}")));
        }
        let start = reached.take().unwrap_or(offered);
        let before = start.sequence();
        let present = followed(start, trust_domain, &answer.transitions).map_err(impostor)?;
        if !answer.more {
            return Ok(present);
        }
        if present.sequence() <= before {
            return Err(impostor("the CA's changes of the bundle lead nowhere".to_owned()));
        }
        reached = Some(present);
    }
    Err(impostor(format!("the present bundle was not reached in {ANSWERS_MAX} answers")))
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
        let after =
            bundle_store::from_wire(trust_domain, &after).map_err(|error| error.to_string())?;
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
pub(crate) fn from_file(
    path: &Path,
    trust_domain: &TrustDomain,
) -> Result<Bundle, FirstContactError> {
    let unreadable = |what: String| {
        FirstContactError::Unreadable(format!("trust_bundle {}: {what}", path.display()))
    };
    let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    let blocks = pem::parse_many(&text).map_err(|error| unreadable(error.to_string()))?;
    let ders: Vec<Vec<u8>> = blocks.into_iter().map(pem::Pem::into_contents).collect();
    Bundle::from_ders(trust_domain.clone(), Sequence(0), &ders)
        .map_err(|error| unreadable(error.to_string()))
}

fn token(text: Zeroizing<String>) -> Result<Proof, FirstContactError> {
    let parts = JoinToken::decode(&text)
        .map_err(|error| FirstContactError::Unreadable(error.to_string()))?;
    Ok(Proof::Token(text, Box::new(parts)))
}

fn read(path: &Path, most: usize) -> Result<Zeroizing<String>, FirstContactError> {
    let unreadable =
        |what: String| FirstContactError::Unreadable(format!("{}: {what}", path.display()));
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
            Self::Token(text, _) | Self::Jwt(text) => {
                Zeroizing::new(format!("Bearer {}", text.as_str()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;
    use std::time::Duration;

    use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
    use trust::PublicKey;
    use trust::transition::Statement;

    use super::*;
    use crate::fakes::{NOW, Pki, to_wire};

    /// A change that a CA under `by` signs.
    fn change(by: &Pki, before: &Bundle, after: &Bundle) -> wire::Transition {
        let key = KeyPair::generate().unwrap();
        let public = PublicKey::parse(&key.subject_public_key_info()).unwrap();
        let id = SpiffeId::parse("spiffe://example.org/banyan/ca/ca-1").unwrap();
        let statement = Statement::between(before, after, NOW).encode();
        wire::Transition {
            bundle: Some(to_wire(after)),
            signature: key.sign(&statement).unwrap(),
            statement,
            issuer_chain: by.leaf_for(&public, &id, NOW, Duration::from_secs(3600)),
        }
    }

    fn domain() -> TrustDomain {
        TrustDomain::parse("example.org").unwrap()
    }

    #[tokio::test]
    async fn a_way_in_parts_is_followed_to_its_end() {
        let pkis: Vec<_> = (1..=5).map(|number| Pki::new(&format!("root {number}"))).collect();
        let bundles: Vec<_> =
            pkis.iter().zip(1..).map(|(pki, sequence)| pki.bundle(sequence)).collect();
        let asked = Cell::new(0);
        let two_at_a_time = |wanted: BundleDigest| {
            asked.set(asked.get() + 1);
            let at = bundles.iter().position(|bundle| bundle.digest() == wanted).unwrap();
            let last = (at + 2).min(bundles.len() - 1);
            let transitions = (at..last)
                .map(|step| change(&pkis[step], &bundles[step], &bundles[step + 1]))
                .collect();
            let (bundle, more) = (Some(to_wire(&bundles[at])), last + 1 < bundles.len());
            ready(Ok(wire::GetBundleResponse { bundle, transitions, more }))
        };
        let (digest, domain) = (bundles[0].digest(), domain());
        let from = Start { digest, held: Some(&bundles[0]), trust_domain: &domain };
        assert_eq!(walked(&from, &two_at_a_time).await.unwrap(), bundles[4]);
        assert_eq!(asked.get(), 2);
        let pinned = Start { held: None, ..from };
        assert_eq!(walked(&pinned, &two_at_a_time).await.unwrap(), bundles[4]);
    }

    #[tokio::test]
    async fn a_ca_that_promises_more_and_gives_nothing_is_not_followed() {
        let bundle = Pki::new("root").bundle(1);
        let asked = Cell::new(0);
        let nothing = |_| {
            asked.set(asked.get() + 1);
            let bundle = Some(to_wire(&bundle));
            ready(Ok(wire::GetBundleResponse { bundle, transitions: Vec::new(), more: true }))
        };
        let start = Start { digest: bundle.digest(), held: None, trust_domain: &domain() };
        let refused = walked(&start, nothing).await.unwrap_err();
        assert!(refused.to_string().contains("lead nowhere"), "{refused}");
        assert_eq!(asked.get(), 1);
    }
}
