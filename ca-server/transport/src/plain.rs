//! Health and metrics, without TLS: for probes and scrapers, with nothing secret.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while the process works |
//! | `/readyz` | 200 while requests can be served, else 503; while a server starts the text says what it waits for |
//! | `/metrics` | metrics in the OpenMetrics text format |
//! | gRPC `grpc.health.v1.Health` | `SERVING` or `NOT_SERVING`, for the server as a whole and for each service |

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::answer::Attended;
use crate::crowd::Place;
use crate::meter::Meter;
use crate::watched::Watched;

/// Connections of probes and scrapers at a time.
pub const PLAIN_CONNECTIONS_MAX: usize = 128;
/// Time for a request to come, for its answer to be taken, and for the next one: probes ask at once.
pub const PROBE_WITHIN: Duration = Duration::from_secs(10);
/// Time for the header of an HTTP/1 request.
const HEADER_WITHIN: Duration = Duration::from_secs(5);
/// A probe needs no more: after this time a connection is asked to end.
const CONNECTION_AGE: Duration = Duration::from_secs(300);
const AGE_GRACE: Duration = Duration::from_secs(5);

/// The routes of a server that starts: it is alive, and not ready. `waits_for` says what its start waits for, if it waits.
pub fn starting_routes(
    waits_for: impl Fn() -> Option<String> + Clone + Send + Sync + 'static,
    health: tonic::service::Routes,
) -> Router {
    let readiness = move || async move {
        let why = waits_for().unwrap_or_else(|| "starts".to_owned());
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: this server {why}\n"))
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .merge(health.into_axum_router().reset_fallback())
}

/// The routes. `is_ready` says whether requests can be served.
pub fn routes(
    meter: Arc<dyn Meter>,
    is_ready: impl Fn() -> bool + Clone + Send + Sync + 'static,
    health: tonic::service::Routes,
) -> Router {
    let readiness = move || async move {
        if is_ready() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    };
    let scrape = move || async move {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], meter.exposition()).into_response()
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .route("/metrics", get(scrape))
        .merge(health.into_axum_router().reset_fallback())
}

/// Serves one connection in HTTP/1.1 or HTTP/2, whichever the client speaks.
pub async fn serve<IO>(stream: IO, place: Place, routes: Router)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    place.shaken();
    let conduct = place.conduct();
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_WITHIN)
        .max_buf_size(16 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(16)
        .max_header_list_size(16 * 1024);
    let io = TokioIo::new(Watched::plain(stream, Arc::clone(conduct)));
    let service = TowerToHyperService::new(Attended::new(Arc::clone(conduct), routes));
    let mut connection = pin!(builder.serve_connection(io, service));
    tokio::select! {
        ended = connection.as_mut() => return log_end(ended),
        () = tokio::time::sleep(CONNECTION_AGE) => {}
        () = conduct.ending.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Ok(ended) = tokio::time::timeout(AGE_GRACE, connection).await {
        log_end(ended);
    }
}

fn log_end<E: std::fmt::Debug>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(?error, "plain connection ended");
    }
}
