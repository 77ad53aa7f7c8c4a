//! The whole message of a request before it takes a place among those under way.
//!
//! A client that opens a request and sends no message holds up its own connection only: it may wait in a place of its
//! connection, and never in one of the places that all share.

use std::error::Error;

use http::Request;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tonic::codegen::Bytes;

use crate::conduct::Exchange;
use crate::rejection::{MESSAGE_BYTES_MAX, Rejection};

/// Messages that one connection may be sending at a time; further ones wait. Bounds what a connection can make the
/// server keep to four times [`MESSAGE_BYTES_MAX`].
pub(crate) const READERS_PER_CONNECTION: usize = 4;
/// Methods whose requests are streams; they are handed on unread.
const STREAMING: [&str; 3] = [
    "/banyan.agent.v1.AgentService/Connect",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// gRPC writes one byte of flags and four of length before a message; one more lets its reader see that it is too long.
const FRAMING: usize = 6;

/// Reads the message, unless the method takes a stream.
pub(crate) async fn gather<B>(
    request: Request<B>,
    readers: &Semaphore,
    exchange: Option<&Exchange>,
) -> Result<Request<Body>, Rejection>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if STREAMING.contains(&request.uri().path()) {
        return Ok(request.map(Body::new));
    }
    // The semaphore lives as long as its connection and is never closed.
    let _reader = readers.acquire().await.map_err(|_| Rejection::Overloaded)?;
    let (parts, body) = request.into_parts();
    let whole =
        Limited::new(body, MESSAGE_BYTES_MAX + FRAMING).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Rejection::MessageTooLarge
            } else {
                Rejection::MessageMalformed
            }
        })?;
    let whole = whole.to_bytes();
    if let Some(exchange) = exchange {
        exchange.hold(whole.len());
    }
    Ok(Request::from_parts(parts, Body::new(Full::new(whole))))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn gathered(path: &str, len: usize) -> Result<usize, Rejection> {
        let body = Full::new(Bytes::from(vec![0; len]));
        let request = Request::post(path).body(body).unwrap();
        let whole = gather(request, &Semaphore::new(1), None).await?;
        Ok(whole.into_body().collect().await.unwrap().to_bytes().len())
    }

    #[tokio::test]
    async fn a_message_within_the_bound_is_handed_on_whole_and_a_longer_one_refused() {
        assert_eq!(gathered("/a/B", 0).await, Ok(0));
        assert_eq!(
            gathered("/a/B", MESSAGE_BYTES_MAX + FRAMING).await,
            Ok(MESSAGE_BYTES_MAX + FRAMING)
        );
        assert_eq!(
            gathered("/a/B", MESSAGE_BYTES_MAX + FRAMING + 1).await,
            Err(Rejection::MessageTooLarge)
        );
    }

    #[tokio::test]
    async fn a_stream_is_not_read() {
        let request = Request::post(STREAMING[0])
            .body(Body::new(Full::new(Bytes::from_static(b"x"))))
            .unwrap();
        let none = Semaphore::new(0);
        assert!(gather(request, &none, None).await.is_ok(), "it waits for no reader's place");
    }
}
