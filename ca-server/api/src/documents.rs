//! The bundle of this CA as a document that other trust domains read over HTTPS.

use std::sync::Arc;

use tokio::sync::watch;
use transport::document::DocumentTls;
use transport::tls::ServingIdentity;

use control::ca::Ca;
use control::front::ServerIdentity;

/// As whom the bundle endpoint answers.
#[derive(Debug, Clone)]
pub enum ShownAs {
    /// As the CA itself, by its SPIFFE id (`https_spiffe`).
    TheCa,
    /// As a host, by a certificate of its own (`https_web`).
    Host(watch::Receiver<Option<Arc<ServerIdentity>>>),
}

/// The document of this moment.
pub(crate) fn document(ca: &Ca) -> Result<Vec<u8>, String> {
    ca.replication.may_release().map_err(|refusal| refusal.message())?;
    let bundle = ca.bundles.borrow().clone();
    federation::document::write(&bundle, ca.federated.refresh_hint).map_err(|root| {
        format!("root {} has a key that a SPIFFE bundle document cannot say", root.short())
    })
}

/// What handshakes are answered with.
pub(crate) fn serving(identity: &ServerIdentity) -> ServingIdentity {
    ServingIdentity { chain: identity.chain.clone(), key: identity.key.clone_key() }
}

/// Answers readers with the newest identity that there is.
pub(crate) async fn follow(
    mut identity: watch::Receiver<Option<Arc<ServerIdentity>>>,
    tls: Arc<DocumentTls>,
) {
    loop {
        let shown = identity.borrow_and_update().clone();
        if let Some(shown) = shown
            && let Err(error) = tls.renew(serving(&shown))
        {
            tracing::error!(%error, "the bundle endpoint goes on with its former certificate");
        }
        if identity.changed().await.is_err() {
            return;
        }
    }
}

/// Whether a certificate and a key belong together, and can be shown.
///
/// # Errors
/// What is wrong with them.
pub fn fits(
    chain: &[rustls_pki_types::CertificateDer<'static>],
    key: &rustls_pki_types::PrivateKeyDer<'static>,
) -> Result<(), String> {
    let identity = ServingIdentity { chain: chain.to_vec(), key: key.clone_key() };
    DocumentTls::default().renew(identity).map_err(|error| error.to_string())
}
