//! Health and metrics on a plain port: what each part is doing, and whether it can do its work.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::board::Board;
use crate::metrics::Metrics;

/// Connections at a time; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 64;
/// Longest life of a connection: a probe asks once.
const CONNECTION_WITHIN: Duration = Duration::from_secs(10);

/// Answers of the plain port.
#[derive(Clone)]
struct Answers {
    board: Board,
    metrics: Arc<Metrics>,
}

impl Answers {
    fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".to_owned());
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => {
                let lines = self.board.lines();
                let shown = lines.iter().map(|(name, standing)| {
                    let mark = if standing.ready { '+' } else { '-' };
                    format!("[{mark}] {name}: {}\n", standing.text)
                });
                let code = match self.board.is_ready() {
                    true => StatusCode::OK,
                    false => StatusCode::SERVICE_UNAVAILABLE,
                };
                text(code, shown.collect())
            }
            "/metrics" => {
                let lines = self.board.lines();
                match self.metrics.exposition(&lines) {
                    Ok(exposed) => {
                        let mut response = text(StatusCode::OK, exposed);
                        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                        response
                    }
                    Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
                }
            }
            _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n".to_owned()),
        }
    }
}

fn text(code: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// Listens, and serves until it is stopped. Answers with the address.
pub(crate) async fn serve(
    listen: SocketAddr,
    board: Board,
    metrics: Arc<Metrics>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let answers = Answers { board, metrics };
    let connections = tasks.clone();
    tasks.spawn(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&places).acquire_owned();
            let Some(Ok(place)) = stop.run_until_cancelled(place).await else { return };
            let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else { return };
            // What fails is the one connection, or descriptors are short: then others must end first.
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (answers, stop) = (answers.clone(), stop.clone());
            connections.spawn(async move {
                let within = tokio::time::timeout(CONNECTION_WITHIN, connection(stream, answers));
                let _ = stop.run_until_cancelled(within).await;
                drop(place);
            });
        }
    });
    Ok(address)
}

async fn connection(stream: TcpStream, answers: Answers) {
    let answer = move |method: Method, uri: Uri| async move { answers.answer(&method, uri.path()) };
    let service = Router::new().fallback(answer);
    let service = TowerToHyperService::new(service);
    let server = auto::Builder::new(TokioExecutor::new());
    // Whoever leaves early is a probe that has seen enough.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_that_cannot_work_is_not_green_and_every_part_is_told() {
        let board = Board::default();
        let (good, bad) = (board.part("publish/mesh"), board.part("ca"));
        good.ready("3 objects hold bundle 7");
        let answers = Answers { board: board.clone(), metrics: Arc::default() };
        let ask = |path: &str| answers.answer(&Method::GET, path).status();
        assert_eq!(ask("/readyz"), 503, "a part that said nothing yet is not ready");
        bad.ready("bundle 7");
        assert_eq!(ask("/readyz"), 200);
        bad.stuck("the admin socket is gone");
        assert_eq!(
            (ask("/readyz"), ask("/livez"), ask("/none")),
            (StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK, StatusCode::NOT_FOUND)
        );
        assert_eq!(board.lines()["ca"].text, "the admin socket is gone");
    }
}
