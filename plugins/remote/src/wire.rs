//! Between the contract's types and the messages, both ways.

use std::time::Duration;

use plugins::call::shown;
use plugins::{
    Health, HealthState, IssuerChain, Outcome, PluginError, RequestId, RootSet, Ticket, Unsafe,
};
use proto::banyan::plugin::v1 as wire;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use trust::{RootId, Timestamp};

/// Longest message that is taken: an answer of 1 MiB, and room for what frames it.
pub(crate) const MESSAGE_MAX: usize = 1024 * 1024 + 64 * 1024;
const TICKET_MAX: usize = 4 * 1024;
/// Reason of a refusal that says when what stands above the issuer ends.
const OUTLIVES: &str = "OUTLIVES";
/// Wait after RESOURCE_EXHAUSTED without a delay.
const RETRY_DEFAULT: Duration = Duration::from_secs(1);

/// What a plugin's status means to the caller.
pub(crate) fn error(status: &Status) -> PluginError {
    let detail = shown(status.message());
    if let Some(outlives) = outlives(status) {
        return outlives;
    }
    match status.code() {
        // What the codec says here about an answer longer than it takes, or one that it cannot read.
        Code::OutOfRange if detail.contains("message length too large") => malformed(&detail),
        Code::Internal if detail.contains("failed to decode") => malformed(&detail),
        Code::ResourceExhausted => {
            let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
            PluginError::RateLimited { retry_after: told.unwrap_or(RETRY_DEFAULT) }
        }
        Code::Unavailable => PluginError::AuthorityDown { detail },
        Code::PermissionDenied
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::Unauthenticated => PluginError::Denied { reason: detail },
        Code::Unimplemented | Code::DataLoss | Code::OutOfRange => {
            PluginError::Permanent { detail }
        }
        _ => PluginError::Transient { detail },
    }
}

/// A refusal that says when what stands above ends.
fn outlives(status: &Status) -> Option<PluginError> {
    let info = status.get_details_error_info()?;
    if status.code() != Code::FailedPrecondition || info.reason != OUTLIVES {
        return None;
    }
    let ends = info.metadata.get("ends")?.parse().ok().map(Timestamp::from_secs)?;
    let above = info.metadata.get("above").map(|above| shown(above)).unwrap_or_default();
    Some(PluginError::Outlives { above, ends })
}

/// The status for an error of an authority that is served.
pub(crate) fn status(error: &PluginError) -> Status {
    let text = shown(&error.to_string());
    let code = match error {
        PluginError::RateLimited { retry_after } => {
            let details = ErrorDetails::with_retry_info(Some(*retry_after));
            return Status::with_error_details(Code::ResourceExhausted, text, details);
        }
        PluginError::Outlives { above, ends } => {
            let metadata = [("ends", ends.as_secs().to_string()), ("above", shown(above))];
            let metadata = metadata.map(|(name, value)| (name.to_owned(), value));
            let details = ErrorDetails::with_error_info(OUTLIVES, "banyan.plugin.v1", metadata);
            return Status::with_error_details(Code::FailedPrecondition, text, details);
        }
        PluginError::Transient { detail } => return Status::aborted(shown(detail)),
        PluginError::AuthorityDown { detail } => return Status::unavailable(shown(detail)),
        PluginError::Denied { reason } => return Status::failed_precondition(shown(reason)),
        PluginError::Permanent { detail } => return Status::data_loss(shown(detail)),
        PluginError::Misconfigured { .. } | PluginError::Unsafe(_) => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    Status::new(code, text)
}

pub(crate) fn root_set(set: wire::RootSet) -> Result<RootSet, PluginError> {
    let signing = match set.signing.as_slice() {
        [] => None,
        bytes => {
            Some(RootId::from_bytes(bytes).ok_or_else(|| malformed("`signing` is no SHA-256"))?)
        }
    };
    let above = set.above.map(|above| above.certificates);
    Ok(RootSet::new(set.roots, signing, set.generation).with_above(above).with_further(set.further))
}

pub(crate) fn set_message(set: RootSet) -> wire::RootSet {
    let signing = set.signing.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let above = set.above.map(|certificates| wire::Above { certificates });
    wire::RootSet {
        roots: set.roots,
        signing,
        generation: set.generation,
        above,
        further: set.further,
    }
}

pub(crate) fn health(answer: &wire::CheckResponse) -> Health {
    let detail = shown(&answer.detail);
    let health = match answer.state() {
        wire::HealthState::Ok if answer.waits => Health::waiting(detail),
        wire::HealthState::Ok => Health::ok(),
        wire::HealthState::Degraded => Health::degraded(detail),
        wire::HealthState::Down | wire::HealthState::Unspecified => Health::down(detail),
    };
    health.until((answer.earliest_expiry > 0).then(|| Timestamp::from_secs(answer.earliest_expiry)))
}

pub(crate) fn health_message(health: Health) -> wire::CheckResponse {
    let state = match health.state {
        HealthState::Ok => wire::HealthState::Ok,
        HealthState::Degraded => wire::HealthState::Degraded,
        HealthState::Down => wire::HealthState::Down,
    };
    wire::CheckResponse {
        state: state.into(),
        detail: health.detail,
        waits: health.waits,
        earliest_expiry: health.earliest_expiry.map_or(0, Timestamp::as_secs),
    }
}

pub(crate) fn issuer(
    answer: wire::SignIssuerResponse,
) -> Result<Outcome<IssuerChain>, PluginError> {
    use wire::sign_issuer_response::Outcome as Wire;
    match answer.outcome {
        Some(Wire::Chain(chain)) => Ok(Outcome::Ready(IssuerChain::new(chain.certificates))),
        Some(Wire::Pending(pending)) => later(pending),
        None => Err(malformed("neither a chain nor a ticket")),
    }
}

pub(crate) fn issuer_message(outcome: Outcome<IssuerChain>) -> wire::SignIssuerResponse {
    use wire::sign_issuer_response::Outcome as Wire;
    let outcome = match outcome {
        Outcome::Ready(chain) => {
            Wire::Chain(wire::IssuerChain { certificates: chain.certificates })
        }
        Outcome::Pending { ticket, retry_after } => Wire::Pending(pending(&ticket, retry_after)),
    };
    wire::SignIssuerResponse { outcome: Some(outcome) }
}

pub(crate) fn later<T>(pending: wire::Pending) -> Result<Outcome<T>, PluginError> {
    if pending.ticket.is_empty() || pending.ticket.len() > TICKET_MAX {
        return Err(malformed("a ticket has 1 to 4096 bytes"));
    }
    let seconds = u64::try_from(pending.retry_after_seconds).unwrap_or_default().max(1);
    Ok(Outcome::Pending {
        ticket: Ticket::new(pending.ticket),
        retry_after: Duration::from_secs(seconds),
    })
}

pub(crate) fn pending(ticket: &Ticket, retry_after: Duration) -> wire::Pending {
    wire::Pending { ticket: ticket.as_str().to_owned(), retry_after_seconds: seconds(retry_after) }
}

pub(crate) fn open_requests(
    answer: wire::OpenRequestsResponse,
) -> Result<Vec<RequestId>, PluginError> {
    let parsed =
        answer.request_ids.iter().map(|id| RequestId::parse(id)).collect::<Result<Vec<_>, _>>();
    parsed.map_err(|error| malformed(&format!("a request id: {error}")))
}

pub(crate) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

pub(crate) fn malformed(what: &str) -> PluginError {
    PluginError::Unsafe(Unsafe::Malformed { detail: what.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_meaning_over_the_wire() {
        let text = || "why".to_owned();
        for sent in [
            PluginError::RateLimited { retry_after: Duration::from_secs(7) },
            PluginError::Transient { detail: text() },
            PluginError::AuthorityDown { detail: text() },
            PluginError::Denied { reason: text() },
            PluginError::Permanent { detail: text() },
            PluginError::Outlives { above: text(), ends: Timestamp::from_secs(7) },
        ] {
            assert_eq!(error(&status(&sent)), sent);
        }
    }

    #[test]
    fn a_set_of_roots_keeps_all_its_parts_over_the_wire() {
        let set = RootSet::new(vec![vec![1]], Some(RootId::of(&[1])), 7);
        let set = set.with_above(Some(vec![vec![2]])).with_further(vec![vec![3], vec![4]]);
        assert_eq!(root_set(set_message(set.clone())), Ok(set));
    }

    #[test]
    fn answers_that_do_not_fit_are_refused() {
        assert!(issuer(wire::SignIssuerResponse { outcome: None }).is_err());
        assert!(
            open_requests(wire::OpenRequestsResponse { request_ids: vec!["a b".to_owned()] })
                .is_err()
        );
        let short = wire::RootSet { signing: vec![1], ..wire::RootSet::default() };
        assert!(root_set(short).is_err());
        assert!(
            later::<()>(wire::Pending { ticket: "t".repeat(5_000), retry_after_seconds: 1 })
                .is_err()
        );
    }
}
