//! What every gRPC request passes before and after its handler: size, load, time, and refusals in one form.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service;

use crate::body::{READERS_PER_CONNECTION, gather};
use crate::conduct::Exchange;
use crate::peer::Peer;
use crate::rejection::{METADATA_BYTES_MAX, Rejection, RejectionHandler, metadata_bytes};

/// Requests that are worked on at a time for a connection on which nobody has shown a good credential: a hundred of them at
/// once on each of a hundred connections would keep everybody else waiting.
const UNKNOWN_TURNS: usize = 2;
const DETAILS_HEADER: &str = "grpc-status-details-bin";

/// The entrance to a set of gRPC services.
#[derive(Clone, Debug)]
pub struct Guard {
    routes: Routes,
    shared: Arc<Shared>,
    readers: Arc<Semaphore>,
    /// Turns of requests of a connection without a credential.
    turns: Arc<Semaphore>,
}

#[derive(Debug)]
struct Shared {
    places: Semaphore,
    within: Duration,
    rejections: Arc<dyn RejectionHandler>,
}

impl Guard {
    /// Lets `in_flight` requests through at a time, each of which must be answered `within` a time, its message included;
    /// of a stream this counts until its first header.
    pub fn new(
        routes: Routes,
        in_flight: usize,
        within: Duration,
        rejections: Arc<dyn RejectionHandler>,
    ) -> Self {
        let places = Semaphore::new(in_flight);
        let shared = Arc::new(Shared { places, within, rejections });
        Self {
            routes: routes.prepare(),
            shared,
            readers: Arc::new(Semaphore::new(READERS_PER_CONNECTION)),
            turns: Arc::new(Semaphore::new(UNKNOWN_TURNS)),
        }
    }

    /// The same entrance for one more connection, which reads messages in places of its own.
    pub fn for_connection(&self) -> Self {
        Self {
            readers: Arc::new(Semaphore::new(READERS_PER_CONNECTION)),
            turns: Arc::new(Semaphore::new(UNKNOWN_TURNS)),
            ..self.clone()
        }
    }
}

impl<B> Service<Request<B>> for Guard
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let peer = request.extensions().get::<Peer>().cloned();
        let exchange = request.extensions().get::<Arc<Exchange>>().cloned();
        let turns = Arc::clone(&self.turns);
        if exchange.as_ref().is_some_and(|exchange| exchange.is_too_many()) {
            return Box::pin(async move {
                let _turn = turn(&turns, exchange.as_deref()).await;
                Ok(shared.reject(Rejection::Overloaded, peer.as_ref()))
            });
        }
        if metadata_bytes(request.headers()) > METADATA_BYTES_MAX {
            return Box::pin(async move {
                Ok(shared.reject(Rejection::MetadataTooLarge, peer.as_ref()))
            });
        }
        // The clone stays; the one that said it is ready is called.
        let next = self.routes.clone();
        let mut routes = std::mem::replace(&mut self.routes, next);
        let readers = Arc::clone(&self.readers);
        Box::pin(async move {
            let answered = tokio::time::timeout(shared.within, async {
                let request = gather(request, &readers, exchange.as_deref()).await?;
                let _turn = turn(&turns, exchange.as_deref()).await;
                let _place = shared.places.try_acquire().map_err(|_| Rejection::Overloaded)?;
                match routes.call(request).await {
                    Ok(response) => Ok(response),
                    Err(never) => match never {},
                }
            });
            Ok(match answered.await {
                Ok(Ok(response)) => shared.in_one_form(response, peer.as_ref()),
                Ok(Err(rejection)) => shared.reject(rejection, peer.as_ref()),
                Err(_) => shared.reject(Rejection::TimedOut, peer.as_ref()),
            })
        })
    }
}

/// Waits for a turn, while nobody on the connection is known. Whoever waited when somebody was believed goes on at once.
async fn turn<'a>(
    turns: &'a Semaphore,
    exchange: Option<&Exchange>,
) -> Option<SemaphorePermit<'a>> {
    let exchange = exchange.filter(|exchange| !exchange.is_known())?;
    // The semaphore is never closed.
    turns.acquire().await.ok().filter(|_| !exchange.is_known())
}

impl Shared {
    fn reject(&self, rejection: Rejection, peer: Option<&Peer>) -> Response<Body> {
        self.rejections.rejected(rejection, peer).into_http()
    }

    /// The gRPC library refuses oversized and undecodable messages by itself, with codes that make clients repeat them
    /// and without a reason. Handlers always give a reason, so a refusal without one is the library's.
    fn in_one_form(&self, response: Response<Body>, peer: Option<&Peer>) -> Response<Body> {
        let headers = response.headers();
        if !headers.contains_key("grpc-status") || headers.contains_key(DETAILS_HEADER) {
            return response;
        }
        match Status::from_header_map(headers).map(|status| status.code()) {
            Some(Code::OutOfRange) => self.reject(Rejection::MessageTooLarge, peer),
            Some(Code::Internal) => self.reject(Rejection::MessageMalformed, peer),
            _ => response,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::routing::post;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tower::ServiceExt as _;

    use super::*;

    #[derive(Debug, Default)]
    struct Notes(Mutex<Vec<Rejection>>);

    impl RejectionHandler for Notes {
        fn rejected(&self, rejection: Rejection, _peer: Option<&Peer>) -> Status {
            self.0.lock().unwrap().push(rejection);
            Status::failed_precondition("turned away")
        }
    }

    fn guard(in_flight: usize, answer: fn() -> Response<Body>) -> (Guard, Arc<Notes>) {
        let router = axum::Router::new()
            .route("/now", post(move || async move { answer() }))
            .route("/never", post(std::future::pending::<()>));
        let notes = Arc::new(Notes::default());
        let guard =
            Guard::new(Routes::from(router), in_flight, Duration::from_secs(10), notes.clone());
        (guard, notes)
    }

    fn request(path: &str) -> Request<Body> {
        Request::post(path).body(Body::empty()).unwrap()
    }

    fn fine() -> Response<Body> {
        Response::new(Body::empty())
    }

    #[tokio::test]
    async fn metadata_over_its_bound_is_turned_away_and_below_it_passes() {
        let (guard, notes) = guard(1, fine);
        for (len, passes) in [(METADATA_BYTES_MAX - 100, true), (METADATA_BYTES_MAX, false)] {
            let mut request = request("/now");
            request.headers_mut().insert("x", "v".repeat(len).parse().unwrap());
            guard.clone().oneshot(request).await.unwrap();
            assert_eq!(notes.0.lock().unwrap().is_empty(), passes);
        }
        assert_eq!(*notes.0.lock().unwrap(), [Rejection::MetadataTooLarge]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_too_many_is_turned_away_and_a_slow_one_cut() {
        let (guard, notes) = guard(1, fine);
        let slow = tokio::spawn(guard.clone().oneshot(request("/never")));
        tokio::task::yield_now().await;
        guard.clone().oneshot(request("/now")).await.unwrap();
        assert_eq!(*notes.0.lock().unwrap(), [Rejection::Overloaded]);
        slow.await.unwrap().unwrap();
        assert_eq!(*notes.0.lock().unwrap(), [Rejection::Overloaded, Rejection::TimedOut]);
        guard.oneshot(request("/now")).await.unwrap();
        assert_eq!(notes.0.lock().unwrap().len(), 2, "the place is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_without_a_message_hold_up_only_their_own_connection() {
        let (guard, notes) = guard(1, fine);
        let silent = || {
            let body = Body::new(StreamBody::new(futures::stream::pending::<
                Result<Frame<Bytes>, Status>,
            >()));
            Request::post("/now").body(body).unwrap()
        };
        let untrusted = guard.for_connection();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..100 {
            waiting.spawn(untrusted.clone().oneshot(silent()));
        }
        tokio::task::yield_now().await;
        guard.for_connection().oneshot(request("/now")).await.unwrap();
        assert!(notes.0.lock().unwrap().is_empty(), "another connection's request found a place");
        while waiting.join_next().await.is_some() {}
        assert_eq!(*notes.0.lock().unwrap(), [Rejection::TimedOut; 100]);
    }

    #[tokio::test]
    async fn refusals_of_the_library_get_our_form_and_those_with_a_reason_stay() {
        for (answer, expected) in [
            (
                (|| Status::out_of_range("too large").into_http()) as fn() -> _,
                Some(Rejection::MessageTooLarge),
            ),
            (
                || Status::internal("failed to decode").into_http(),
                Some(Rejection::MessageMalformed),
            ),
            (|| Status::with_details(Code::Internal, "ours", "reason".into()).into_http(), None),
            (|| Status::unimplemented("no such method").into_http(), None),
        ] {
            let (guard, notes) = guard(1, answer);
            guard.oneshot(request("/now")).await.unwrap();
            assert_eq!(notes.0.lock().unwrap().first().copied(), expected);
        }
    }
}
