//! `banyan.admin.v1.SignerService`: leaves for those who have their roots from another channel than the reply. Served on the admin
//! socket alone: whoever asks there answers for whose key it is.

use std::sync::Arc;
use std::time::Duration;

use auth::authz::{AnsweredFor, Asked};
use auth::refusal::{Reason, Refusal, echoed};
use issuance::profile::ProfileSettings;
use ledger::Word;
use proto::banyan::admin::v1::signer_service_server::SignerService;
use proto::banyan::admin::v1::{SignRequest, SignResponse, SignedObject};
use rotation::Phase;
use tonic::{Request, Response, Status};
use trust::csr::ParsedCsr;
use trust::plain::span;
use trust::{RootId, SpiffeId, Timestamp, Validity};

use crate::admin::Operators;
use crate::call::Call;
use control::ca::Ca;

/// What the beginning of a refresh keeps from both ends of a life: Kubernetes takes no other for a Pod's certificate.
const REFRESH_MARGIN: Duration = Duration::from_secs(600);
/// The part of its life after which a leaf is refreshed.
const REFRESH_AFTER: u32 = 2;
/// The same while its root is about to go: what is left of such leaves is what a rotation waits for.
const REFRESH_AFTER_IF_LEAVING: u32 = 6;
/// How a PEM block begins.
const PEM: &[u8] = b"-----";

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct Signers {
    ca: Arc<Ca>,
    operators: Operators,
}

impl Signers {
    pub(crate) const fn new(ca: Arc<Ca>, operators: Operators) -> Self {
        Self { ca, operators }
    }

    async fn signed(&self, call: &mut Call, asked: SignRequest) -> Result<SignResponse, Refusal> {
        let caller = self.operators.allow(call)?;
        let object = named(asked.object.as_ref());
        call.identified("signer", &format!("{object} ({caller})"));
        let identity = SpiffeId::parse(&asked.identity).map_err(|error| {
            invalid(format!("\"{}\" is no SPIFFE id: {error}", echoed(&asked.identity)))
        })?;
        let csr = match asked.csr.trim_ascii_start().starts_with(PEM) {
            true => ParsedCsr::from_pem(&asked.csr),
            false => ParsedCsr::from_der(&asked.csr),
        };
        let csr = csr?.verify()?;
        let snapshot = self.ca.cell.load().signing_for(&identity);
        let now = self.ca.believed_now()?;
        let settings = self.ca.issuer.profile().settings();
        let ttl = Some(ttl(&asked, settings, now, snapshot.bounds().signer)?);
        let names = AnsweredFor { identity, dns: asked.dns_names };
        let request = self.ca.authorizer.channel_trusted(names, Asked { csr, ttl }, &snapshot)?;
        // The next leaf says as little of its holder's trust as this one: the word of its channel is asked for.
        let request = request.with_word(Word::OwnTrust);
        self.ca.may_admit()?;
        let root = snapshot.signer().root();
        let leaf = call.issue(&request, snapshot).await?;
        let validity = leaf.lifetime().validity;
        let refresh_at = refresh_at(validity, is_leaving(&self.ca.driver.state().phase, root));
        tracing::info!(
            identity = %request.identity(), serial = %leaf.serial(), object, %refresh_at,
            "a leaf was issued to a signer"
        );
        Ok(SignResponse {
            chain: leaf.chain_der(),
            not_before: validity.not_before().as_secs(),
            not_after: validity.not_after().as_secs(),
            refresh_at: refresh_at.as_secs(),
            sequence: leaf.sequence().0,
            serial: leaf.serial().as_bytes().to_vec(),
            root: root.as_bytes().to_vec(),
        })
    }
}

#[tonic::async_trait]
impl SignerService for Signers {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let (mut call, message) = Call::of(&self.ca, request);
        let signed = self.signed(&mut call, message).await;
        signed.map(Response::new).map_err(|refusal| call.refuse(refusal))
    }
}

/// What asks, as audit and log name it.
fn named(object: Option<&SignedObject>) -> String {
    let Some(object) = object else { return "nothing that is named".to_owned() };
    let place = match object.namespace.as_str() {
        "" => String::new(),
        namespace => format!("{}/", echoed(namespace)),
    };
    let (kind, name, uid) = (echoed(&object.kind), echoed(&object.name), echoed(&object.uid));
    format!("{kind} {place}{name}, uid {uid}")
}

/// The life from now on that makes a certificate as long as it is wished for, from its beginning to its end.
fn ttl(
    asked: &SignRequest,
    settings: &ProfileSettings,
    now: Timestamp,
    signer: Validity,
) -> Result<Duration, Refusal> {
    let set = |secs: u64| (secs > 0).then(|| Duration::from_secs(secs));
    // No leaf begins before its issuer.
    let past = now.since(now.minus(settings.backdate).max(signer.not_before()));
    let least = set(asked.life_seconds_min).unwrap_or_default();
    let most = set(asked.life_seconds_max).unwrap_or(Duration::MAX);
    if most < least {
        return Err(invalid("life_seconds_max is less than life_seconds_min".to_owned()));
    }
    if least > settings.ttl_max.saturating_add(past) {
        let text = format!(
            "the certificate is of use only if it lives for {} or longer, and leaf.ttl_max of this CA is {}",
            span(least),
            span(settings.ttl_max)
        );
        return Err(Refusal::advised(Reason::TtlAboveMaximum, text, "raise leaf.ttl_max"));
    }
    let usual = settings.ttl_default.saturating_add(past);
    let wanted = set(asked.life_seconds).unwrap_or(usual).max(least).min(most);
    Ok(wanted.saturating_sub(past))
}

/// When the next leaf is to be asked for.
fn refresh_at(validity: Validity, leaving: bool) -> Timestamp {
    let (begin, life) = (validity.not_before(), validity.not_after().since(validity.not_before()));
    let part = if leaving { REFRESH_AFTER_IF_LEAVING } else { REFRESH_AFTER };
    let after = match life.checked_sub(REFRESH_MARGIN) {
        Some(latest) if latest >= REFRESH_MARGIN => (life / part).clamp(REFRESH_MARGIN, latest),
        _ => life / part,
    };
    begin.plus(after)
}

/// Whether a root that signs now is about to be replaced.
fn is_leaving(phase: &Phase, root: RootId) -> bool {
    match phase {
        Phase::Staging(_) => true,
        Phase::Uninitialised
        | Phase::Bootstrapping(_)
        | Phase::Steady(_)
        | Phase::Distributing(_)
        | Phase::Canary(_)
        | Phase::Draining(_)
        | Phase::Withdrawing(_) => phase.changes().is_some_and(|(leaves, _)| leaves == root),
    }
}

fn invalid(text: String) -> Refusal {
    Refusal::new(Reason::RequestInvalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600;

    fn validity(secs: i64) -> Validity {
        Validity::new(Timestamp::from_secs(0), Timestamp::from_secs(secs)).unwrap()
    }

    #[test]
    fn a_life_is_counted_from_the_beginning_of_the_certificate() {
        let settings = ProfileSettings::default();
        let now = Timestamp::from_secs(1_000_000);
        let old = Validity::new(now.minus(Duration::from_secs(9_000)), Timestamp::MAX).unwrap();
        let fresh = Validity::new(now.minus(Duration::from_secs(5)), Timestamp::MAX).unwrap();
        let ttl = |lives: [u64; 3], signer| {
            let [life_seconds, life_seconds_min, life_seconds_max] = lives;
            let asked = SignRequest {
                life_seconds,
                life_seconds_min,
                life_seconds_max,
                ..SignRequest::default()
            };
            ttl(&asked, &settings, now, signer)
                .map(|ttl| ttl.as_secs())
                .map_err(|refusal| refusal.reason())
        };
        assert_eq!(ttl([0, 0, 0], old), Ok(24 * HOUR));
        assert_eq!(ttl([0, HOUR, HOUR], old), Ok(HOUR - 60));
        assert_eq!(ttl([0, HOUR, HOUR], fresh), Ok(HOUR - 5));
        assert_eq!(ttl([7_200, HOUR, 0], old), Ok(7_200 - 60));
        assert_eq!(ttl([600, 0, 0], old), Ok(540));
        assert_eq!(ttl([0, 2, 1], old), Err(Reason::RequestInvalid));
        assert_eq!(ttl([0, 30 * 24 * HOUR, 0], old), Err(Reason::TtlAboveMaximum));
    }

    #[test]
    fn a_refresh_is_due_at_half_of_the_life_and_sooner_under_a_root_that_goes() {
        for (life, leaving, due) in [
            (86_400, false, 43_200),
            (86_400, true, 14_400),
            // Kubernetes takes nothing that is nearer to an end.
            (3_600, false, 1_800),
            (3_600, true, 600),
            (1_100, false, 550),
        ] {
            assert_eq!(refresh_at(validity(life), leaving), Timestamp::from_secs(due), "{life}");
        }
    }
}
