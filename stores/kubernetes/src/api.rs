//! One request, one answer, one deadline.

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper_util::client::legacy;
use kube::client::{AuthError, Body};
use tokio::time::{Instant, timeout_at};

use crate::answer::Answer;
use crate::call::Call;
use crate::connection::{Connection, Connections, cause};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum CallFailed {
    /// Nothing was sent.
    NotSent(String),
    /// It may have been done.
    NoAnswer(String),
    /// The answer is larger than what is taken.
    TooLarge,
}

/// Asks once, and once more where nothing was done: when the credentials are refused, for they are read anew, and for a
/// reading also when the connection broke. Both within one deadline.
pub(crate) async fn ask(connections: &Connections, call: &Call) -> Result<Answer, CallFailed> {
    let deadline = Instant::now() + connections.settings().call_timeout;
    let first = once(connections, call, deadline).await;
    let again = match &first {
        Ok(answer) => answer.status == StatusCode::UNAUTHORIZED,
        Err(CallFailed::NotSent(_) | CallFailed::NoAnswer(_)) => call.verb.is_reading(),
        Err(CallFailed::TooLarge) => false,
    };
    if again && Instant::now() < deadline {
        return once(connections, call, deadline).await;
    }
    first
}

async fn once(
    connections: &Connections,
    call: &Call,
    deadline: Instant,
) -> Result<Answer, CallFailed> {
    let settings = connections.settings();
    let within = settings.call_timeout.as_secs_f32();
    let late = |_| format!("no connection to the API of Kubernetes within {within} s");
    let opened = timeout_at(deadline, connections.one()).await.map_err(late).flatten();
    let connection = opened.map_err(CallFailed::NotSent)?;
    let asked = timeout_at(deadline, exchanged(&connection, call, &settings.namespace)).await;
    let late = |_| {
        let server = &connection.server;
        Err(CallFailed::NoAnswer(format!("{server} gave no answer within {within} s")))
    };
    let answer = asked.unwrap_or_else(late);
    let is_refused = matches!(&answer, Ok(answer) if answer.status == StatusCode::UNAUTHORIZED);
    let is_broken = matches!(answer, Err(CallFailed::NotSent(_) | CallFailed::NoAnswer(_)));
    if is_refused || is_broken {
        connections.leave(&connection);
    }
    answer
}

async fn exchanged(
    connection: &Connection,
    call: &Call,
    namespace: &str,
) -> Result<Answer, CallFailed> {
    let server = &connection.server;
    let request: Request<Body> = call.request(namespace).map_err(CallFailed::NotSent)?;
    let sent = connection.client.send(request).await;
    let (head, body) = sent.map_err(|error| failed(server, &error))?.into_parts();
    let body = match Limited::new(body, call.answer_bytes_max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(CallFailed::TooLarge),
        Err(error) => {
            let why = cause(error.as_ref());
            return Err(CallFailed::NoAnswer(format!("{server} broke off its answer: {why}")));
        }
    };
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|text| text.parse().ok());
    Ok(Answer { server: server.clone(), status: head.status, retry_after, body })
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

/// What a body says.
pub(crate) fn parsed<T: serde::de::DeserializeOwned>(
    server: &str,
    body: &Bytes,
) -> Result<T, String> {
    // What the text is stays out of the message: it may be a secret.
    serde_json::from_slice(body).map_err(|error| {
        format!("{server} gave an answer that is not as expected, at column {}", error.column())
    })
}
