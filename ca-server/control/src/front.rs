//! What clients meet of a server, as far as what runs by itself changes it.

use std::fmt;

use async_trait::async_trait;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What a handshake is answered with: the server's own chain and its key.
pub struct ServerIdentity {
    /// Chain in DER, leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key. Never shown, never stored.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").finish_non_exhaustive()
    }
}

/// Why an identity cannot be served with. The former one is served on.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot use the server's own leaf: {0}")]
pub struct NotServed(pub String);

/// The front of a server.
#[async_trait]
pub trait Front: Send + Sync + fmt::Debug {
    /// Answers later handshakes with this identity.
    ///
    /// # Errors
    /// [`NotServed`] when it fits nothing.
    fn serve_as(&self, identity: ServerIdentity) -> Result<(), NotServed>;

    /// Whether probes were told that requests can be served.
    fn is_ready(&self) -> bool;

    /// Tells probes whether requests can be served.
    async fn set_ready(&self, ready: bool);
}
