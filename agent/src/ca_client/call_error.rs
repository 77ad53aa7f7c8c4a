//! A call that brought nothing: who failed, and whether another address of the CA may do better.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::tls;

/// The CA's reason for an agent that is not in its registry, or with another key.
const UNKNOWN: &str = "AGENT_UNKNOWN";
/// The CA's reason for an agent that is banned.
const BANNED: &str = "AGENT_BANNED";
/// The CA's reason for a certificate that an operator took for gone, the first time that it is shown.
const FORGOTTEN: &str = "CERTIFICATE_FORGOTTEN";
/// The CA's reason where certificate and token of a call do not name the same caller.
const DISAGREE: &str = "CREDENTIALS_DISAGREE";

/// The CA's reasons that pass by themselves within moments: nobody is left for them.
const PASSING: [&str; 1] = ["HORIZON_BEHIND"];

/// How a place failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// It could not be reached, nobody answered, or not the CA.
    NoAnswer,
    /// Its server answered that it cannot serve.
    CannotServe,
}

/// A call that brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// There is no bundle yet, so the CA cannot be told from an impostor.
    #[error("the CA is not known yet: first contact has not been made")]
    NoTrust,
    /// There is no live certificate of the agent's own yet.
    #[error("this agent has no live certificate of its own yet")]
    NoCredential,
    /// What proves the node of the agent is no text of a header.
    #[error("the JWT cannot go into a header")]
    Header,
    /// The channel cannot be set up.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The address is no address.
    #[error("the address of the CA cannot be used: {0}")]
    Address(String),
    /// No name of the CA leads anywhere.
    #[error("no address of the CA can be resolved: {}", .0.join("; "))]
    Unresolved(Vec<String>),
    /// The CA said no, or could not be asked.
    #[error("{}", said(.address, .status))]
    Refused {
        /// Where it was asked.
        address: String,
        /// What was said.
        status: Box<Status>,
    },
}

impl CallError {
    /// Whether the CA itself judged the credential and refused it.
    fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == Code::Unauthenticated)
    }

    /// Whether the CA judged the caller, and said no for good.
    pub(crate) fn is_refusal(&self) -> bool {
        let for_good = |code| matches!(code, Code::Unauthenticated | Code::PermissionDenied);
        matches!(self, Self::Refused { status, .. } if for_good(status.code()))
    }

    /// The reason that the CA gave, such as `AGENT_UNKNOWN`.
    fn reason(&self) -> Option<String> {
        let Self::Refused { status, .. } = self else { return None };
        Some(status.get_details_error_info()?.reason)
    }

    /// Whether the certificate and the token of a call are not of the same agent: the node, or its cluster, has another name now.
    pub(crate) fn disagrees(&self) -> bool {
        self.reason().as_deref() == Some(DISAGREE)
    }

    /// Whether an operator of the CA banned this agent.
    pub(crate) fn is_ban(&self) -> bool {
        self.reason().as_deref() == Some(BANNED)
    }

    /// Whether the CA does not take this agent for a member with the certificate that it showed: it was removed from the
    /// registry, or the certificate is not one that counts. A certificate that was forgotten counts again once it was shown.
    pub(crate) fn turns_away(&self) -> bool {
        match self.reason().as_deref() {
            Some(UNKNOWN) => true,
            Some(FORGOTTEN) => false,
            _ => self.is_unauthenticated(),
        }
    }

    /// What the CA said, without where it was asked.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Refused { status, .. } => told(status),
            other => other.to_string(),
        }
    }

    /// Whether the CA wants its bundle stored before it gives a leaf.
    pub(crate) fn is_behind(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == Code::Aborted)
    }

    /// Whether the CA could not be reached, or not believed, or cannot serve. A call whose time is over ends as cancelled.
    pub(crate) fn is_unreachable(&self) -> bool {
        let away = |code| {
            matches!(
                code,
                Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled
            )
        };
        match self {
            Self::Unresolved(_) => true,
            Self::Refused { status, .. } => away(status.code()),
            _ => false,
        }
    }

    /// Whether another address of the CA may do what this one did not. A refusal is the CA's, wherever it is asked; a server
    /// with too much to do is not left, since the others would have it next.
    pub(crate) fn leaves(&self) -> bool {
        let passes = || self.reason().is_some_and(|reason| PASSING.contains(&reason.as_str()));
        self.is_unreachable() && !passes()
    }

    /// How a place failed that is left for this.
    pub(crate) fn way(&self) -> Way {
        match self {
            Self::Refused { status, .. }
                if status.code() == Code::Unavailable
                    && std::error::Error::source(status.as_ref()).is_none() =>
            {
                Way::CannotServe
            }
            _ => Way::NoAnswer,
        }
    }

    /// Whether somebody answered whose certificate is not believed.
    pub(crate) fn is_distrust(&self) -> bool {
        let Self::Refused { status, .. } = self else { return false };
        let mut cause = std::error::Error::source(status.as_ref());
        while let Some(error) = cause {
            let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            let of_tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if matches!(of_tls, Some(rustls::Error::InvalidCertificate(_))) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// Who failed: the CA that answered, or the way to it.
fn said(address: &str, status: &Status) -> String {
    let told = told(status);
    let Some(source) = std::error::Error::source(status) else {
        let did = match status.code() {
            Code::Unavailable
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::DeadlineExceeded => "cannot answer now",
            Code::Cancelled => "gave no answer",
            Code::Unknown | Code::Internal | Code::DataLoss | Code::Ok => "failed",
            _ => "refused",
        };
        return format!("the CA at {address} {did}: {told}");
    };
    match (source.is::<tonic::transport::Error>(), status.code()) {
        (true, _) => format!("the CA at {address} cannot be reached: {told}"),
        (false, Code::DeadlineExceeded) => format!("the CA at {address} gave no answer: {told}"),
        (false, _) => format!("the connection to the CA at {address} ended: {told}"),
    }
}

/// The message of a status with the causes below it, which tonic keeps apart.
fn told(status: &Status) -> String {
    let mut text = status.message().chars().take(256).collect::<String>();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        // A cause that its error has told already, at its end or above what follows.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.chars().take(512).collect()
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;

    use super::*;
    use crate::ca_client::client;
    use proto::banyan::agent::v1 as wire;

    #[tokio::test]
    async fn a_connection_that_nobody_takes_is_told_as_that_and_not_as_an_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        let status =
            client(channel).get_bundle(wire::GetBundleRequest::default()).await.unwrap_err();
        let text = said(&address, &status);
        assert!(text.starts_with(&format!("the CA at {address} cannot be reached: ")), "{text}");
        assert_eq!(text.matches("Connection refused").count(), 1, "{text}");
        let busy = said("ca:1", &Status::unavailable("retry in 2 s"));
        assert_eq!(busy, "the CA at ca:1 cannot answer now: retry in 2 s");
        let refused = said("ca:1", &Status::permission_denied("this agent is banned"));
        assert_eq!(refused, "the CA at ca:1 refused: this agent is banned");
    }

    #[test]
    fn a_refusal_says_by_its_reason_whether_the_agent_is_a_member() {
        let refused = |code, reason: &str| {
            let details = tonic_types::ErrorDetails::with_error_info(
                reason,
                "banyan",
                std::collections::HashMap::new(),
            );
            let status = Box::new(Status::with_error_details(code, "no", details));
            CallError::Refused { address: "ca:1".to_owned(), status }
        };
        let of = |error: CallError| (error.turns_away(), error.is_ban());
        assert_eq!(of(refused(Code::PermissionDenied, "AGENT_UNKNOWN")), (true, false));
        assert_eq!(of(refused(Code::Unauthenticated, "CERTIFICATE_NOT_ISSUED")), (true, false));
        assert_eq!(of(refused(Code::Unauthenticated, "CERTIFICATE_FORGOTTEN")), (false, false));
        assert_eq!(of(refused(Code::PermissionDenied, "AGENT_BANNED")), (false, true));
        assert_eq!(of(refused(Code::PermissionDenied, "IDENTITY_NOT_ENTITLED")), (false, false));
    }

    #[test]
    fn a_server_that_cannot_serve_is_left_and_one_that_refuses_or_has_too_much_to_do_is_not() {
        let leaves = |code, reason: &str| {
            let details = tonic_types::ErrorDetails::with_error_info(
                reason,
                "banyan",
                std::collections::HashMap::new(),
            );
            let status = Box::new(Status::with_error_details(code, "no", details));
            CallError::Refused { address: "ca:1".to_owned(), status }.leaves()
        };
        for reason in ["CLOCK_DIVERGED", "NOT_READY", "LEDGER_WRITE_FAILED"] {
            assert!(leaves(Code::Unavailable, reason), "{reason}");
        }
        assert!(leaves(Code::Cancelled, "") && leaves(Code::DeadlineExceeded, ""));
        assert!(!leaves(Code::Unavailable, "HORIZON_BEHIND"), "it passes within a moment");
        for code in [
            Code::PermissionDenied,
            Code::InvalidArgument,
            Code::Unauthenticated,
            Code::FailedPrecondition,
            Code::ResourceExhausted,
            Code::Aborted,
        ] {
            assert!(!leaves(code, ""), "{code:?}");
        }
    }
}
