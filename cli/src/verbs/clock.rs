//! `banyan clock accept`.

use console::exit::{Failure, from_status};
use console::output;
use proto::banyan::admin::v1::{AcceptClockRequest, AcceptClockResponse};
use serde_json::json;

use crate::admin_client;
use crate::args::{ClockAcceptOptions, ClockAction, ClockOptions};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses.
pub async fn run(options: &ClockOptions) -> Result<(), Failure> {
    match &options.action {
        ClockAction::Accept(options) => accept(options).await,
    }
}

async fn accept(options: &ClockAcceptOptions) -> Result<(), Failure> {
    let mut client = admin_client::connect(&options.target).await?;
    let request = AcceptClockRequest { by: options.word.by(), reason: options.word.reason.clone() };
    let answer =
        client.accept_clock(request).await.map_err(|status| from_status(&status))?.into_inner();
    if options.json {
        return output::json(&json!({
            "wall": output::time(answer.wall),
            "expected": output::time(answer.expected),
            "diverged": answer.diverged,
            "restart_needed": answer.restart_needed,
        }));
    }
    output::line(&in_words(&answer))
}

fn in_words(answer: &AcceptClockResponse) -> String {
    let (wall, expected) = (output::time(answer.wall), output::time(answer.expected));
    match (answer.diverged, answer.restart_needed) {
        (false, _) => format!("the wall clock was trusted already: {wall}"),
        (true, false) => format!("accepted: it is {wall}, not {expected}; issuance continues"),
        (true, true) => format!(
            "accepted: it is {wall}, not {expected}; restart the server now, so that it reads its ledger again and continues to issue"
        ),
    }
}
