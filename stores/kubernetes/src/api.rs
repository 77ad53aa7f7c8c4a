//! One request, one answer, one deadline.

use http::StatusCode;
pub(crate) use kube_access::{Answered, CallFailed, parsed};
use tokio::time::{Instant, timeout_at};

use crate::answer::Answer;
use crate::call::Call;
use crate::connection::{Connection, Connections};

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
    let request = call.request(namespace).map_err(CallFailed::NotSent)?;
    let answered = kube_access::exchanged(connection, request, call.answer_bytes_max).await?;
    let Answered { status, retry_after, body } = answered;
    Ok(Answer { server: connection.server.clone(), status, retry_after, body })
}
