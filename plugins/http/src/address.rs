//! Where a server is.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    https: bool,
    /// A name or an IP address, an IPv6 one without brackets.
    host: String,
    port: u16,
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
        let address = Self { https, host: host.to_owned(), port };
        let plain =
            |url: &Url| url.path() == "/" && url.username().is_empty() && url.password().is_none();
        let url = Url::parse(&address.to_string()).ok().filter(plain).ok_or_else(wrong)?;
        if url.query().is_some() || url.fragment().is_some() || !url.has_host() {
            return Err(wrong());
        }
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        if !https && !loopback {
            return Err("shows credentials to the network; write https://HOST:PORT".to_owned());
        }
        Ok(address)
    }

    /// Whether it is reached by TLS.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host: a name or an IP address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address of a URL, whatever its path.
    pub(crate) fn of(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self {
            https: url.scheme() == "https",
            host,
            port: url.port_or_known_default().unwrap_or_default(),
        }
    }

    /// The URL of a path there.
    pub(crate) fn url(&self, path: &str) -> Result<Url, String> {
        if !path.starts_with('/') {
            return Err("a path begins with /".to_owned());
        }
        Url::parse(&format!("{self}{path}")).map_err(|error| error.to_string())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_the_clear_stay_on_this_machine() {
        for good in [
            "https://vault.example:8200",
            "http://127.0.0.1:8200/",
            "http://[::1]:1",
            "http://localhost:1",
        ] {
            let address = Address::parse(good).unwrap();
            assert_eq!(address.to_string(), good.trim_end_matches('/'));
        }
        for wrong in [
            "vault:8200",
            "https://vault",
            "https://:1",
            "http://10.0.0.1:8200",
            "http://vault:1",
            "https://user:secret@vault:1",
            "https://vault/v1:1",
            "https://vault?x:1",
            "http://localhost:1@vault.example:1",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
