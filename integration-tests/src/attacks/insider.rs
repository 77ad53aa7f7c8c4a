//! What callers do whom the server knows: as fast as it answers, with one credential.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use proto::banyan::agent::v1::agent_message::Message as Said;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::{
    Ack, AgentMessage, AppliedRow, EvidenceClass, GetBundleRequest, Hello, Nack, RegisterRequest,
};
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::sync::{OnceCell, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::Channel;

use super::counts::Counts;
use crate::mesh::{Registered, tls_channel};

/// Messages that wait for the stream.
const MESSAGES: usize = 64;

/// Somebody with a good JWT, of one service account; all of its connections share what it got.
#[derive(Clone, Debug)]
pub(super) struct Insider {
    pub(super) grpc: SocketAddr,
    pub(super) roots: Arc<Vec<Vec<u8>>>,
    pub(super) token: Arc<str>,
    pub(super) agent: Arc<OnceCell<Registered>>,
}

impl Insider {
    /// Registers agents with ever new keys.
    pub(super) async fn registers(&self, counts: &Counts) -> anyhow::Result<()> {
        let mut client = self.agents(None).await?;
        let stored = stored(&mut client).await?;
        loop {
            let request = self.registration(&KeyPair::generate()?, &stored)?;
            counts.answered(client.register(request).await.map(drop))?;
        }
    }

    /// Asks for leaves.
    pub(super) async fn asks(&self, counts: &Counts) -> anyhow::Result<()> {
        let mut client = IstioCertificateServiceClient::new(self.channel(None).await?);
        let csr = request_of(&KeyPair::generate()?)?.1;
        loop {
            let message =
                IstioCertificateRequest { csr: csr.clone(), validity_duration: 0, metadata: None };
            let request = self.authorized(message)?;
            counts.answered(client.create_certificate(request).await.map(drop))?;
        }
    }

    /// Says, as one registered agent, what a server would write into its log.
    pub(super) async fn storms(&self, counts: &Counts) -> anyhow::Result<()> {
        let agent = self.agent.get_or_try_init(|| self.joins()).await?;
        let mut client = self.agents(Some(agent)).await?;
        let (up, requests) = mpsc::channel(MESSAGES);
        let mut down = client.connect(ReceiverStream::new(requests)).await?.into_inner();
        let talk = async {
            loop {
                for message in storm() {
                    up.send(AgentMessage { message: Some(message) }).await?;
                    counts.taken(1);
                }
            }
        };
        let hear = async {
            while down.message().await?.is_some() {}
            anyhow::Ok(())
        };
        tokio::select! {
            talked = talk => talked,
            heard = hear => heard,
        }
    }

    async fn joins(&self) -> anyhow::Result<Registered> {
        let (mut client, key) = (self.agents(None).await?, KeyPair::generate()?);
        let stored = stored(&mut client).await?;
        let answer = client.register(self.registration(&key, &stored)?).await?.into_inner();
        Ok(Registered { chain: answer.chain, key })
    }

    fn registration(
        &self,
        key: &KeyPair,
        stored: &(u64, Vec<u8>),
    ) -> anyhow::Result<Request<RegisterRequest>> {
        let (stored_sequence, stored_digest) = stored;
        self.authorized(RegisterRequest {
            csr: request_of(key)?.0,
            build: "insider".to_owned(),
            stored_sequence: *stored_sequence,
            stored_digest: stored_digest.clone(),
            for_node: false,
        })
    }

    fn authorized<M>(&self, message: M) -> anyhow::Result<Request<M>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse()?);
        Ok(request)
    }

    async fn agents(
        &self,
        agent: Option<&Registered>,
    ) -> anyhow::Result<AgentServiceClient<Channel>> {
        Ok(AgentServiceClient::new(self.channel(agent).await?))
    }

    async fn channel(&self, agent: Option<&Registered>) -> anyhow::Result<Channel> {
        tls_channel(self.grpc, &self.roots, agent, &[&rustls::version::TLS13]).await
    }
}

/// A CSR without subject and names, in DER and in PEM.
pub(super) fn request_of(key: &KeyPair) -> anyhow::Result<(Vec<u8>, String)> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(key)?;
    Ok((request.der().to_vec(), request.pem()?))
}

/// A refusal of a holder, a new greeting, and a bundle that nobody has published.
fn storm() -> [Said; 3] {
    let reason = "x".repeat(256);
    let nack = Nack { serial: vec![0x40; 16], sequence: 1, reason: reason.clone() };
    let hello = Hello { build: reason, highest_sequence: 1, ..Hello::default() };
    let row = AppliedRow {
        serial: vec![0x40; 16],
        sequence: 1 << 40,
        evidence: EvidenceClass::Applied.into(),
    };
    [Said::Nack(nack), Said::Hello(hello), Said::Ack(Ack { rows: vec![row] })]
}

async fn stored(client: &mut AgentServiceClient<Channel>) -> anyhow::Result<(u64, Vec<u8>)> {
    let answer =
        client.get_bundle(GetBundleRequest::default()).await.map_err(|status| anyhow!(status))?;
    let bundle = answer.into_inner().bundle.context("an answer without a bundle")?;
    Ok((bundle.sequence, bundle.digest))
}
