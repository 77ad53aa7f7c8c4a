//! The client: one channel to each server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use auth::authn::mtls::RowWord;
use control::front::ServerIdentity;
use control::peers::calls::{AgentLeaves, CallError, PeerCalls, Place, Statement};
use proto::banyan::replica::v1 as message;
use proto::banyan::replica::v1::peer_service_client::PeerServiceClient;
use rotation::ReplicaName;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use trust::{Bundle, BundleDigest, CertificateId, Clock, Serial};

use crate::channel::{self, Terms, unreachable};
use crate::wire;

/// Largest answer that is read.
const MESSAGE_MAX: usize = 64 * 1024;

/// Calls the other servers of this CA.
#[derive(Debug)]
pub struct PeerClient {
    bundle: watch::Receiver<Bundle>,
    identity: watch::Receiver<Option<Arc<ServerIdentity>>>,
    clock: Arc<dyn Clock>,
    channels: Mutex<BTreeMap<ReplicaName, Open>>,
}

/// A channel, and what it was made for.
#[derive(Debug)]
struct Open {
    address: String,
    bundle: BundleDigest,
    identity: Arc<ServerIdentity>,
    channel: Channel,
}

impl PeerClient {
    /// Believes the servers of this bundle, and shows this identity.
    pub fn new(
        bundle: watch::Receiver<Bundle>,
        identity: watch::Receiver<Option<Arc<ServerIdentity>>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { bundle, identity, clock, channels: Mutex::default() }
    }

    fn to(&self, place: &Place) -> Result<PeerServiceClient<Channel>, CallError> {
        let channel = self.channel(place)?;
        Ok(PeerServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX))
    }

    fn channel(&self, place: &Place) -> Result<Channel, CallError> {
        let no_identity = || unreachable(&place.address, "this server has no certificate yet");
        let identity = self.identity.borrow().clone().ok_or_else(no_identity)?;
        let bundle = self.bundle.borrow().clone();
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |open: &&Open| {
            open.address == place.address
                && open.bundle == bundle.digest()
                && Arc::ptr_eq(&open.identity, &identity)
        };
        if let Some(open) = channels.get(&place.name).filter(fits) {
            return Ok(open.channel.clone());
        }
        let digest = bundle.digest();
        let terms =
            Terms { bundle, identity: Arc::clone(&identity), clock: Arc::clone(&self.clock) };
        let channel = channel::to(place, terms)?;
        let address = place.address.clone();
        let open = Open { address, bundle: digest, identity, channel: channel.clone() };
        channels.insert(place.name.clone(), open);
        Ok(channel)
    }
}

#[async_trait]
impl PeerCalls for PeerClient {
    async fn look_up(
        &self,
        peer: &Place,
        issuer: CertificateId,
        serial: Serial,
    ) -> Result<Option<RowWord>, CallError> {
        let (issuer, serial) = (issuer.as_bytes().to_vec(), serial.as_bytes().to_vec());
        let asked = self.to(peer)?.look_up(message::LookUpRequest { issuer, serial }).await;
        let answer = asked.map_err(|status| failed(peer, &status))?.into_inner();
        answer.row.map(wire::row).transpose()
    }

    async fn tell(
        &self,
        peer: &Place,
        statements: Vec<Statement>,
    ) -> Result<Vec<Serial>, CallError> {
        let statements = statements.into_iter().map(wire::statement).collect();
        let told = self.to(peer)?.tell(message::TellRequest { statements }).await;
        let ours = told.map_err(|status| failed(peer, &status))?.into_inner().ours;
        Ok(ours.iter().filter_map(|bytes| Serial::from_bytes(bytes)).collect())
    }

    async fn ask_to_renew(&self, peer: &Place, leaves: Vec<AgentLeaves>) -> Result<(), CallError> {
        let agents = leaves.into_iter().map(wire::agent_leaves).collect();
        let asked = self.to(peer)?.ask_to_renew(message::AskToRenewRequest { agents }).await;
        asked.map(drop).map_err(|status| failed(peer, &status))
    }
}

/// A server that refuses says why in `ErrorInfo`; whatever has none did not come from it.
fn failed(peer: &Place, status: &Status) -> CallError {
    if status.get_details_error_info().is_some() {
        return CallError::Refused(status.message().to_owned());
    }
    if status.code() == Code::Unimplemented {
        return CallError::Refused("it is of a release that does not know this call".to_owned());
    }
    let mut why = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        why = error.to_string();
        source = error.source();
    }
    unreachable(&peer.address, &why)
}
