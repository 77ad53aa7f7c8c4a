//! The whole agent in process: a fake CA on one side, an SDS client on a real Unix socket on the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message as _;
use proto::sds::{
    DiscoveryRequest, DiscoveryResponse, Secret, SecretDiscoveryServiceClient, Specifier,
    Status as RpcStatus, secret,
};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status as Refusal, Streaming};
use trust::{Clock, ManualClock, SeededRandomness};

use crate::fakes::ca::FakeCa;
use crate::fakes::{FakeProcesses, NOW};
use crate::running::start_with;
use crate::{AgentConfig, HostDeps, Running, Status};

mod absence;
mod addresses;
mod admission;
mod holding;
mod joining;
mod probing;
mod promises;
mod removed;
mod revoked;
mod serving;

/// Longest time that anything may take; tests wait for conditions, never for time.
const SOON: Duration = Duration::from_secs(60);

/// A CA, an agent, and the machine between them.
struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    processes: Arc<FakeProcesses>,
    ca: FakeCa,
    /// Other servers of the same CA.
    others: Vec<FakeCa>,
    agent: Option<Running>,
    /// Added to the configuration.
    more: String,
}

/// One stream of secrets.
struct Subscriber {
    up: mpsc::Sender<DiscoveryRequest>,
    down: Streaming<DiscoveryResponse>,
    names: Vec<String>,
}

impl Bench {
    /// A bench whose agent has joined.
    async fn joined() -> Self {
        let mut bench = Self::empty().await;
        bench.start().await;
        bench
            .until("the agent is a member and connected", |status| {
                status.member.is_some() && status.connected
            })
            .await;
        bench
    }

    async fn empty() -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let ca = FakeCa::start(Arc::clone(&clock) as Arc<dyn Clock>).await;
        let dir = tempfile::tempdir().unwrap();
        let bench = Self {
            dir,
            clock,
            processes: Arc::default(),
            ca,
            others: Vec::new(),
            agent: None,
            more: String::new(),
        };
        bench.write_token(&bench.ca.token());
        bench
    }

    fn write_token(&self, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.path().join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    async fn start(&mut self) {
        self.agent = Some(self.try_start().await.unwrap());
    }

    async fn try_start(&self) -> Result<Running, crate::StartError> {
        self.start_as(&self.text()).await
    }

    /// Starts an agent with this configuration.
    async fn start_as(&self, text: &str) -> Result<Running, crate::StartError> {
        let config = AgentConfig::parse(text).unwrap();
        let deps = HostDeps {
            clock: Arc::clone(&self.clock) as _,
            randomness: Arc::new(SeededRandomness::new(7)),
            disk: Arc::new(host::RealDisk),
        };
        start_with(config, deps, Arc::clone(&self.processes) as _).await
    }

    fn text(&self) -> String {
        let dir = self.dir.path().display();
        let all = [&self.ca].into_iter().chain(&self.others);
        let addresses: Vec<String> = all.map(|ca| ca.address.to_string()).collect();
        let uid = rustix::process::geteuid().as_raw();
        format!(
            r#"
            trust_domain = "example.org"
            ca_addresses = {addresses:?}
            state_dir = "{dir}/state"
            socket = "{dir}/agent.sock"
            join_token_file = "{dir}/token"
            [[workload]]
            uid = {uid}
            spiffe_id = "spiffe://example.org/ns/a/sa/b"
            {}
            "#,
            self.more
        )
    }

    /// As [`text`](Self::text), with a JWT and a file of roots.
    fn text_by_jwt(&self, roots: &std::path::Path) -> String {
        let by_jwt = format!("trust_bundle = \"{}\"\njwt_file", roots.display());
        self.text().replace("join_token_file", &by_jwt)
    }

    fn agent(&self) -> &Running {
        self.agent.as_ref().unwrap()
    }

    async fn stop(&mut self) {
        self.agent.take().unwrap().shutdown().await;
    }

    async fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Arc<Status> {
        let mut changes = self.agent().changes();
        let found = tokio::time::timeout(SOON, changes.wait_for(|status| holds(status))).await;
        match found {
            Ok(Ok(status)) => Arc::clone(&status),
            _ => panic!("{what}: {:#?}", self.agent().status()),
        }
    }

    /// Polls the CA's desk.
    async fn until_heard(&self, what: &str, holds: impl Fn(&crate::fakes::ca::Desk) -> bool) {
        let heard = async {
            while !holds(&self.ca.desk()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(SOON, heard).await.is_err() {
            panic!("{what}: {:#?}", self.ca.desk().heard);
        }
    }

    async fn sds(&self) -> SecretDiscoveryServiceClient<Channel> {
        sds(self.agent().socket().to_owned()).await
    }

    async fn subscribe(&self, name: &str) -> Subscriber {
        Subscriber::open(self.sds().await, &[name], "").await.unwrap()
    }
}

async fn sds(socket: PathBuf) -> SecretDiscoveryServiceClient<Channel> {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://agent");
    SecretDiscoveryServiceClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

impl Subscriber {
    async fn open(
        mut client: SecretDiscoveryServiceClient<Channel>,
        names: &[&str],
        version: &str,
    ) -> Result<Self, Refusal> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let (up, requests) = mpsc::channel(16);
        let first = DiscoveryRequest {
            resource_names: names.clone(),
            version_info: version.to_owned(),
            ..DiscoveryRequest::default()
        };
        up.send(first).await.unwrap();
        let down = client.stream_secrets(ReceiverStream::new(requests)).await?.into_inner();
        Ok(Self { up, down, names })
    }

    /// The next answer.
    async fn next(&mut self) -> Result<DiscoveryResponse, Refusal> {
        let message =
            tokio::time::timeout(SOON, self.down.message()).await.expect("an answer in time");
        message.map(|message| message.expect("the stream goes on"))
    }

    /// Whether nothing comes for a few ticks of the agent.
    async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(800), self.down.message()).await.is_err()
    }

    async fn ack(&self, answer: &DiscoveryResponse) {
        self.reply(answer, None).await;
    }

    async fn nack(&self, answer: &DiscoveryResponse, why: &str) {
        let error = RpcStatus { code: 13, message: why.to_owned(), ..RpcStatus::default() };
        self.reply(answer, Some(error)).await;
    }

    async fn reply(&self, answer: &DiscoveryResponse, error_detail: Option<RpcStatus>) {
        let request = DiscoveryRequest {
            resource_names: self.names.clone(),
            response_nonce: answer.nonce.clone(),
            version_info: answer.version_info.clone(),
            error_detail,
            ..DiscoveryRequest::default()
        };
        self.up.send(request).await.unwrap();
    }

    async fn next_acked(&mut self) -> DiscoveryResponse {
        let answer = self.next().await.unwrap();
        self.ack(&answer).await;
        answer
    }
}

/// The only secret of an answer.
fn secret_of(answer: &DiscoveryResponse) -> Secret {
    let [resource] = answer.resources.as_slice() else {
        panic!("{} resources", answer.resources.len())
    };
    Secret::decode(resource.value.as_slice()).unwrap()
}

/// Certificates of a leaf or of a validation secret.
fn certificates_of(answer: &DiscoveryResponse) -> Vec<Vec<u8>> {
    let source = match secret_of(answer).r#type.unwrap() {
        secret::Type::TlsCertificate(certificate) => certificate.certificate_chain,
        secret::Type::ValidationContext(context) => context.trusted_ca,
    };
    let Some(Specifier::InlineBytes(pem)) = source.unwrap().specifier else { panic!("not inline") };
    pem::parse_many(pem).unwrap().into_iter().map(pem::Pem::into_contents).collect()
}

fn code_of<T>(result: Result<T, Refusal>) -> Code {
    result.err().map_or(Code::Ok, |refusal| refusal.code())
}
