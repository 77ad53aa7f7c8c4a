//! JSON over HTTP/1.1 for plugins that call a remote CA: reqwest, bounded in size and time, with TLS by a named set of
//! roots, and errors that are already [`PluginError`]s.
//!
//! One connection for each call: external calls are rare, and a connection that is opened anew sees a server whose
//! certificate or address changed. Nothing of a request but its path is ever in an error. Proxies of the environment are
//! not used: who reads the credentials is said in the configuration and nowhere else.

mod address;
mod tls;

use std::time::Duration;

use plugins::PluginError;
use plugins::call::cause;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Response, Url, redirect, retry};
pub use reqwest::{Method, StatusCode};
use serde_json::Value;

pub use address::Address;
pub use tls::TlsFiles;

/// Longest answer that is read.
const ANSWER_MAX: usize = 1024 * 1024;
/// Redirects that are followed.
const REDIRECTS_MAX: u32 = 2;

/// A server that is called.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// How it proves that, and how the caller does. Files are read for each connection.
    pub tls: TlsFiles,
}

/// One call. It has no `Debug`: its headers and its body may be secret.
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

    /// The path, as given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same, with a header. It is marked as sensitive: no log shows it.
    ///
    /// # Errors
    /// When the value is no header's; the value is not repeated.
    pub fn with_secret(mut self, name: &'static str, value: &str) -> Result<Self, PluginError> {
        let mut value: HeaderValue = value.parse().map_err(|_| PluginError::Misconfigured {
            field: name.to_owned(),
            detail: "holds characters that no header may have; is there a line break in the file?"
                .to_owned(),
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

    /// Follows redirects of a standby to its leader, on the same terms of TLS: to the same kind of address, which must
    /// show a certificate of the same roots. Only there are the credentials sent again.
    async fn follow(&self, call: &Call) -> Result<Answer, PluginError> {
        let client = self.client().await?;
        let mut target =
            self.address.url(&call.path).map_err(|problem| PluginError::Permanent {
                detail: format!("{} cannot be asked for {}: {problem}", self.address, call.path),
            })?;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.once(&client, &target, call).await?;
            match leader(&response) {
                None => return self.read(response, call).await,
                Some(next) => target = self.acceptable(&target, &next)?,
            }
        }
        Err(PluginError::AuthorityDown {
            detail: format!("{} redirects without end", self.address),
        })
    }

    async fn once(
        &self,
        client: &Client,
        target: &Url,
        call: &Call,
    ) -> Result<Response, PluginError> {
        let mut request =
            client.request(call.method.clone(), target.clone()).headers(call.headers.clone());
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        request.send().await.map_err(|error| {
            let detail = format!("{}: {}", Address::of(target), cause(&error));
            if error.is_connect() {
                PluginError::AuthorityDown { detail }
            } else {
                PluginError::Transient {
                    detail: format!("{detail}, when asked for {}", path_of(call)),
                }
            }
        })
    }

    fn acceptable(&self, from: &Url, location: &str) -> Result<Url, PluginError> {
        let from_address = Address::of(from);
        let refused = |what: String| PluginError::AuthorityDown {
            detail: format!("{from_address} redirects to {what}"),
        };
        let next = from.join(location).map_err(|error| refused(format!("no address ({error})")))?;
        let to = Address::of(&next);
        let checked = Address::parse(&to.to_string())
            .map_err(|problem| refused(format!("{to}, which {problem}")))?;
        if checked.is_https() != self.address.is_https() {
            return Err(refused(format!("{to}, which is less protected")));
        }
        Ok(next)
    }

    async fn read(&self, mut response: Response, call: &Call) -> Result<Answer, PluginError> {
        let (status, address) = (response.status(), &self.address);
        let text =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = text.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let path = path_of(call);
        let too_long = || PluginError::Permanent {
            detail: format!("{address}{path}: the answer is longer than {} KiB", ANSWER_MAX / 1024),
        };
        let mut bytes = Vec::new();
        let broken = |error: reqwest::Error| PluginError::Transient {
            detail: format!("{address}{path}: the answer breaks off: {}", cause(&error)),
        };
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if bytes.len() + chunk.len() > ANSWER_MAX {
                return Err(too_long());
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answer { status, retry_after, body })
    }

    async fn client(&self) -> Result<Client, PluginError> {
        let down = |what: String| PluginError::AuthorityDown {
            detail: format!("{}: {what}", self.address),
        };
        let (tls, https) = (self.tls.clone(), self.address.is_https());
        let config = tokio::task::spawn_blocking(move || tls.client_config(https)).await;
        let config = config.map_err(|error| down(error.to_string()))?.map_err(&down)?;
        Client::builder()
            .tls_backend_preconfigured(config)
            .https_only(https)
            .http1_only()
            .no_proxy()
            .referer(false)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .pool_max_idle_per_host(0)
            .user_agent(concat!("banyan/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| down(cause(&error)))
    }
}

/// Where a redirect leads that keeps the method and the body.
fn leader(response: &Response) -> Option<String> {
    let keeps = [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT]
        .contains(&response.status());
    let location = response.headers().get(header::LOCATION).filter(|_| keeps)?;
    location.to_str().ok().map(str::to_owned)
}

/// The path of a call without its query.
fn path_of(call: &Call) -> &str {
    call.path.split('?').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(answer: Vec<u8>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address =
            Address::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
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
        let text =
            "HTTP/1.1 429 Too Many\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\n{\"a\": 12}";
        let server = answering(text.as_bytes().to_vec()).await;
        let answer = server.call(&Call::get("/v1/x"), SOON).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.retry_after),
            (429, Some(Duration::from_secs(7)))
        );
        assert_eq!(answer.body["a"], 12);
    }

    #[tokio::test]
    async fn long_late_and_broken_answers_are_errors_without_secrets() {
        let mut long = b"HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n".to_vec();
        long.resize(long.len() + 2 * ANSWER_MAX, b'x');
        let call = Call::get("/v1/x").with_secret("x-vault-token", "s.secret").unwrap();
        for (answer, within) in
            [(long, SOON), (b"HTTP/1.1".to_vec(), SOON), (Vec::new(), Duration::from_millis(300))]
        {
            let server = answering(answer).await;
            let error = server.call(&call, within).await.unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s.secret"), "{error:?}");
        }
        let nobody = Server {
            address: Address::parse("http://127.0.0.1:1").unwrap(),
            tls: TlsFiles::default(),
        };
        assert!(matches!(nobody.call(&call, SOON).await, Err(PluginError::AuthorityDown { .. })));
        assert!(Call::get("/").with_secret("x-vault-token", "a\nb").is_err());
    }

    #[tokio::test]
    async fn a_standby_s_redirect_is_followed_and_one_without_end_is_not() {
        let leader = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()).await;
        let redirect = |to: &Address| {
            format!("HTTP/1.1 307 Temporary\r\nlocation: {to}/v1/x\r\ncontent-length: 0\r\n\r\n")
                .into_bytes()
        };
        let standby = answering(redirect(&leader.address)).await;
        assert_eq!(standby.call(&Call::get("/v1/x"), SOON).await.unwrap().status, StatusCode::OK);
        let round = answering(redirect(&standby.address)).await;
        assert!(round.call(&Call::get("/v1/x"), SOON).await.is_ok(), "two steps are few enough");
        let away = answering(
            b"HTTP/1.1 307 T\r\nlocation: http://10.1.1.1:8200/v1\r\ncontent-length: 0\r\n\r\n"
                .to_vec(),
        )
        .await;
        let refused = away.call(&Call::get("/v1/x"), SOON).await.unwrap_err();
        assert!(refused.to_string().contains("redirects to http://10.1.1.1:8200"), "{refused}");
    }

    #[test]
    fn credentials_go_only_where_the_terms_are_the_same() {
        let server = Server {
            address: Address::parse("https://standby.example:8200").unwrap(),
            tls: TlsFiles::default(),
        };
        let from = server.address.url("/v1/x?list=true").unwrap();
        let to = |location| server.acceptable(&from, location).map(|url| url.to_string());
        assert_eq!(
            to("https://leader.example:8200/v1/x").unwrap(),
            "https://leader.example:8200/v1/x"
        );
        assert_eq!(to("/v1/y").unwrap(), "https://standby.example:8200/v1/y");
        for (location, words) in [
            ("http://127.0.0.1:8200/v1/x", "less protected"),
            ("http://leader.example:8200/v1/x", "shows credentials"),
            ("ftp://leader.example/v1/x", "shows credentials"),
            ("https://", "no address"),
        ] {
            let refused = to(location).unwrap_err().to_string();
            assert!(refused.contains(words), "{location}: {refused}");
        }
    }
}
