//! One look at an endpoint.

use std::sync::Arc;
use std::time::Duration;

use fetch::{Address, Failure};
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
    let fetched = address.fetch(tls, WITHIN, DOCUMENT_BYTES_MAX).await;
    let bytes = fetched.map_err(|failure| match &failure {
        Failure::NotBelieved(_) => format!("{failure}: {}", believed(domain, row)),
        Failure::Other(_) => failure.to_string(),
    })?;
    let read = document::read(&bytes, domain)
        .map_err(|refused| format!("what {address} answers is not taken: {refused}"))?;
    Ok(as_stored(&read, clock))
}

/// By what an endpoint is believed, and what to do when it is not.
fn believed(domain: &TrustDomain, row: &FederationRow) -> String {
    let [ca, id] = match kept_by_object(row) {
        Some(_) => ["spec.caBundle", "spec.endpointSPIFFEID"],
        None => ["--endpoint-ca", "--endpoint-id"],
    };
    match &row.profile {
        EndpointProfile::Spiffe(meant) => format!(
            "whoever shows {meant} is believed there, by the bundle of {domain} that is known here. If all roots of that one were \
             replaced meanwhile, give those of today: {}",
            given_by(row)
        ),
        EndpointProfile::Web(given) => format!(
            "whoever has a certificate for the host's name is believed there, below {}. If the endpoint shows another CA's, name \
             that with {ca}; if it shows a SPIFFE id, name that with {id}",
            match given {
                Some(_) => "the CAs that were given for it",
                None => "the CAs of the machine that this server runs on",
            }
        ),
    }
}

/// How its keeper gives a bundle by hand.
pub(crate) fn given_by(row: &FederationRow) -> String {
    match kept_by_object(row) {
        Some(object) => format!("`spec.bundle` of the FederatedTrustDomain {object}"),
        None => "`banyan federation add` with --bundle".to_owned(),
    }
}

/// How its keeper ends it.
pub(crate) fn ended_by(domain: &str, row: &FederationRow) -> String {
    match kept_by_object(row) {
        Some(object) => format!("delete the FederatedTrustDomain {object}"),
        None => format!("`banyan federation remove {domain}`"),
    }
}

/// The object of a cluster that keeps a federation; operators are refused to change it.
fn kept_by_object(row: &FederationRow) -> Option<&str> {
    row.owner.strip_prefix("kubernetes/")
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
                let by = given_by(row);
                format!("no bundle is there yet to believe its endpoint by: give the first one by hand, {by}")
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
