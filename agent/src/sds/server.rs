//! The gRPC service: turns streams into commands for the hub, and the hub's answers into streams.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use proto::sds::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    SecretDiscoveryService,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status, Streaming};

use super::attest::Attestor;
use super::secret;
use super::socket::PeerInfo;
use crate::hub::{Command, HubHandle, Peer, Pushed, Refusal, Why};

/// Answers that wait for a reader: one that is not acknowledged, and a refusal that ends the stream.
const ANSWERS_MAX: usize = 2;

/// Envoy's `SecretDiscoveryService`, State of the World.
#[derive(Debug)]
pub(crate) struct SdsService {
    attestor: Attestor,
    hub: HubHandle,
    readers: TaskTracker,
    stop: CancellationToken,
}

/// What a caller reads. When it is dropped, its reader task ends.
pub(crate) struct Answers {
    from_hub: mpsc::Receiver<Pushed>,
    _reader: tokio_util::sync::DropGuard,
}

impl SdsService {
    /// A service whose reader tasks are counted by `readers` and end with `stop`.
    pub(crate) fn new(
        attestor: Attestor,
        hub: HubHandle,
        readers: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self { attestor, hub, readers, stop }
    }

    async fn peer(&self, info: Option<PeerInfo>) -> Result<Peer, Status> {
        self.attestor.peer(info.as_ref()).await.map_err(status)
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for SdsService {
    type StreamSecretsStream = Answers;
    type DeltaSecretsStream = futures::stream::Empty<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let peer = self.peer(info_of(&request)).await?;
        let (to, from_hub) = mpsc::channel(ANSWERS_MAX);
        let (reply, opened) = oneshot::channel();
        self.hub.send(Command::Open { peer, to, reply }).await.map_err(|_| stopping())?;
        let stream = opened.await.map_err(|_| stopping())?.map_err(status)?;
        let stop = self.stop.child_token();
        let reader = read(stream, request.into_inner(), self.hub.clone(), stop.clone());
        self.readers.spawn(reader);
        Ok(Response::new(Answers { from_hub, _reader: stop.drop_guard() }))
    }

    async fn delta_secrets(
        &self,
        _request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented(
            "only State of the World is served: set `api_type: GRPC`, not DELTA_GRPC",
        ))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let peer = self.peer(info_of(&request)).await?;
        let (reply, answer) = oneshot::channel();
        let mut names = request.into_inner().resource_names;
        let (Some(name), true) = (names.pop(), names.is_empty()) else {
            return Err(Status::invalid_argument(
                "ask for exactly one secret, or use StreamSecrets",
            ));
        };
        self.hub.send(Command::Fetch { peer, name, reply }).await.map_err(|_| stopping())?;
        answered(answer.await.map_err(|_| stopping())?).map(Response::new)
    }
}

impl Stream for Answers {
    type Item = Result<DiscoveryResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.from_hub.poll_recv(context).map(|next| next.map(answered))
    }
}

/// Hands on what comes on a stream, in order, until it ends.
async fn read(
    stream: u64,
    mut inbound: Streaming<DiscoveryRequest>,
    hub: HubHandle,
    stop: CancellationToken,
) {
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => break,
            received = inbound.message() => received,
        };
        let Ok(Some(request)) = received else { break };
        let command = match secret::heard(request) {
            Ok(heard) => Command::Heard { stream, heard },
            Err(refusal) => Command::Refuse { stream, refusal },
        };
        if hub.send(command).await.is_err() {
            return;
        }
    }
    // At shutdown the hub has closed everything itself.
    let _ = hub.send(Command::Close { stream }).await;
}

fn info_of<T>(request: &Request<T>) -> Option<PeerInfo> {
    request.extensions().get::<PeerInfo>().cloned()
}

fn answered(pushed: Pushed) -> Result<DiscoveryResponse, Status> {
    pushed.map(|delivery| secret::response(&delivery)).map_err(status)
}

/// A refusal in the words of gRPC.
fn status(refusal: Refusal) -> Status {
    let code = match refusal.why {
        Why::Malformed => Code::InvalidArgument,
        Why::NotPermitted => Code::PermissionDenied,
        Why::NotPossible => Code::FailedPrecondition,
        Why::ShareTaken => Code::ResourceExhausted,
        Why::NotNow => Code::Unavailable,
        Why::CallerGone => Code::Aborted,
    };
    Status::new(code, refusal.text)
}

fn stopping() -> Status {
    Status::unavailable("the agent is shutting down")
}
