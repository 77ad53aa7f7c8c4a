//! Serving the webhook, and saying how it is.
//!
//! Until there is a certificate the port is taken and refuses connections, so that an API server asks another process at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{self, Body};
use axum::extract::Request;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::leaf::{self, Leaf};
use super::places::{Place, Places, Progress};
use super::review;
use crate::board::Part;
use crate::config::InjectConfig;
use crate::world::World;

/// Path of the webhook.
const PATH: &str = "/inject";
/// Connections at a time; when all are taken, one goes that has brought no review.
const CONNECTIONS_MAX: usize = 64;
/// Reviews that are read at a time.
const REVIEWS_MAX: usize = 16;
/// Most bytes of a review: the API server takes objects of 3 MiB.
const REVIEW_BYTES_MAX: usize = 4 * 1024 * 1024;
const BACKLOG: u32 = 128;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
const REVIEW_WITHIN: Duration = Duration::from_secs(5);
/// Longest life of a connection, which is for one review.
const CONNECTION_WITHIN: Duration = Duration::from_secs(10);
/// How often is looked whether a leaf is due, while nothing changes: at least, and at most.
const LOOK_EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// A place that is taken, and refuses connections until it is listened at.
pub(crate) struct Reserved {
    socket: TcpSocket,
    pub(crate) address: SocketAddr,
}

impl Reserved {
    pub(crate) fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { address: socket.local_addr()?, socket })
    }
}

/// What serves the webhook.
pub(crate) struct Injector {
    world: World,
    config: Arc<InjectConfig>,
    part: Part,
    tasks: TaskTracker,
}

type Served = watch::Sender<Option<Arc<Leaf>>>;

impl Injector {
    pub(crate) fn new(world: World, config: InjectConfig, tasks: TaskTracker) -> Self {
        let part = world.board.part("inject");
        Self { world, config: Arc::new(config), part, tasks }
    }

    /// Serves until it is stopped.
    pub(crate) async fn run(self, place: Reserved) {
        let stop = self.world.stop.clone();
        let (served, leaf) = watch::channel(None);
        let both = async { tokio::join!(self.keep(&served), self.accept(place, leaf)) };
        stop.run_until_cancelled(both).await;
    }

    /// Has a leaf that is good, always.
    async fn keep(&self, served: &Served) {
        let (mut ca, mut formers) = (self.world.ca.known(), Vec::new());
        loop {
            let trust = ca.borrow_and_update().trust.clone();
            let now = self.world.clock.now();
            let held = served.borrow().clone();
            let mut trouble = None;
            if let Some(trust) = &trust
                && held.as_ref().is_none_or(|leaf| leaf.is_due(trust, now))
            {
                match Leaf::obtain(&self.world, trust, &self.config).await {
                    Ok(leaf) => {
                        let leaf = Arc::new(leaf);
                        served.send_replace(Some(Arc::clone(&leaf)));
                        formers.extend(held.as_ref().map(|former| former.retired()));
                    }
                    Err(why) => trouble = Some(why),
                }
            }
            if let Some(trust) = &trust {
                leaf::forget(&self.world, trust, &mut formers).await;
            }
            let held = served.borrow().clone();
            self.tell(held.as_deref(), trouble);
            let [soonest, latest] = LOOK_EVERY;
            let due = held.map_or(soonest, |leaf| leaf.due_in(now));
            let _ = timeout(due.clamp(soonest, latest), ca.changed()).await;
        }
    }

    fn tell(&self, leaf: Option<&Leaf>, trouble: Option<String>) {
        let name = self.config.dns_name();
        let why = trouble.unwrap_or_else(|| "the CA was not heard yet".to_owned());
        match leaf {
            None => self.part.stuck(format!(
                "has no certificate for {name}, and no Pod that asks for an agent is made if no other process has one: {why}"
            )),
            Some(leaf) if leaf.not_after <= self.world.clock.now() => self.part.stuck(format!(
                "the certificate for {name} ended at {}, and no Pod that asks for an agent is made if no other process has a better one: {why}",
                leaf.not_after
            )),
            Some(leaf) => {
                self.part.ready(format!("serves {name}, with a certificate until {}", leaf.not_after));
            }
        }
    }

    async fn accept(&self, place: Reserved, mut leaf: watch::Receiver<Option<Arc<Leaf>>>) {
        if leaf.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let listener = match place.socket.listen(BACKLOG) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, address = %place.address, "the webhook cannot be listened for");
                return;
            }
        };
        tracing::info!(address = %place.address, "the webhook is served");
        let (places, reviews) =
            (Places::new(CONNECTIONS_MAX), Arc::new(Semaphore::new(REVIEWS_MAX)));
        let desk = Desk {
            world: self.world.clone(),
            config: Arc::clone(&self.config),
            places: places.clone(),
            reviews,
        };
        loop {
            // What fails is the one connection, or descriptors are short: then others must end first.
            let Ok((stream, from)) = listener.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let Some(place) = places.take(from.ip().to_canonical()).await else { return };
            let Some(leaf) = leaf.borrow().clone() else { continue };
            let (desk, stop) = (desk.clone(), self.world.stop.clone());
            self.tasks.spawn(async move {
                let served = place.ends.run_until_cancelled(connection(stream, leaf, desk, &place));
                stop.run_until_cancelled(served).await;
            });
        }
    }
}

/// What answers one review.
#[derive(Clone)]
struct Desk {
    world: World,
    config: Arc<InjectConfig>,
    places: Places,
    reviews: Arc<Semaphore>,
}

async fn connection(stream: TcpStream, leaf: Arc<Leaf>, desk: Desk, place: &Place) {
    let accepted = TlsAcceptor::from(Arc::clone(&leaf.tls)).accept(stream);
    // Whoever does not believe the certificate says so to whoever sent it.
    let Ok(Ok(stream)) = timeout(HANDSHAKE_WITHIN, accepted).await else { return };
    drop(leaf);
    let progress = place.progress.clone();
    let answer = move |request: Request| {
        let (desk, progress) = (desk.clone(), progress.clone());
        async move { desk.answer(request, &progress).await }
    };
    let service = TowerToHyperService::new(Router::new().fallback(answer));
    let mut server = auto::Builder::new(TokioExecutor::new());
    // One review for each: a connection that is kept may end while the next review is on its way, which is then lost.
    server.http1().keep_alive(false);
    let serving = server.serve_connection(TokioIo::new(stream), service);
    let _ = timeout(CONNECTION_WITHIN, serving).await;
}

impl Desk {
    async fn answer(&self, request: Request, progress: &Progress) -> Response<Body> {
        if request.method() != Method::POST || request.uri().path() != PATH {
            return said(StatusCode::NOT_FOUND, format!("there is POST {PATH}\n"));
        }
        match timeout(REVIEW_WITHIN, self.reviewed(request, progress)).await {
            Ok(answer) => answer,
            Err(_) => said(StatusCode::REQUEST_TIMEOUT, "the review came too slowly\n".to_owned()),
        }
    }

    async fn reviewed(&self, request: Request, progress: &Progress) -> Response<Body> {
        let turn = match self.reviews.try_acquire() {
            Ok(turn) => Ok(turn),
            Err(_) => {
                self.places.end_one_that_reads();
                self.reviews.acquire().await
            }
        };
        let Ok(_turn) = turn else {
            return said(StatusCode::SERVICE_UNAVAILABLE, "it is stopping\n".to_owned());
        };
        progress.reads();
        let read = body::to_bytes(request.into_body(), REVIEW_BYTES_MAX).await;
        let Ok(review) = read else {
            self.world.metrics.admitted("malformed");
            let text = format!("a review has at most {REVIEW_BYTES_MAX} bytes\n");
            return said(StatusCode::PAYLOAD_TOO_LARGE, text);
        };
        progress.reviews();
        let Some(trust) = self.world.ca.trust() else {
            return said(StatusCode::SERVICE_UNAVAILABLE, "the CA was not heard yet\n".to_owned());
        };
        match review::answered(&review, &self.config, &trust.trust_domain) {
            Ok(answer) => {
                self.world.metrics.admitted(answer.outcome);
                let mut response = said(StatusCode::OK, answer.body.to_string());
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                response
            }
            Err(why) => {
                self.world.metrics.admitted("malformed");
                said(StatusCode::BAD_REQUEST, format!("it is no review of an API server: {why}\n"))
            }
        }
    }
}

fn said(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    response
}
