//! Which etcd, and where in it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Where a member of etcd listens for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

/// Files of PEM for TLS, read anew for each connection. They must not come from this CA: it could not start without itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the CAs that the members' certificates come from.
    pub ca: PathBuf,
    /// The client's certificate, and its chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A user of etcd, where its authentication is on and does not go by the client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// A file that holds its password.
    pub password_file: PathBuf,
}

/// Everything that the engine must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) prefix: String,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) user: Option<User>,
    pub(crate) call_timeout: Duration,
}

/// Longest time for a call unless it is set otherwise.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there can be no such settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// An endpoint is none.
    #[error("{0:?} is no endpoint of etcd: write https://HOST:PORT")]
    Endpoint(String),
    /// There is none.
    #[error("no endpoint of etcd is given: list at least one, such as https://HOST:2379")]
    NoEndpoint,
    /// An endpoint without TLS is not on this machine.
    #[error(
        "{0} would be reached without TLS over a network: write https://, and give ca_file, cert_file and key_file"
    )]
    PlainText(String),
    /// An endpoint with TLS has no files.
    #[error("{0} needs ca_file, cert_file and key_file")]
    NoTlsFiles(String),
    /// The prefix is none.
    #[error(
        "{0:?} is no prefix of keys: write one as /banyan/example.org, with no slash at its end and no control characters"
    )]
    Prefix(String),
}

impl FromStr for Endpoint {
    type Err = InvalidSettings;

    fn from_str(text: &str) -> Result<Self, InvalidSettings> {
        let wrong = || InvalidSettings::Endpoint(text.to_owned());
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(Self { host, port: uri.port_u16().ok_or_else(wrong)?, tls })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let host = &self.host;
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{}", self.port),
            false => write!(f, "{scheme}://{host}:{}", self.port),
        }
    }
}

impl Endpoint {
    fn is_here(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl Settings {
    /// The state of one trust domain below a prefix of an etcd.
    ///
    /// # Errors
    /// [`InvalidSettings`].
    pub fn new(
        endpoints: &[impl AsRef<str>],
        prefix: &str,
        tls: Option<TlsFiles>,
    ) -> Result<Self, InvalidSettings> {
        let endpoints: Vec<Endpoint> =
            endpoints.iter().map(|text| text.as_ref().parse()).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(InvalidSettings::NoEndpoint);
        }
        for endpoint in &endpoints {
            if !endpoint.tls && !endpoint.is_here() {
                return Err(InvalidSettings::PlainText(endpoint.to_string()));
            }
            if endpoint.tls && tls.is_none() {
                return Err(InvalidSettings::NoTlsFiles(endpoint.to_string()));
            }
        }
        let named = prefix
            .strip_prefix('/')
            .is_some_and(|rest| !rest.is_empty() && rest.split('/').all(|part| !part.is_empty()));
        if !named || prefix.chars().any(char::is_control) {
            return Err(InvalidSettings::Prefix(prefix.to_owned()));
        }
        let prefix = prefix.to_owned();
        Ok(Self { endpoints, prefix, tls, user: None, call_timeout: CALL_TIMEOUT })
    }

    /// The same, as a user of etcd's own authentication.
    #[must_use]
    pub fn with_user(self, user: User) -> Self {
        Self { user: Some(user), ..self }
    }

    /// The same, with another longest time for a call.
    #[must_use]
    pub fn with_call_timeout(self, call_timeout: Duration) -> Self {
        Self { call_timeout, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Option<TlsFiles> {
        Some(TlsFiles { ca: "ca".into(), cert: "cert".into(), key: "key".into() })
    }

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_a_port() {
        for text in
            ["https://etcd-0.example.org:2379", "http://127.0.0.1:2379", "https://[::1]:2379"]
        {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "etcd:2379",
            "https://etcd",
            "ftp://etcd:1",
            "https://etcd:2379/v3",
            "https://:2379",
        ] {
            let wrong = Err(InvalidSettings::Endpoint(text.to_owned()));
            assert_eq!(text.parse::<Endpoint>(), wrong, "{text}");
        }
    }

    #[test]
    fn nothing_is_sent_without_tls_over_a_network() {
        let of = |endpoint: &str, tls| Settings::new(&[endpoint], "/banyan/td", tls);
        let plain = InvalidSettings::PlainText("http://10.0.0.1:2379".to_owned());
        assert_eq!(of("http://10.0.0.1:2379", None), Err(plain));
        for here in ["http://127.0.0.1:2379", "http://localhost:2379", "http://[::1]:2379"] {
            assert!(of(here, None).is_ok(), "{here}");
        }
        let no_files = InvalidSettings::NoTlsFiles("https://etcd:2379".to_owned());
        assert_eq!(of("https://etcd:2379", None), Err(no_files));
        assert!(of("https://etcd:2379", files()).is_ok());
    }

    #[test]
    fn a_prefix_has_no_empty_part() {
        let of = |prefix: &str| Settings::new(&["http://127.0.0.1:2379"], prefix, None).map(drop);
        assert_eq!(of("/banyan"), Ok(()));
        for prefix in ["", "/", "banyan", "/banyan/", "/a//b", "/a\n"] {
            assert_eq!(of(prefix), Err(InvalidSettings::Prefix(prefix.to_owned())), "{prefix:?}");
        }
        assert_eq!(Settings::new(&[""; 0], "/a", None), Err(InvalidSettings::NoEndpoint));
    }
}
