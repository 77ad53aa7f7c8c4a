//! A key set that lies elsewhere than at the API server: one HTTPS address below CAs of a file, asked with guards ([`fetch`]).

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fetch::Address;
pub use fetch::AddressRefused;
use rustls::ClientConfig;

/// An address that a key set may be fetched from, and the roots that its certificate must chain to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetAddress {
    address: Address,
    ca_file: PathBuf,
}

impl KeySetAddress {
    /// Checks an address.
    ///
    /// # Errors
    /// [`AddressRefused`].
    pub fn new(url: &str, ca_file: &Path) -> Result<Self, AddressRefused> {
        Ok(Self { address: Address::new(url)?, ca_file: ca_file.to_owned() })
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
        let ca_file = self.ca_file.clone();
        let tls = tokio::task::spawn_blocking(move || tls(&ca_file)).await;
        let tls = tls.map_err(|error| error.to_string()).flatten()?;
        self.address.fetch(tls, within, bytes_max).await.map_err(|failure| failure.to_string())
    }
}

impl fmt::Display for KeySetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

fn tls(ca_file: &Path) -> Result<ClientConfig, String> {
    let named = |error: &dyn fmt::Display| format!("{}: {error}", ca_file.display());
    let pem = std::fs::read(ca_file).map_err(|error| named(&error))?;
    fetch::below(&pem).map_err(|error| named(&error))
}
