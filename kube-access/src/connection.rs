//! The client that is in use, until it fails or is refused: then files are read anew.

use std::error::Error;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Client;
use kube::client::ConfigExt as _;
use kube::config::Config;
use tokio::runtime::Handle;
use tower::timeout::Timeout;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder};

use crate::access::Access;

/// Longest time for TCP and TLS.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Connections that nobody uses are closed after this, before somebody between here and the server forgets them.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How often TCP tries a quiet connection, as that of a watch mostly is.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// A client, and what it speaks with.
#[derive(Clone)]
pub struct Connection {
    /// The client.
    pub client: Client,
    /// `https://HOST:PORT` of the API.
    pub server: String,
    /// Tells it from those that were open before.
    number: u64,
}

/// Opens a client when one is needed, and keeps it until it is left.
pub struct Connections {
    access: Access,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    connection: Option<Connection>,
    number: u64,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connections").field(&self.access).finish()
    }
}

impl Connections {
    /// Speaks to nobody yet.
    pub fn new(access: Access) -> Self {
        Self { access, current: Mutex::default() }
    }

    /// A client to speak with.
    ///
    /// # Errors
    /// A sentence that names the file that is wrong.
    pub async fn one(&self) -> Result<Connection, String> {
        if let Some(connection) = self.current().connection.clone() {
            return Ok(connection);
        }
        let (access, runtime) = (self.access.clone(), Handle::current());
        // A kubeconfig may name a program that gives a token, and waits for it.
        let opening = tokio::task::spawn_blocking(move || runtime.block_on(opened(&access)));
        let (client, server) = opening.await.map_err(|error| error.to_string()).flatten()?;
        let mut current = self.current();
        current.number += 1;
        let connection = Connection { client, server, number: current.number };
        current.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Has the next call open a client anew, unless that was done meanwhile.
    pub fn leave(&self, connection: &Connection) {
        let mut current = self.current();
        if current.connection.as_ref().is_some_and(|now| now.number == connection.number) {
            current.connection = None;
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn opened(access: &Access) -> Result<(Client, String), String> {
    let config = access.config().await?;
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let client = client(&config).map_err(|error| format!("{server}: {}", cause(&error)))?;
    Ok((client, server))
}

/// Without what kube's own builder adds: it tries again what may have been done, and logs each failure.
fn client(config: &Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEP_ALIVE_EVERY));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let connector = BoxCloneSyncService::new(Timeout::new(tls, CONNECT_WITHIN));
    let http = legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_MAX)
        .pool_timer(TokioTimer::new())
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// The innermost reason: what the operating system or TLS said.
pub fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    match innermost.downcast_ref::<tower::timeout::error::Elapsed>() {
        Some(_) => format!("no connection within {} s", CONNECT_WITHIN.as_secs()),
        None => innermost.to_string(),
    }
}
