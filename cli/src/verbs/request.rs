//! Names of requests: with one, a command that is repeated is carried out once.

use console::exit::{Failure, Told, from_status, reason};
use console::output;
use tonic::{Code, Status};
use trust::randomness::random_bytes;

/// How a server says that it does not know itself whether a change was stored.
const RECORD_UNKNOWN: &str = "RECORD_UNKNOWN";

/// The name that the user gave to this request, or a random one that begins with what it is.
pub(crate) fn request_id(given: Option<&str>, kind: &str) -> String {
    given.map_or_else(|| random_id(kind), str::to_owned)
}

/// A name for a request.
fn random_id(kind: &str) -> String {
    let random: [u8; 8] = random_bytes(&host::OsRandomness::new());
    format!("{kind}-{}", output::hex(&random))
}

/// A request whose answer was lost may have been carried out; one that a server answered was, or was not, as it says.
pub(crate) fn lost_or_refused(status: &Status, request_id: &str) -> Failure {
    let message = match (status.code(), reason(status).as_deref()) {
        (_, Some(RECORD_UNKNOWN)) => status.message().to_owned(),
        (Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled, None) => format!(
            "the connection broke before the answer, so it is unknown whether this was done: {}",
            status.message()
        ),
        _ => return from_status(status),
    };
    Failure::Unknown(Told::new(message).advising(format!(
        "repeat the command with --request-id {request_id}, which is carried out only once; `banyan rotate status` shows \
         what came of it"
    )))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn said(reason: &str, text: &str) -> Status {
        let details = ErrorDetails::with_error_info(reason, "banyan", HashMap::new());
        Status::with_error_details(Code::Unavailable, text, details)
    }

    #[test]
    fn a_server_that_answers_is_believed_whether_it_did_nothing_or_does_not_know() {
        let text = "nothing changed: the record store failed";
        let nothing = lost_or_refused(&said("RECORD_UNAVAILABLE", text), "r-1");
        assert_eq!((nothing.code(), nothing.to_string().as_str()), (4, text));
        let text = "it is unknown whether the change was stored";
        let unknown = lost_or_refused(&said(RECORD_UNKNOWN, text), "r-1");
        assert!(unknown.code() == 6 && unknown.to_string().starts_with(text), "{unknown}");
        assert!(unknown.to_string().contains("--request-id r-1"), "{unknown}");
        assert!(!unknown.to_string().contains("the connection broke"), "{unknown}");
    }

    #[test]
    fn an_answer_that_was_lost_is_unknown_and_a_refusal_is_one() {
        let lost = lost_or_refused(&Status::unavailable("broken pipe"), "r-1");
        assert!(lost.code() == 6 && lost.to_string().contains("--request-id r-1"), "{lost}");
        assert_eq!(lost_or_refused(&Status::permission_denied("no"), "r-1").code(), 4);
    }
}
