//! TLS by files that are named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// What a server may show, and what is shown to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Roots that its certificate must chain to, in PEM. Required for `https`.
    pub ca: Option<PathBuf>,
    /// Own certificate chain and key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Reads the files. Of an address in the clear none is asked for.
    pub(crate) fn client_config(&self, https: bool) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        if https {
            let ca = self.ca.as_ref().ok_or("an https address needs a file of roots to believe")?;
            for root in certificates(ca)? {
                roots.add(root).map_err(|error| format!("{}: {error}", ca.display()))?;
            }
            if roots.is_empty() {
                return Err(format!("{}: holds no certificate in PEM", ca.display()));
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        match self.identity.as_ref().filter(|_| https) {
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

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    found.map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    std::fs::read(path).map(Zeroizing::new).map_err(|error| format!("{}: {error}", path.display()))
}
