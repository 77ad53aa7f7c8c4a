//! One look at an endpoint.

use std::sync::Arc;
use std::time::Duration;

use fetch::Address;
use registry::{EndpointProfile, FederationRow, ForeignBundle};
use rustls::ClientConfig;
use trust::{Bundle, Clock, Sequence, TrustDomain};
use trust_tls::{Meant, SpiffeServer, server_verifier};

use crate::document::{self, DOCUMENT_BYTES_MAX};

/// Time for one look.
const WITHIN: Duration = Duration::from_secs(10);

/// Reads the bundle of a domain where it is.
///
/// # Errors
/// Why it was not, and what to do.
pub(crate) async fn look(
    domain: &TrustDomain,
    row: &FederationRow,
    clock: &Arc<dyn Clock>,
) -> Result<ForeignBundle, String> {
    let address =
        Address::new(&row.endpoint).map_err(|error| format!("{} {error}", row.endpoint))?;
    let tls = tls(domain, row, clock).await?;
    let bytes = address.fetch(tls, WITHIN, DOCUMENT_BYTES_MAX).await?;
    let read = document::read(&bytes, domain)
        .map_err(|refused| format!("what {address} answers is not taken: {refused}"))?;
    Ok(as_stored(&read, clock))
}

/// A document as the registry stores it.
pub(crate) fn as_stored(read: &document::Document, clock: &Arc<dyn Clock>) -> ForeignBundle {
    ForeignBundle {
        sequence: read.sequence,
        refresh_hint: read.refresh_hint,
        roots: read.bundle.roots().iter().map(|root| root.der().to_vec()).collect(),
        taken: clock.now(),
        checked: None,
    }
}

async fn tls(
    domain: &TrustDomain,
    row: &FederationRow,
    clock: &Arc<dyn Clock>,
) -> Result<ClientConfig, String> {
    match &row.profile {
        EndpointProfile::Web(Some(pem)) => {
            fetch::below(pem.as_bytes()).map_err(|error| format!("the CA given for it: {error}"))
        }
        EndpointProfile::Web(None) => {
            let found = tokio::task::spawn_blocking(fetch::below_system).await;
            found.map_err(|error| error.to_string()).flatten()
        }
        EndpointProfile::Spiffe(meant) => {
            let there = row.bundle.as_ref().ok_or_else(|| {
                "no bundle is there yet to believe its endpoint by: give the first one by hand, `banyan federation add` with --bundle"
                    .to_owned()
            })?;
            let bundle = bundle(domain, there)?;
            let (clock, meant) = (Arc::clone(clock), Meant::Of(meant.clone()));
            fetch::believing(server_verifier(Arc::new(SpiffeServer { bundle, clock, meant })))
        }
    }
}

/// The roots of a stored bundle.
pub(crate) fn bundle(domain: &TrustDomain, stored: &ForeignBundle) -> Result<Bundle, String> {
    let bundle = Bundle::from_ders(domain.clone(), Sequence(0), &stored.roots);
    bundle.map_err(|error| format!("the bundle that is stored cannot be used: {error}"))
}
