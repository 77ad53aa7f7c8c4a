//! Secrets from an agent, over SDS as Envoy asks for them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper_util::rt::TokioIo;
use prost::Message;
use proto::sds::{
    DataSource, DiscoveryRequest, Node, Secret, SecretDiscoveryServiceClient, Specifier, secret,
};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use super::held::Held;

/// Type URL of every SDS secret.
const SECRET_TYPE: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// Wait before an SDS stream that ended is opened again.
const STREAM_RETRY: Duration = Duration::from_millis(200);

/// Keeps one secret's stream open for ever: applies what comes, then acknowledges it.
pub(super) async fn follow(
    name: &'static str,
    socket: PathBuf,
    held: Arc<Held>,
    frozen: watch::Receiver<bool>,
) {
    loop {
        if let Err(error) = stream_once(name, &socket, &held, frozen.clone()).await {
            tracing::debug!(secret = name, error = %format!("{error:#}"), "SDS stream ended");
        }
        tokio::time::sleep(STREAM_RETRY).await;
    }
}

async fn stream_once(
    name: &str,
    socket: &Path,
    held: &Held,
    mut frozen: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut client = SecretDiscoveryServiceClient::new(connect(socket).await?);
    let (requests, outgoing) = tokio::sync::mpsc::channel(4);
    let request = |nonce: &str, version: &str| DiscoveryRequest {
        version_info: version.to_owned(),
        node: Some(Node { id: "demo".to_owned(), ..Node::default() }),
        resource_names: vec![name.to_owned()],
        type_url: SECRET_TYPE.to_owned(),
        response_nonce: nonce.to_owned(),
        error_detail: None,
    };
    requests.send(request("", "")).await?;
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let mut incoming = client.stream_secrets(outgoing).await?.into_inner();
    let mut applied = String::new();
    while let Some(response) = incoming.message().await? {
        frozen.wait_for(|frozen| !frozen).await?;
        let mut answer = request(&response.nonce, &response.version_info);
        match response.resources.iter().try_for_each(|any| apply(held, &any.value)) {
            Ok(()) => applied = response.version_info,
            Err(error) => {
                answer.version_info.clone_from(&applied);
                answer.error_detail = Some(proto::sds::Status {
                    code: 3,
                    message: format!("{error:#}"),
                    ..Default::default()
                });
            }
        }
        requests.send(answer).await?;
    }
    Ok(())
}

async fn connect(socket: &Path) -> anyhow::Result<Channel> {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Ok(Endpoint::from_static("http://localhost").connect_with_connector(connector).await?)
}

/// Takes what a secret holds.
fn apply(held: &Held, secret: &[u8]) -> anyhow::Result<()> {
    match Secret::decode(secret)?.r#type {
        Some(secret::Type::TlsCertificate(certificate)) => {
            let chain = inline(certificate.certificate_chain).context("certificate chain")?;
            let key = inline(certificate.private_key).context("private key")?;
            held.put_leaf(&chain, &key)?;
        }
        Some(secret::Type::ValidationContext(context)) => {
            held.put_roots(&inline(context.trusted_ca).context("trusted CA")?)?;
        }
        None => bail!("a secret of an unknown kind"),
    }
    held.rebuild()
}

fn inline(source: Option<DataSource>) -> anyhow::Result<Vec<u8>> {
    match source.and_then(|source| source.specifier) {
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes),
        Some(Specifier::InlineString(text)) => Ok(text.into_bytes()),
        _ => bail!("the secret is not inline"),
    }
}
