//! Agents of the thinnest kind: each with a certificate and a connection of its own, on which it only waits for bundles.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use console::tls_channel;
use proto::banyan::agent::v1::agent_message::Message as Said;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::server_message::Message as Told;
use proto::banyan::agent::v1::{
    AgentMessage, Bundle, GetBundleRequest, Hello, RegisterRequest, ServerMessage,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::bench::server::BenchServer;
use crate::tokens::{Supply, TokenSource};

/// Agents that join at a time.
const AT_ONCE: usize = 64;
/// Longest wait for a bundle that everybody must get.
const ALL_WITHIN: Duration = Duration::from_secs(300);

/// A bundle that came to an agent.
#[derive(Debug, Clone, Copy)]
struct Heard {
    sequence: u64,
    at: Instant,
}

/// Agents that are connected, spread evenly over the servers. Dropping them ends their connections.
#[derive(Debug)]
pub(super) struct Connected {
    agents: u32,
    bundles: mpsc::Receiver<anyhow::Result<Heard>>,
    _streams: JoinSet<()>,
}

impl Connected {
    /// Registers so many and connects them.
    pub(super) async fn join(
        servers: &[&BenchServer],
        tokens: &TokenSource,
        agents: u32,
    ) -> anyhow::Result<Self> {
        let mut desks = Vec::new();
        for server in servers {
            desks.push(Arc::new(Desk::open(server, tokens).await?));
        }
        let (heard, bundles) = mpsc::channel(usize::try_from(agents)? * 4);
        let (mut joining, mut streams) = (JoinSet::new(), JoinSet::new());
        for (number, desk) in (0..agents).zip(desks.iter().cycle()) {
            if joining.len() >= AT_ONCE {
                follow(joining.join_next().await, &heard, &mut streams)?;
            }
            let desk = Arc::clone(desk);
            joining.spawn(async move {
                desk.agent().await.with_context(|| format!("agent {number} of {agents}"))
            });
        }
        while let Some(joined) = joining.join_next().await {
            follow(Some(joined), &heard, &mut streams)?;
        }
        Ok(Self { agents, bundles, _streams: streams })
    }

    /// Waits until each has a bundle of at least this sequence; gives when each got it.
    pub(super) async fn all_have(&mut self, sequence: u64) -> anyhow::Result<Vec<Instant>> {
        let mut came = Vec::new();
        let wanted = usize::try_from(self.agents)?;
        let all = async {
            while came.len() < wanted {
                let heard = self.bundles.recv().await.context("no agent is connected")??;
                if heard.sequence >= sequence {
                    came.push(heard.at);
                }
            }
            anyhow::Ok(())
        };
        let waited = tokio::time::timeout(ALL_WITHIN, all).await;
        if waited.is_err() {
            bail!("{} of {wanted} agents have bundle {sequence} after {ALL_WITHIN:?}", came.len());
        }
        waited??;
        Ok(came)
    }
}

/// Where agents of one server join.
#[derive(Debug)]
struct Desk {
    address: String,
    roots: String,
    channel: Channel,
    bundle: Bundle,
    tokens: Supply,
}

/// What keeps an agent's stream up, and what it hears on it.
#[derive(Debug)]
struct Line {
    says: mpsc::Sender<AgentMessage>,
    hears: Streaming<ServerMessage>,
}

impl Desk {
    async fn open(server: &BenchServer, tokens: &TokenSource) -> anyhow::Result<Self> {
        let channel = server.connector().connect().await?;
        let request = GetBundleRequest::default();
        let answer = AgentServiceClient::new(channel.clone()).get_bundle(request).await?;
        let bundle = answer.into_inner().bundle.context("no bundle")?;
        let (address, roots) = (server.address().to_string(), server.roots().to_owned());
        Ok(Self { address, roots, channel, bundle, tokens: tokens.supply(false, 1)? })
    }

    async fn agent(&self) -> anyhow::Result<Line> {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let mut request = tonic::Request::new(RegisterRequest {
            csr: params.serialize_request(&key)?.der().to_vec(),
            build: "bench".to_owned(),
            stored_sequence: self.bundle.sequence,
            stored_digest: self.bundle.digest.clone(),
            for_node: false,
        });
        let token = self.tokens.next().context("no token")?;
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let answer = AgentServiceClient::new(self.channel.clone()).register(request).await?;
        let chain = answer.into_inner().chain.into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        self.connect(chain, key).await
    }

    async fn connect(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> anyhow::Result<Line> {
        let roots = tls_channel::roots_from_pem(self.roots.as_bytes())?;
        let tls = tls_channel::client_config(roots, Some((chain, key)))?;
        let channel = tls_channel::connect(&self.address, tls).await?;
        let (says, said) = mpsc::channel(1);
        let hello = Hello {
            build: "bench".to_owned(),
            highest_sequence: self.bundle.sequence,
            highest_digest: self.bundle.digest.clone(),
            held_serials: Vec::new(),
        };
        says.send(AgentMessage { message: Some(Said::Hello(hello)) }).await?;
        let stream = ReceiverStream::new(said);
        let hears = AgentServiceClient::new(channel).connect(stream).await?.into_inner();
        Ok(Line { says, hears })
    }
}

type Joined = Result<anyhow::Result<Line>, tokio::task::JoinError>;

/// Listens to an agent's stream from now on.
fn follow(
    joined: Option<Joined>,
    heard: &mpsc::Sender<anyhow::Result<Heard>>,
    streams: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let Line { says, mut hears } = joined.context("nobody joins")???;
    let heard = heard.clone();
    streams.spawn(async move {
        let _open = says;
        loop {
            let heard_now = next_bundle(&mut hears).await;
            let over = heard_now.is_err();
            if heard.send(heard_now).await.is_err() || over {
                break;
            }
        }
    });
    Ok(())
}

async fn next_bundle(hears: &mut Streaming<ServerMessage>) -> anyhow::Result<Heard> {
    loop {
        let message = hears.message().await?.context("a server ended an agent's stream")?;
        match message.message {
            Some(Told::Bundle(bundle)) => {
                return Ok(Heard { sequence: bundle.sequence, at: Instant::now() });
            }
            Some(Told::Drain(_) | Told::Ban(_)) => bail!("a server sends an agent away"),
            _ => {}
        }
    }
}
