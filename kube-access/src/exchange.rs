//! One request, one answer.

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper_util::client::legacy;
use kube::client::{AuthError, Body};

use crate::connection::{Connection, cause};

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answered {
    /// The status.
    pub status: StatusCode,
    /// Seconds that the server asks to wait.
    pub retry_after: Option<u32>,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum CallFailed {
    /// Nothing was sent.
    NotSent(String),
    /// It may have been done.
    NoAnswer(String),
    /// The answer is larger than what is taken.
    TooLarge,
}

/// Sends a request and reads its answer, of at most `bytes_max` bytes. It has no deadline of its own.
///
/// # Errors
/// [`CallFailed`]. Any status is an answer.
pub async fn exchanged(
    connection: &Connection,
    request: Request<Body>,
    bytes_max: usize,
) -> Result<Answered, CallFailed> {
    let server = &connection.server;
    let sent = connection.client.send(request).await;
    let (head, body) = sent.map_err(|error| failed(server, &error))?.into_parts();
    let body = match Limited::new(body, bytes_max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(CallFailed::TooLarge),
        Err(error) => {
            let why = cause(error.as_ref());
            return Err(CallFailed::NoAnswer(format!("{server} broke off its answer: {why}")));
        }
    };
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| text.parse().ok());
    Ok(Answered { status: head.status, retry_after, body })
}

fn failed(server: &str, error: &kube::Error) -> CallFailed {
    let inner = match error {
        kube::Error::Service(inner) => inner,
        kube::Error::HyperError(_) => {
            return CallFailed::NoAnswer(format!("{server} gave no answer: {}", cause(error)));
        }
        _ => return CallFailed::NotSent(format!("{server}: {}", cause(error))),
    };
    let why = cause(inner.as_ref());
    let is_unconnected =
        inner.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect);
    match is_unconnected || inner.is::<AuthError>() {
        true => CallFailed::NotSent(format!("{server} cannot be reached: {why}")),
        false => CallFailed::NoAnswer(format!("{server} gave no answer: {why}")),
    }
}

/// What a body says. What the text is stays out of the message: it may be a secret.
///
/// # Errors
/// A sentence that names the server.
pub fn parsed<T: serde::de::DeserializeOwned>(server: &str, body: &Bytes) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        format!("{server} gave an answer that is not as expected, at column {}", error.column())
    })
}
