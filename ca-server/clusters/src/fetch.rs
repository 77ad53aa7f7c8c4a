//! A key set that lies elsewhere than at the API server: one HTTPS address, asked with guards. No redirect is followed, no
//! proxy of the environment is used, nothing is asked of a link-local address whatever the name resolves to, and the answer is
//! bounded.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url, redirect, retry};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// An address that a key set may be fetched from, and the roots that its certificate must chain to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetAddress {
    url: Url,
    ca_file: PathBuf,
}

/// Why nothing is fetched from an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefused {
    /// It is no URL.
    #[error("is no URL; write https://HOST/PATH")]
    Malformed,
    /// It is not HTTPS: anybody on the way could put a key of their own there.
    #[error(
        "is not https: anybody on the way could put in a key of their own; write https://HOST/PATH"
    )]
    NotHttps,
    /// It has a user, a password or a fragment.
    #[error("has a user, a password or a fragment: leave it out")]
    Credentials,
    /// It is the address of a metadata service or another neighbour, not of an issuer.
    #[error("is a link-local, unspecified or multicast address, where no issuer is: name its host")]
    NoHost,
}

impl KeySetAddress {
    /// Checks an address.
    ///
    /// # Errors
    /// [`AddressRefused`].
    pub fn new(url: &str, ca_file: &Path) -> Result<Self, AddressRefused> {
        let url = Url::parse(url).map_err(|_| AddressRefused::Malformed)?;
        if url.scheme() != "https" {
            return Err(AddressRefused::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(AddressRefused::Credentials);
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let literal = host.parse::<IpAddr>();
        if host.is_empty() || literal.is_ok_and(|address| !is_of_issuer(address)) {
            return Err(AddressRefused::NoHost);
        }
        Ok(Self { url, ca_file: ca_file.to_owned() })
    }

    /// The roots that its certificate must chain to, in PEM.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Fetches the key set.
    pub(crate) async fn fetch(
        &self,
        within: Duration,
        bytes_max: usize,
    ) -> Result<Vec<u8>, String> {
        let late = |_| format!("{self} gave no answer within {} s", within.as_secs_f32());
        tokio::time::timeout(within, self.read(bytes_max)).await.map_err(late)?
    }

    async fn read(&self, bytes_max: usize) -> Result<Vec<u8>, String> {
        let ca_file = self.ca_file.clone();
        let tls = tokio::task::spawn_blocking(move || tls(&ca_file)).await;
        let tls = tls.map_err(|error| error.to_string()).flatten()?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .referer(false)
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .dns_resolver(Issuers)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("banyan/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        let failed = |error: reqwest::Error| format!("{self}: {}", kube_access::cause(&error));
        let mut response = client.get(self.url.clone()).send().await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(format!(
                "{self} redirects elsewhere, which is not followed: name the address where the key set is"
            ));
        }
        if status != reqwest::StatusCode::OK {
            return Err(format!("{self} answers {}", status.as_u16()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > bytes_max {
                return Err(format!("{self} answers with more than {} KiB", bytes_max / 1024));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

impl fmt::Display for KeySetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query may hold what is nobody's business.
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "https://{host}{port}{}", self.url.path())
    }
}

/// Whether an issuer may be at this address.
fn is_of_issuer(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => return is_of_issuer(IpAddr::V4(mapped)),
            None => address.is_unicast_link_local(),
        },
    };
    !is_link_local && !address.is_unspecified() && !address.is_multicast()
}

/// Resolves names, and forgets addresses where no issuer is.
struct Issuers;

impl Resolve for Issuers {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let fit: Vec<SocketAddr> = found.filter(|one| is_of_issuer(one.ip())).collect();
            if fit.is_empty() {
                return Err(
                    format!("{} has no address where an issuer may be", name.as_str()).into()
                );
            }
            Ok(Box::new(fit.into_iter()) as Addrs)
        })
    }
}

fn tls(ca_file: &Path) -> Result<ClientConfig, String> {
    let named = |error: &dyn fmt::Display| format!("{}: {error}", ca_file.display());
    let pem = std::fs::read(ca_file).map_err(|error| named(&error))?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(&pem) {
        roots.add(root.map_err(|error| named(&error))?).map_err(|error| named(&error))?;
    }
    if roots.is_empty() {
        return Err(named(&"holds no certificate in PEM"));
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_is_fetched_by_https_from_where_an_issuer_can_be() {
        let judged = |url: &str| KeySetAddress::new(url, Path::new("ca.pem")).err();
        for good in [
            "https://issuer.example/openid/v1/jwks",
            "https://10.0.0.1:6443/k",
            "https://[fd00::1]/k",
        ] {
            assert_eq!(judged(good), None, "{good}");
        }
        for (bad, why) in [
            ("issuer", AddressRefused::Malformed),
            ("http://issuer.example/k", AddressRefused::NotHttps),
            ("file:///etc/keys.json", AddressRefused::NotHttps),
            ("https://u:p@issuer.example/k", AddressRefused::Credentials),
            ("https://issuer.example/k#x", AddressRefused::Credentials),
            ("https://169.254.169.254/latest", AddressRefused::NoHost),
            ("https://[fe80::1]/k", AddressRefused::NoHost),
            ("https://[::ffff:169.254.169.254]/k", AddressRefused::NoHost),
            ("https://0.0.0.0/k", AddressRefused::NoHost),
            ("https://224.0.0.1/k", AddressRefused::NoHost),
        ] {
            assert_eq!(judged(bad), Some(why), "{bad}");
        }
        let shown = KeySetAddress::new("https://i.example:8443/k?token=x", Path::new("c")).unwrap();
        assert_eq!(shown.to_string(), "https://i.example:8443/k");
    }
}
