//! One document from one HTTPS address, with guards: no redirect is followed, no proxy of the environment is used, nothing is asked
//! of a link-local address whatever the name resolves to, and the answer is bounded in time and size.
//!
//! Who is believed at the address is the caller's: [`below`] and [`below_system`] believe whoever has a certificate for the host's
//! name, and any other configuration of rustls will do. Start at [`Address`].
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url, redirect, retry};
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// An address that something may be fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Url);

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

/// Why nothing was fetched; it names the address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The certificate that is shown there is not believed.
    #[error("{0}")]
    NotBelieved(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Address {
    /// Checks an address.
    ///
    /// # Errors
    /// [`AddressRefused`].
    pub fn new(url: &str) -> Result<Self, AddressRefused> {
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
        Ok(Self(url))
    }

    /// Fetches what is there.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn fetch(
        &self,
        tls: ClientConfig,
        within: Duration,
        bytes_max: usize,
    ) -> Result<Vec<u8>, Failure> {
        let late =
            |_| Failure::Other(format!("{self} gave no answer within {} s", within.as_secs_f32()));
        tokio::time::timeout(within, self.read(tls, bytes_max)).await.map_err(late)?
    }

    async fn read(&self, tls: ClientConfig, bytes_max: usize) -> Result<Vec<u8>, Failure> {
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
            .map_err(|error| Failure::Other(error.to_string()))?;
        let failed = |error: reqwest::Error| {
            let told = format!("{self}: {}", cause(&error));
            match is_about_certificate(&error) {
                true => Failure::NotBelieved(told),
                false => Failure::Other(told),
            }
        };
        let mut response = client.get(self.0.clone()).send().await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(Failure::Other(format!(
                "{self} redirects elsewhere, which is not followed: name the address where it is"
            )));
        }
        if status != reqwest::StatusCode::OK {
            return Err(Failure::Other(format!("{self} answers {}", status.as_u16())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > bytes_max {
                let told = format!("{self} answers with more than {} KiB", bytes_max / 1024);
                return Err(Failure::Other(told));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query may hold what is nobody's business.
        let host = self.0.host_str().unwrap_or_default();
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "https://{host}{port}{}", self.0.path())
    }
}

/// Believes whoever has a certificate for the host's name below these CAs, in PEM.
///
/// # Errors
/// What is wrong with them.
pub fn below(pem: &[u8]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(pem) {
        let root = root.map_err(|error| error.to_string())?;
        roots.add(root).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("holds no certificate in PEM".to_owned());
    }
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

/// Believes whoever has a certificate for the host's name below the CAs of this machine. It reads files.
///
/// # Errors
/// If there is none.
pub fn below_system() -> Result<ClientConfig, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some machines have one among them that cannot be read; others are believed all the same.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "this machine has no CAs{why}: install them (ca-certificates), set SSL_CERT_FILE, or name a CA"
        ));
    }
    Ok(builder()?.with_root_certificates(roots).with_no_client_auth())
}

/// Believes whom this verifier believes.
///
/// # Errors
/// If TLS cannot be set up.
pub fn believing(
    verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
) -> Result<ClientConfig, String> {
    let builder: ConfigBuilder<ClientConfig, WantsClientCert> =
        builder()?.dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())
}

/// The innermost cause: the outermost says only that a request failed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}

/// Whether a handshake failed since the peer's certificate is not believed.
fn is_about_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    // What an I/O error wraps is not its source: the source of that is.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match wrapped {
        Some(wrapped) => is_about_certificate(wrapped),
        None => error.source().is_some_and(is_about_certificate),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_fetched_by_https_from_where_an_issuer_can_be() {
        let judged = |url: &str| Address::new(url).err();
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
        let shown = Address::new("https://i.example:8443/k?token=x").unwrap();
        assert_eq!(shown.to_string(), "https://i.example:8443/k");
    }
}
