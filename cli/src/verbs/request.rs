//! Names of requests: with one, a command that is repeated is carried out once.

use console::exit::{Failure, Told, from_status};
use console::output;
use trust::randomness::random_bytes;

/// The name that the user gave to this request, or a random one that begins with what it is.
pub(crate) fn request_id(given: Option<&str>, kind: &str) -> String {
    given.map_or_else(|| random_id(kind), str::to_owned)
}

/// A name for a request.
fn random_id(kind: &str) -> String {
    let random: [u8; 8] = random_bytes(&host::OsRandomness::new());
    format!("{kind}-{}", output::hex(&random))
}

/// A request whose answer was lost may have been carried out.
pub(crate) fn lost_or_refused(status: &tonic::Status, request_id: &str) -> Failure {
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
            let told = Told::new(format!(
                "the connection broke before the answer, so it is unknown whether this was done: {}",
                status.message()
            ));
            Failure::Unknown(told.advising(format!(
                "repeat the command with --request-id {request_id}, which is carried out only once"
            )))
        }
        _ => from_status(status),
    }
}
