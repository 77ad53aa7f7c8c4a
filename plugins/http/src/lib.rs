//! JSON over HTTP/1.1 for plugins that call a remote CA: bounded in size and time, with TLS by a named set of roots, and
//! errors that are already [`PluginError`]s.
//!
//! One connection for each call: external calls are rare, and a connection that is opened anew sees a server whose
//! certificate or address changed. Nothing of a request but its path is ever in an error.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use plugins::PluginError;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest answer that is read.
const ANSWER_MAX: usize = 1024 * 1024;
/// Redirects that are followed.
const REDIRECTS_MAX: u32 = 2;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    https: bool,
    host: String,
    port: u16,
}

/// What a server may show, and what is shown to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Roots that its certificate must chain to, in PEM. Required for `https`.
    pub ca: Option<PathBuf>,
    /// Own certificate chain and key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A server that is called.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// How it proves that, and how the caller does. Files are read for each connection.
    pub tls: TlsFiles,
}

/// One call.
#[derive(Clone)]
pub struct Call {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Option<Value>,
}

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
    /// The body; null if it is empty or no JSON.
    pub body: Value,
}

impl Address {
    /// Reads `https://HOST:PORT`, or `http://HOST:PORT` of a loopback address: anything else in the clear would show
    /// credentials to the network.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "is no address; write https://HOST:PORT".to_owned();
        let (https, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| wrong())?;
        if host.is_empty() || host.contains('/') {
            return Err(wrong());
        }
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !https && !loopback {
            return Err("shows credentials to the network; write https://HOST:PORT".to_owned());
        }
        Ok(Self { https, host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl Call {
    /// A call without a body. The path begins with `/`.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), headers: HeaderMap::new(), body: None }
    }

    /// A call that reads.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// A call that sends JSON.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path) }
    }

    /// The same, with a header. It is marked as sensitive: no log shows it.
    ///
    /// # Errors
    /// When the value is no header's; the value is not repeated.
    pub fn with_secret(mut self, name: &'static str, value: &str) -> Result<Self, PluginError> {
        let mut value: http::HeaderValue = value.parse().map_err(|_| PluginError::Misconfigured {
            field: name.to_owned(),
            detail: "holds characters that no header may have; is there a line break in the file?".to_owned(),
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }
}

impl Server {
    /// Makes a call within a time.
    ///
    /// # Errors
    /// `AuthorityDown` if nobody answers or the TLS certificate is not believed, `Transient` if the answer does not come
    /// in time, `Permanent` if it is too long. Any status is an answer.
    pub async fn call(&self, call: &Call, within: Duration) -> Result<Answer, PluginError> {
        let late = || PluginError::Transient {
            detail: format!("{} did not answer within {} s", self.address, within.as_secs()),
        };
        tokio::time::timeout(within, self.follow(call)).await.map_err(|_| late())?
    }

    /// Follows redirects of a standby to its leader, on the same terms of TLS.
    async fn follow(&self, call: &Call) -> Result<Answer, PluginError> {
        let mut address = self.address.clone();
        for _ in 0..=REDIRECTS_MAX {
            let (answer, location) = self.once(&address, call).await?;
            let target = location.filter(|_| answer.status.is_redirection());
            let Some(target) = target else { return Ok(answer) };
            let (host, _) = split(&target);
            let next = Address::parse(host).map_err(|problem| PluginError::AuthorityDown {
                detail: format!("{address} redirects to {host}, which {problem}"),
            })?;
            if next.https != self.address.https {
                let detail = format!("{address} redirects to {next}, which is less protected");
                return Err(PluginError::AuthorityDown { detail });
            }
            address = next;
        }
        Err(PluginError::AuthorityDown { detail: format!("{} redirects without end", self.address) })
    }

    async fn once(&self, address: &Address, call: &Call) -> Result<(Answer, Option<String>), PluginError> {
        let down = |what: String| PluginError::AuthorityDown { detail: format!("{address}: {what}") };
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
        let stream = stream.map_err(|error| down(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| down(error.to_string()))?;
        if !address.https {
            return exchange(stream, address, call).await;
        }
        let config = Arc::new(self.tls.client_config().map_err(&down)?);
        let name = ServerName::try_from(address.host.clone()).map_err(|error| down(error.to_string()))?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.map_err(|error| down(format!("TLS: {}", cause(&error))))?;
        exchange(stream, address, call).await
    }
}

impl TlsFiles {
    fn client_config(&self) -> Result<ClientConfig, String> {
        let ca = self.ca.as_ref().ok_or("an https address needs ca_file")?;
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root).map_err(|error| format!("{}: {error}", ca.display()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        match &self.identity {
            None => Ok(config.with_no_client_auth()),
            Some((cert, key)) => {
                let own = PrivateKeyDer::from_pem_slice(&read(key)?)
                    .map_err(|error| format!("{}: {error}", key.display()))?;
                let config = config.with_client_auth_cert(certificates(cert)?, own);
                config.map_err(|error| format!("{}: {error}", cert.display()))
            }
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: &Address,
    call: &Call,
) -> Result<(Answer, Option<String>), PluginError> {
    let broken = |error: &dyn std::error::Error| PluginError::Transient {
        detail: format!("{address}{}: {}", split(&call.path).0, cause(error)),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    let driven = tokio::spawn(connection);
    let body = call.body.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(&call.path)
        .header(header::HOST, format!("{}:{}", address.host, address.port))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| broken(&error))?;
    request.headers_mut().extend(call.headers.clone());
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let (head, body) = response.into_parts();
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let retry_after = text(header::RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let location = text(header::LOCATION);
    let bytes = Limited::new(body, ANSWER_MAX).collect().await.map_err(|error| PluginError::Permanent {
        detail: format!("{address}{}: the answer is longer than 1 MiB or breaks off: {error}", call.path),
    })?;
    driven.abort();
    let body = serde_json::from_slice(&bytes.to_bytes()).unwrap_or(Value::Null);
    Ok((Answer { status: head.status, retry_after, body }, location))
}

/// An address or path, and what stands behind it.
fn split(url: &str) -> (&str, &str) {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(after_scheme..).and_then(|rest| rest.find(['/', '?'])).map(|at| at + after_scheme);
    match end {
        Some(at) if after_scheme > 0 => url.split_at(at),
        _ => url.split_once('?').unwrap_or((url, "")),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    found.map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error: io::Error| format!("{}: {error}", path.display()))
}

/// The innermost reason, which the outer ones only wrap.
fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_in_the_clear_stay_on_this_machine() {
        for good in ["https://vault.example:8200", "http://127.0.0.1:8200/", "http://[::1]:1", "http://localhost:1"] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for wrong in ["vault:8200", "https://vault", "https://:1", "http://10.0.0.1:8200", "http://vault:1"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    async fn answering(answer: Vec<u8>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4_096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer).await;
            }
        });
        Server { address, tls: TlsFiles::default() }
    }

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn an_answer_is_read_whatever_its_status() {
        let text = "HTTP/1.1 429 Too Many\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\n{\"a\": 12}";
        let server = answering(text.as_bytes().to_vec()).await;
        let answer = server.call(&Call::get("/v1/x"), SOON).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.retry_after), (429, Some(Duration::from_secs(7))));
        assert_eq!(answer.body["a"], 12);
    }

    #[tokio::test]
    async fn long_late_and_broken_answers_are_errors_without_secrets() {
        let mut long = b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n".to_vec();
        long.resize(long.len() + 2 * ANSWER_MAX, b'x');
        let call = Call::get("/v1/x").with_secret("x-vault-token", "s.secret").unwrap();
        for (answer, within) in [(long, SOON), (b"HTTP/1.1".to_vec(), SOON), (Vec::new(), Duration::from_millis(300))] {
            let server = answering(answer).await;
            let error = server.call(&call, within).await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s.secret"), "{error:?}");
        }
        let nobody = Server { address: Address::parse("http://127.0.0.1:1").unwrap(), tls: TlsFiles::default() };
        assert!(matches!(nobody.call(&call, SOON).await, Err(PluginError::AuthorityDown { .. })));
        assert!(Call::get("/").with_secret("x-vault-token", "a\nb").is_err());
    }

    #[tokio::test]
    async fn a_standby_s_redirect_is_followed_and_one_without_end_is_not() {
        let leader = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()).await;
        let redirect = |to: &Address| {
            format!("HTTP/1.1 307 Temporary\r\nlocation: {to}/v1/x\r\ncontent-length: 0\r\n\r\n").into_bytes()
        };
        let standby = answering(redirect(&leader.address)).await;
        assert_eq!(standby.call(&Call::get("/v1/x"), SOON).await.unwrap().status, StatusCode::OK);
        let round = answering(redirect(&standby.address)).await;
        assert!(round.call(&Call::get("/v1/x"), SOON).await.is_ok(), "two steps are few enough");
        let away = answering(b"HTTP/1.1 307 T\r\nlocation: http://10.1.1.1:8200/v1\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
        let refused = away.call(&Call::get("/v1/x"), SOON).await.unwrap_err();
        assert!(refused.to_string().contains("redirects to http://10.1.1.1:8200"), "{refused}");
    }
}
