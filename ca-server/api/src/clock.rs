//! An operator's word about the wall clock.

use std::sync::Arc;

use auth::refusal::{Reason, Refusal};
use proto::banyan::admin::v1::{AcceptClockRequest, AcceptClockResponse};
use rotation::Event;
use trust::Accepted;

use crate::words;
use control::ca::Ca;

/// Believes the wall clock as it is. Journaled first: there is no word without a trace.
pub(crate) async fn accept(
    ca: &Ca,
    message: AcceptClockRequest,
    caller: &str,
) -> Result<AcceptClockResponse, Refusal> {
    let AcceptClockRequest { by, reason } = message;
    let word = words::full_word(&by, &reason, caller)?;
    let diverged = match ca.clock.agreed() {
        Ok(agreed) => {
            let (wall, expected) = (agreed.wall.as_secs(), agreed.earlier.as_secs());
            return Ok(AcceptClockResponse { wall, expected, ..AcceptClockResponse::default() });
        }
        Err(diverged) => diverged,
    };
    let (wall, expected) = (diverged.wall, diverged.expected);
    let (by, reason) = (word.by.clone(), word.reason.clone());
    let event = Event::ClockAccepted { by: by.clone(), reason: reason.clone(), wall, expected };
    let journaled = ca.driver.submit_as(event, word).await;
    journaled.map_err(|error| words::not_submitted(&error))?;
    let guard = Arc::clone(&ca.guard);
    let accepted = tokio::task::spawn_blocking(move || guard.accept()).await;
    let accepted =
        accepted.map_err(|error| Refusal::new(Reason::InternalDefect, error.to_string()))?;
    let accepted = accepted.map_err(|error| {
        let text = format!("the clock could not be noted in the data directory: {error}");
        Refusal::advised(Reason::RecordUnavailable, text, "check the disk, then repeat the command")
    })?;
    tracing::warn!(%wall, %expected, by, reason, ?accepted, "an operator accepted the wall clock");
    Ok(AcceptClockResponse {
        wall: wall.as_secs(),
        expected: expected.as_secs(),
        diverged: true,
        restart_needed: accepted == Accepted::AfterRestart,
    })
}
