//! A client of an agent's socket, as Envoy is one, that does only what a test tells it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use proto::sds::{
    DiscoveryRequest, DiscoveryResponse, Secret, SecretDiscoveryServiceClient, Specifier,
    Status as RpcStatus, secret,
};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use trust::{Certificate, Serial};

use crate::support::SOON;

/// Longer than a few ticks of the agent (250 ms each): what does not come within it is held back.
const QUIET: Duration = Duration::from_millis(900);

/// One stream with one secret.
#[derive(Debug)]
pub struct Subscriber {
    name: String,
    up: mpsc::Sender<DiscoveryRequest>,
    down: Streaming<DiscoveryResponse>,
}

impl Subscriber {
    /// Connects to a socket and asks for a secret.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn open(socket: &Path, name: &str) -> anyhow::Result<Self> {
        let (name, (up, requests)) = (name.to_owned(), mpsc::channel(16));
        let mut client = SecretDiscoveryServiceClient::new(connect(socket).await?);
        up.send(DiscoveryRequest {
            resource_names: vec![name.clone()],
            ..DiscoveryRequest::default()
        })
        .await?;
        let down = client.stream_secrets(ReceiverStream::new(requests)).await?.into_inner();
        Ok(Self { name, up, down })
    }

    /// The next answer, or why the stream ended.
    ///
    /// # Errors
    /// When nothing comes in time. The inner error is the agent's.
    pub async fn next(&mut self) -> anyhow::Result<Result<DiscoveryResponse, tonic::Status>> {
        let message = tokio::time::timeout(SOON, self.down.message());
        let message = message.await.with_context(|| format!("nothing comes for {}", self.name))?;
        Ok(message.and_then(|message| {
            message.ok_or_else(|| tonic::Status::cancelled("the stream ended"))
        }))
    }

    /// The next answer, whenever it comes.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn pushed(&mut self) -> anyhow::Result<DiscoveryResponse> {
        self.down.message().await?.context("the stream ended")
    }

    /// The next answer, acknowledged.
    ///
    /// # Errors
    /// When nothing comes in time, or the stream ended.
    pub async fn applied(&mut self) -> anyhow::Result<DiscoveryResponse> {
        let answer = self.next().await??;
        self.ack(&answer).await?;
        Ok(answer)
    }

    /// Whether nothing comes for a while.
    pub async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(QUIET, self.down.message()).await.is_err()
    }

    /// Acknowledges an answer.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn ack(&self, answer: &DiscoveryResponse) -> anyhow::Result<()> {
        self.reply(answer, None).await
    }

    /// Refuses an answer.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn nack(&self, answer: &DiscoveryResponse, why: &str) -> anyhow::Result<()> {
        let error = RpcStatus { code: 13, message: why.to_owned(), ..RpcStatus::default() };
        self.reply(answer, Some(error)).await
    }

    async fn reply(
        &self,
        answer: &DiscoveryResponse,
        error: Option<RpcStatus>,
    ) -> anyhow::Result<()> {
        let request = DiscoveryRequest {
            resource_names: vec![self.name.clone()],
            response_nonce: answer.nonce.clone(),
            version_info: answer.version_info.clone(),
            error_detail: error,
            ..DiscoveryRequest::default()
        };
        Ok(self.up.send(request).await?)
    }
}

/// Connects to an agent's socket.
async fn connect(socket: &Path) -> anyhow::Result<Channel> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://agent").connect_with_connector(connector).await?)
}

/// The one secret of an answer.
pub(super) fn secret_of(answer: &DiscoveryResponse) -> anyhow::Result<Secret> {
    let [resource] = answer.resources.as_slice() else {
        bail!("{} resources", answer.resources.len())
    };
    Ok(Secret::decode(resource.value.as_slice())?)
}

/// Certificates of an answer: the chain of a leaf, or the roots of a validation secret.
///
/// # Errors
/// When there are none.
pub fn certificates(answer: &DiscoveryResponse) -> anyhow::Result<Vec<Vec<u8>>> {
    let source = match secret_of(answer)?.r#type.context("an empty secret")? {
        secret::Type::TlsCertificate(certificate) => certificate.certificate_chain,
        secret::Type::ValidationContext(context) => context.trusted_ca,
    };
    let Some(Specifier::InlineBytes(text)) = source.and_then(|source| source.specifier) else {
        bail!("the secret is not inline")
    };
    Ok(pem::parse_many(text)?.into_iter().map(pem::Pem::into_contents).collect())
}

/// Serial number of the leaf in an answer.
///
/// # Errors
/// When there is none, or not one that a CA of Banyan draws.
pub fn serial(answer: &DiscoveryResponse) -> anyhow::Result<Serial> {
    let chain = certificates(answer)?;
    let leaf = Certificate::parse(chain.first().context("an empty chain")?)?;
    leaf.serial().context("a foreign serial number")
}
