//! Calls to the CA, over channels that are built anew at each change of place, of the bundle, or of the agent's own certificate.

use std::sync::{Arc, Mutex, PoisonError};

use proto::banyan::agent::v1 as wire;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use trust::{Bundle, Clock};
use zeroize::Zeroizing;

use crate::key::PrivateKey;
use crate::leaf::Leaf;

mod addresses;
mod call_error;
mod dial;
pub(crate) mod tls;

pub(crate) use addresses::{Addresses, Place};
pub(crate) use call_error::{CallError, Way};
pub(crate) use dial::{CALL_TIMEOUT, Client, channel, client, timed};

/// The CA as this agent knows it now.
#[derive(Debug)]
pub(crate) struct CaClient {
    addresses: Addresses,
    clock: Arc<dyn Clock>,
    trust: watch::Receiver<Option<Bundle>>,
    credential: watch::Receiver<Option<Arc<Leaf>>>,
    cached: Mutex<Option<Cached>>,
}

#[derive(Debug)]
struct Cached {
    place: Place,
    bundle: Bundle,
    credential: Arc<Leaf>,
    channel: Channel,
}

impl CaClient {
    /// A client that follows the bundle and the credential.
    pub(crate) fn new(
        addresses: Addresses,
        clock: Arc<dyn Clock>,
        trust: watch::Receiver<Option<Bundle>>,
        credential: watch::Receiver<Option<Arc<Leaf>>>,
    ) -> Self {
        Self { addresses, clock, trust, credential, cached: Mutex::new(None) }
    }

    /// Where the CA is.
    pub(crate) const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The place in use.
    pub(crate) async fn place(&self) -> Result<Place, CallError> {
        self.addresses.place().await
    }

    /// Leaves a place for an error, if another one may do better.
    pub(crate) fn judge(&self, place: &Place, error: &CallError) {
        if error.leaves() {
            self.addresses.leave(place, error.way(), &error.to_string());
        }
    }

    /// What is known of every place that is not in use.
    pub(crate) fn others(&self) -> String {
        let left = self.addresses.report().into_iter().filter_map(|row| {
            let at = row.at.filter(|at| *at != row.address);
            let at = at.map(|at| format!(" ({at})")).unwrap_or_default();
            Some(format!("{}{at}: {}", row.address, row.left_because?))
        });
        left.collect::<Vec<_>>().join("; ")
    }

    /// A client without credential of its own, for a call that carries a token.
    pub(crate) fn anonymous(&self, place: &Place) -> Result<Client, CallError> {
        let bundle = self.trust.borrow().clone().ok_or(CallError::NoTrust)?;
        self.build(place, bundle, None).map(client)
    }

    /// A client with the agent's certificate. The channel is shared until the place, the bundle or the certificate changes.
    pub(crate) fn authenticated(&self, place: &Place) -> Result<Client, CallError> {
        let bundle = self.trust.borrow().clone().ok_or(CallError::NoTrust)?;
        let credential = self.credential.borrow().clone().ok_or(CallError::NoCredential)?;
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |cached: &&Cached| {
            Arc::ptr_eq(&cached.credential, &credential)
                && cached.bundle == bundle
                && cached.place == *place
        };
        if let Some(cached) = cached.as_ref().filter(fits) {
            return Ok(client(cached.channel.clone()));
        }
        let channel = self.build(place, bundle.clone(), Some(tls::presented(&credential)))?;
        let place = place.clone();
        *cached = Some(Cached { place, bundle, credential, channel: channel.clone() });
        Ok(client(channel))
    }

    /// Asks for a workload's leaf, here; with a token beside the certificate, if one is given.
    pub(crate) async fn issue(
        &self,
        place: &Place,
        request: wire::IssueWorkloadRequest,
        beside: Option<Zeroizing<String>>,
    ) -> Result<wire::IssueResponse, CallError> {
        let mut client = self.authenticated(place)?;
        let mut request = timed(request);
        if let Some(bearer) = beside {
            let mut bearer =
                AsciiMetadataValue::try_from(bearer.as_str()).map_err(|_| CallError::Header)?;
            bearer.set_sensitive(true);
            request.metadata_mut().insert("authorization", bearer);
        }
        let call = client.issue_workload(request);
        let answer = call.await.map_err(|status| refused(place, status))?;
        self.addresses.serves(place);
        Ok(answer.into_inner())
    }

    /// A client with a certificate that may have expired, or whose root has gone: only for the one call that takes it.
    pub(crate) fn returning(
        &self,
        place: &Place,
        chain: &[Vec<u8>],
        key: &PrivateKey,
    ) -> Result<Client, CallError> {
        let bundle = self.trust.borrow().clone().ok_or(CallError::NoTrust)?;
        let chain = chain.iter().cloned().map(CertificateDer::from).collect();
        self.build(place, bundle, Some((chain, key.rustls()))).map(client)
    }

    fn build(
        &self,
        place: &Place,
        bundle: Bundle,
        credential: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Channel, CallError> {
        let verifier = tls::ca_verifier(bundle, Arc::clone(&self.clock));
        channel(place, tls::client_config(verifier, credential)?)
    }
}

/// Wraps what a call at a place said.
pub(crate) fn refused(place: &Place, status: Status) -> CallError {
    CallError::Refused { address: place.label(), status: Box::new(status) }
}

/// A client without credential that believes these roots.
pub(crate) fn believing(
    bundle: Bundle,
    place: &Place,
    clock: &Arc<dyn Clock>,
) -> Result<Client, CallError> {
    let verifier = tls::ca_verifier(bundle, Arc::clone(clock));
    channel(place, tls::client_config(verifier, None)?).map(client)
}
