//! Join tokens are made here.

use std::collections::BTreeSet;
use std::time::Duration;

use auth::authz::AGENT_NAME_LEN_MAX;
use auth::refusal::{Reason, Refusal, echoed};
use proto::banyan::admin::v1::{CreateTokenRequest, CreateTokenResponse};
use registry::{TokenRow, id_of};
use trust::SpiffeId;
use trust::join_token::{JoinSecret, JoinToken};
use trust::plain::span;

use crate::words;
use control::ca::Ca;

/// Life of a token whose request asks for none, and the longest life.
const TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(3_600);
const TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Identities in one token.
const IDENTITIES_MAX: usize = 256;

/// Makes a token. The journal has who wanted it, and never its secret.
pub(crate) async fn create(
    ca: &Ca,
    message: CreateTokenRequest,
    caller: &str,
) -> Result<CreateTokenResponse, Refusal> {
    let invalid = |text: String| Refusal::new(Reason::RequestInvalid, text);
    let domain = ca.id.trust_domain();
    let agent_id = SpiffeId::agent(domain, &message.agent);
    let agent_id =
        agent_id.ok().filter(|_| message.agent.len() <= AGENT_NAME_LEN_MAX).ok_or_else(|| {
            invalid(format!(
                "\"{}\" is no agent name: write segments of letters, digits, '.', '_', '-'",
                echoed(&message.agent)
            ))
        })?;
    let identities = identities(&message.identities, domain)?;
    let ttl = match u64::try_from(message.ttl_seconds) {
        Ok(0) => TOKEN_TTL_DEFAULT,
        Ok(secs) if secs <= TOKEN_TTL_MAX.as_secs() => Duration::from_secs(secs),
        _ => {
            let most = span(TOKEN_TTL_MAX);
            let text = format_args!("a join token lives at most {most}");
            let advice = format!("ask for `--ttl {most}` or less");
            return Err(Refusal::advised(Reason::RequestInvalid, text, &advice));
        }
    };
    let word = words::word(&message.by, &message.reason, caller)?;
    let now = ca.clock.now();
    let secret = JoinSecret::random(ca.randomness.as_ref());
    let (hash, expires) = (secret.hash(), now.plus(ttl));
    let digest = ca.cell.load().bundle().digest();
    let token = JoinToken::new(ca.id.clone(), digest, secret)
        .map_err(|error| Refusal::new(Reason::InternalDefect, error.to_string()))?;
    let id = id_of(&hash);
    words::journal(
        ca,
        &word,
        "token create",
        &message.agent,
        format!("token {id}, until {expires}"),
    )
    .await?;
    let row = TokenRow {
        agent: message.agent.clone(),
        identities,
        expires,
        used: None,
        made: Some((word.by, now)),
        pins: Some(digest),
        revoked: None,
        spent: false,
    };
    ca.registry.add_token(hash, row, now).await?;
    tracing::info!(agent = message.agent, %expires, "join token made");
    Ok(CreateTokenResponse {
        token: token.encode().to_string(),
        expires_at: expires.as_secs(),
        agent_id: agent_id.to_string(),
        id,
    })
}

fn identities(
    texts: &[String],
    domain: &trust::TrustDomain,
) -> Result<BTreeSet<SpiffeId>, Refusal> {
    let invalid = |text: String| Refusal::new(Reason::RequestInvalid, text);
    if texts.is_empty() || texts.len() > IDENTITIES_MAX {
        return Err(invalid(
            "a token needs 1 to 256 identities that the agent may ask for".to_owned(),
        ));
    }
    texts
        .iter()
        .map(|text| match SpiffeId::parse(text) {
            Ok(id) if id.trust_domain() == domain && !id.is_reserved() && !id.path().is_empty() => {
                Ok(id)
            }
            Ok(_) => Err(invalid(format!("\"{}\" is no workload of {domain}", echoed(text)))),
            Err(error) => Err(invalid(format!("\"{}\" is no SPIFFE id: {error}", echoed(text)))),
        })
        .collect()
}
