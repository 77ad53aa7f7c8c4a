//! gRPC over TLS, connection by connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tower::Service;

use crate::accept::Stop;
use crate::answer::Attended;
use crate::crowd::Place;
use crate::departure::Departure;
use crate::distrust::is_distrust;
use crate::guard::Guard;
use crate::limits::Limits;
use crate::peer::Peer;
use crate::rejection::METADATA_BYTES_MAX;
use crate::tls::TlsState;
use crate::watched::Watched;

/// Time between the server's own pings, and time to answer one. Clients may ping as often as they like.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Streams that a client opened and reset and that no handler has seen yet; more end the connection (rapid reset).
const PENDING_RESETS_MAX: usize = 32;
/// Errors in streams that the server answered with a reset; more end the connection.
const LOCAL_RESETS_MAX: usize = 256;
/// Bytes that a client may send ahead, on one stream and on the connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// Bytes of answers that wait for a slow reader, for each stream.
const SEND_BUFFER: usize = 256 * 1024;
/// Room in the header block beyond the metadata that [`Guard`] counts, so that a refusal can be said in gRPC.
const HEADER_BYTES_MAX: u32 = 2 * METADATA_BYTES_MAX as u32;
/// Time that requests and streams of a connection past its age have to end.
const AGE_GRACE: Duration = Duration::from_secs(30);

/// Tells members by what they showed in the handshake, and hears of those who went away.
pub trait Doorman: Send + Sync + fmt::Debug {
    /// Whether these certificates are a good credential now.
    fn recognizes(&self, certificates: &[CertificateDer<'static>]) -> bool;

    /// A client ended its handshake because it does not trust this server's certificate.
    fn distrusted(&self);
}

/// What all connections of the TLS port share.
#[derive(Debug)]
pub struct GrpcPort {
    tls: Arc<TlsState>,
    doorman: Arc<dyn Doorman>,
    /// Turns at the arithmetic of a handshake: as many as the machine can do at once, so that requests of connections
    /// that are open wait for few of them.
    arithmetic: Semaphore,
    limits: Limits,
    stop: Stop,
    departure: Departure,
}

impl GrpcPort {
    /// A port that answers with this TLS configuration and asks the doorman about its clients.
    pub fn new(
        tls: Arc<TlsState>,
        doorman: Arc<dyn Doorman>,
        limits: &Limits,
        stop: Stop,
        departure: Departure,
    ) -> Self {
        let at_once = std::thread::available_parallelism().map_or(1, NonZero::get);
        let (arithmetic, limits) = (Semaphore::new(at_once), limits.clone());
        Self { tls, doorman, arithmetic, limits, stop, departure }
    }

    /// Shakes hands and serves one connection to its end.
    pub async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        addr: Option<SocketAddr>,
        place: Place,
        services: Guard,
    ) {
        let Some(tls) = self.tls_handshake(stream, addr, &place).await else { return };
        place.shaken();
        let certificates: Arc<[_]> = tls.get_ref().1.peer_certificates().unwrap_or_default().into();
        if self.recognizes(&certificates).await {
            place.conduct().believed();
        }
        let peer = Peer { addr, ..Peer::new(certificates, place.conduct()) };
        serve_http2(tls, peer, services, &self.limits, &self.departure).await;
    }

    async fn tls_handshake(
        &self,
        stream: TcpStream,
        addr: Option<SocketAddr>,
        place: &Place,
    ) -> Option<TlsStream<TcpStream>> {
        let within = self.limits.handshake_timeout;
        let handshake = tokio::time::timeout(within, self.handshake(stream, place));
        match self.stop.gently.run_until_cancelled(handshake).await? {
            Ok(Ok(tls)) => Some(tls),
            Ok(Err(error)) => {
                if is_distrust(&error) {
                    self.doorman.distrusted();
                }
                tracing::debug!(?addr, %error, "TLS handshake failed");
                None
            }
            Err(_) => {
                tracing::debug!(?addr, ?within, "TLS handshake took too long");
                None
            }
        }
    }

    /// Whether a member has come. It keeps its place from now on, before it has asked for anything.
    async fn recognizes(&self, certificates: &[CertificateDer<'static>]) -> bool {
        if certificates.is_empty() {
            return false;
        }
        // The semaphore is never closed.
        let turn = self.arithmetic.acquire().await;
        turn.is_ok() && self.doorman.recognizes(certificates)
    }

    /// Who has sent no hello takes no turn in the arithmetic. The turn is over while the client's answer is awaited.
    async fn handshake(
        &self,
        stream: TcpStream,
        place: &Place,
    ) -> io::Result<TlsStream<TcpStream>> {
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        place.computes(true);
        let turn = self.arithmetic.acquire().await.map_err(io::Error::other)?;
        let mut rest = pin!(hello.into_stream(self.tls.current()));
        let first = std::future::poll_fn(|cx| Poll::Ready(rest.as_mut().poll(cx))).await;
        drop(turn);
        place.computes(false);
        match first {
            Poll::Ready(done) => done,
            Poll::Pending => rest.await,
        }
    }
}

/// Serves HTTP/2 on an open connection until the client goes, is sent elsewhere, the connection's age is over, or the server
/// stops.
pub(crate) async fn serve_http2<IO>(
    io: IO,
    peer: Peer,
    services: Guard,
    limits: &Limits,
    departure: &Departure,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_per_connection)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER_WITHIN);
    let conduct = Arc::clone(&peer.conduct);
    let io = TokioIo::new(Watched::http2(io, Arc::clone(&conduct)));
    let services = WithPeer { peer, services: services.for_connection() };
    let service = TowerToHyperService::new(Attended::new(Arc::clone(&conduct), services));
    let mut connection = pin!(builder.serve_connection(io, service));
    let age = tokio::time::sleep(limits.connection_age);
    tokio::select! {
        ended = connection.as_mut() => return log_end(ended),
        () = age => conduct.ending.cancel(),
        () = departure.turn_of(&conduct) => conduct.ending.cancel(),
        () = conduct.ending.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    match tokio::time::timeout(AGE_GRACE, connection).await {
        Ok(ended) => log_end(ended),
        Err(_) => tracing::debug!("connection cut after its grace"),
    }
}

fn log_end<E: std::fmt::Display>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Tells each request who its connection belongs to.
#[derive(Clone)]
struct WithPeer {
    peer: Peer,
    services: Guard,
}

impl<B> Service<Request<B>> for WithPeer
where
    Guard: Service<Request<B>>,
{
    type Response = <Guard as Service<Request<B>>>::Response;
    type Error = <Guard as Service<Request<B>>>::Error;
    type Future = <Guard as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<B>>::poll_ready(&mut self.services, cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.peer.clone());
        self.services.call(request)
    }
}
