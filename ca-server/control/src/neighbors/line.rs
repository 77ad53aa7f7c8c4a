//! The line to a neighbor: what it says is heard, and what it is told is sent.

use std::time::Duration;

use plugins::{CallContext, DownstreamReport, RequestId, UpstreamCa, UpstreamState};
use tokio::sync::watch;

/// Wait before a neighbor is asked again after an error; doubled each time.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a report may take.
const REPORT_WITHIN: Duration = Duration::from_secs(5);

/// What a neighbor said last, and what is in the way of hearing it.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    pub(super) state: Option<UpstreamState>,
    pub(super) trouble: Option<String>,
}

/// Keeps `told` at what the neighbor says, until it is dropped.
pub(super) async fn listen(upstream: &dyn UpstreamCa, told: &watch::Sender<Heard>) {
    let (mut seen, mut pause) = (None, RETRY);
    loop {
        match upstream.state(seen).await {
            // Nobody has no root: that would end the trust in all of them.
            Ok(state) if state.roots.is_empty() => {
                seen = None;
                told.send_modify(|heard| heard.trouble = Some("it names no root".to_owned()));
                pause = waited(pause).await;
            }
            Ok(state) => {
                (seen, pause) = (Some(state.generation), RETRY);
                told.send_replace(Heard { state: Some(state), trouble: None });
            }
            Err(error) => {
                // What it answers next is heard, whether it has changed or not.
                seen = None;
                told.send_modify(|heard| heard.trouble = Some(error.to_string()));
                pause = waited(pause).await;
            }
        }
    }
}

/// Waits, and answers how long to wait the next time.
async fn waited(pause: Duration) -> Duration {
    tokio::time::sleep(pause).await;
    pause.saturating_mul(2).min(RETRY_MAX)
}

/// Tells the neighbor; the error is why it did not take it.
pub(super) async fn send(
    upstream: &dyn UpstreamCa,
    report: &DownstreamReport,
) -> Result<(), String> {
    let request_id = RequestId::parse("neighbor-report").map_err(|error| error.to_string())?;
    let context = CallContext::new(request_id, REPORT_WITHIN);
    match tokio::time::timeout(REPORT_WITHIN, upstream.report(&context, report)).await {
        Ok(taken) => taken.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", REPORT_WITHIN.as_secs())),
    }
}
