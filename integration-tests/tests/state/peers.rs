//! Several servers of one CA as processes over one etcd: leaves of one of them, shown and spoken of at another.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use host::RealDisk;
use integration_tests::faults::{CaDir, ChildCa, Door, Member, Shown, eventually, reason};
use ledger::Record;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{GetRotationRequest, StartRotationRequest};
use proto::banyan::agent::v1::agent_message::Message as Says;
use proto::banyan::agent::v1::server_message::Message as Said;
use proto::banyan::agent::v1::{
    Ack, AgentMessage, AppliedRow, EvidenceClass, Hello, ServerMessage,
};
use proto::banyan::replica::v1 as peer;
use proto::banyan::replica::v1::peer_service_client::PeerServiceClient;
use proto::istio::v1::auth::IstioCertificateRequest;
use proto::istio::v1::auth::istio_certificate_service_client::IstioCertificateServiceClient;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::etcd::Etcd;
use crate::support::channel;

/// Leaves live far longer than any test: no gate opens here because one has ended.
const LIMITS: &str = "[root]\nlifetime = \"18000d\"\nissuer_lifetime = \"9000d\"\n[leaf]\nttl_default = \"1h\"\n\
                      ttl_max = \"1h\"\nskew = \"1s\"\nbackdate = \"1s\"\n[rotation]\nsettle = \"1s\"\n";

/// One of several servers: a process, and the way to it.
struct Server {
    dir: CaDir,
    grpc: SocketAddr,
    plain: SocketAddr,
    running: Option<ChildCa>,
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Server {
    fn planned(name: &str, etcd: &Etcd) -> anyhow::Result<Self> {
        let (grpc, plain) = (free()?, free()?);
        let replica =
            format!("[replica]\nname = \"{name}\"\naddress = \"{grpc}\"\nlease = \"5s\"\n");
        let dir = CaDir::new(&format!("{LIMITS}{}{replica}", etcd.section()))?;
        let server = Self { dir, grpc, plain, running: None };
        server.reconfigure("grpc = \"127.0.0.1:0\"", &format!("grpc = \"{grpc}\""))?;
        server.reconfigure("plain = \"127.0.0.1:0\"", &format!("plain = \"{plain}\""))?;
        Ok(server)
    }

    fn reconfigure(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.dir.config_path();
        let text = std::fs::read_to_string(&path)?;
        anyhow::ensure!(text.contains(from), "{from} is not in {text}");
        Ok(std::fs::write(path, text.replacen(from, to, 1))?)
    }

    async fn start(&mut self) -> anyhow::Result<Door> {
        let program = Path::new(env!("CARGO_BIN_EXE_ca_under_test"));
        let running = self.running.insert(ChildCa::spawn(program, &self.dir)?);
        let door = running.door().await?;
        eventually("it is ready", || door.is_ready()).await?;
        Ok(door)
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        self.running.take().context("it does not run")?.kill().await
    }

    /// The value of a line of the metrics; 0 without one.
    async fn metric(&self, line: &str) -> anyhow::Result<u64> {
        let text = self.metrics().await?;
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        Ok(value.unwrap_or(0))
    }

    async fn metrics(&self) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.plain).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// What there is to say when something is not as it should be.
    async fn looks(&self) -> anyhow::Result<String> {
        let metrics = self.metrics().await?;
        let peers = metrics.lines().filter(|line| line.starts_with("banyan_peer"));
        let rotation = self.rotations()?.get_rotation(GetRotationRequest {}).await?.into_inner();
        Ok(format!("{}\n{rotation:#?}", peers.collect::<Vec<_>>().join("\n")))
    }

    async fn calls(&self, to: &str, call: &str, result: &str) -> anyhow::Result<u64> {
        let labels = format!("replica=\"{to}\",call=\"{call}\",result=\"{result}\"");
        self.metric(&format!("banyan_peer_calls_total{{{labels}}}")).await
    }

    fn rotations(&self) -> anyhow::Result<RotationServiceClient<Channel>> {
        Ok(RotationServiceClient::new(channel(self.dir.config()?.listen().admin_socket())))
    }

    /// The servers whose silence the audit has for leaves that were issued here.
    fn unmatched(&self) -> anyhow::Result<Vec<String>> {
        let mut owners = Vec::new();
        for file in ledger::reader::read(&RealDisk, &self.dir.data().join("ledger"))? {
            for entry in file?.entries {
                if let Record::Unmatched { owner, .. } = entry.record {
                    owners.push(owner);
                }
            }
        }
        Ok(owners)
    }
}

/// Two servers that know each other.
async fn pair(etcd: &Etcd) -> anyhow::Result<([Server; 2], [Door; 2])> {
    let (mut one, mut two) = (Server::planned("ca-1", etcd)?, Server::planned("ca-2", etcd)?);
    let doors = [one.start().await?, two.start().await?];
    know_each_other(&one, &two).await?;
    Ok(([one, two], doors))
}

async fn know_each_other(one: &Server, two: &Server) -> anyhow::Result<()> {
    for server in [one, two] {
        let line = "banyan_replicas{standing=\"serving\"}";
        let both = async || server.metric(line).await.is_ok_and(|serve| serve == 2);
        eventually("it knows both", both).await?;
    }
    Ok(())
}

/// A leaf for the workload of a member, asked for with its own former one.
async fn renew_alone(member: &Member, door: &Door) -> Result<usize, Status> {
    let channel = member.channel(door, Shown::Workload).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let request = IstioCertificateRequest { csr, validity_duration: 0, metadata: None };
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?;
    Ok(answer.into_inner().cert_chain.len())
}

/// Waits for this bundle; answers with its digest.
async fn bundle(hears: &mut Streaming<ServerMessage>, sequence: u64) -> anyhow::Result<Vec<u8>> {
    let until = async {
        while let Some(heard) = hears.message().await? {
            if let Some(Said::Bundle(bundle)) = heard.message
                && bundle.sequence >= sequence
            {
                return anyhow::Ok(bundle.digest);
            }
        }
        anyhow::bail!("the stream ended")
    };
    tokio::time::timeout(integration_tests::faults::SOON, until).await.context("no bundle")?
}

fn applied(leaf: &trust::Certificate, sequence: u64) -> AppliedRow {
    AppliedRow {
        serial: leaf.serial().unwrap().as_bytes().to_vec(),
        sequence,
        evidence: EvidenceClass::Applied.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_issued_is_renewed_at_the_other_and_by_its_chain_alone_once_its_server_is_dead()
-> anyhow::Result<()> {
    let etcd = Etcd::start().await?;
    let ([mut one, two], [door_one, door_two]) = pair(&etcd).await?;
    let mut member = Member::join(&door_one, "node-1").await?;
    let mut other = Member::join(&door_one, "node-2").await?;
    for joined in [&mut member, &mut other] {
        joined.issue().await?;
    }
    // The workload of the one comes with a leaf of the first server, and so does its agent.
    assert!(renew_alone(&member, &door_two).await? > 1);
    let asked = two.calls("ca-1", "look_up", "answered").await?;
    assert!(asked > 0, "{}", two.looks().await?);
    assert_eq!(two.metric("banyan_leaves_issued_unmatched_total").await?, 0);
    let (_says, mut hears) = member.connect(&door_two).await?;
    bundle(&mut hears, 1).await?;
    one.kill().await?;
    assert!(renew_alone(&other, &door_two).await? > 1, "its server cannot be asked");
    assert_eq!(two.metric("banyan_leaves_issued_unmatched_total").await?, 1);
    let noted = async || two.unmatched().is_ok_and(|owners| owners == ["ca-1"]);
    eventually("the audit names the server that was silent", noted).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_at_one_server_opens_the_gate_over_the_row_of_another_that_was_away_when_it_was_said()
-> anyhow::Result<()> {
    let etcd = Etcd::start().await?;
    let ([mut one, two], [door_one, door_two]) = pair(&etcd).await?;
    let member = Member::join(&door_one, "node-1").await?;
    let own = member.own_leaf();
    let (says, mut hears) = member.connect(&door_two).await?;
    let request = StartRotationRequest {
        request_id: "among-servers".to_owned(),
        ..StartRotationRequest::default()
    };
    two.rotations()?.start_rotation(request).await?;
    let highest_digest = match bundle(&mut hears, 2).await {
        Ok(digest) => digest,
        Err(late) => return Err(late.context(two.looks().await?)),
    };
    one.kill().await?;
    let say = async |message| says.send(AgentMessage { message: Some(message) }).await;
    say(Says::Hello(Hello { highest_sequence: 2, highest_digest, ..Hello::default() })).await?;
    say(Says::Ack(Ack { rows: vec![applied(&own, 2)] })).await?;
    eventually("it is kept", async || {
        two.metric("banyan_peer_statements_kept").await.is_ok_and(|kept| kept == 1)
    })
    .await?;
    one.start().await?;
    let mut phase = String::new();
    let opens = async {
        loop {
            let rotation = two.rotations()?.get_rotation(GetRotationRequest {}).await?.into_inner();
            phase = rotation.phase;
            if phase == "draining" || phase == "withdrawing" || phase == "steady" {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // Of an hour that the leaf lives.
    tokio::time::timeout(integration_tests::faults::SOON, opens).await.context(phase)??;
    assert!(two.calls("ca-1", "tell", "answered").await? > 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_a_server_calls_what_servers_call_and_a_server_under_anothers_name_is_none()
-> anyhow::Result<()> {
    let etcd = Etcd::start().await?;
    let (mut one, mut two) = (Server::planned("ca-1", &etcd)?, Server::planned("ca-2", &etcd)?);
    // Whoever asks the first finds the second there, which is a server of this CA as well.
    one.reconfigure(
        &format!("address = \"{}\"", one.grpc),
        &format!("address = \"{}\"", two.grpc),
    )?;
    let (door_one, door_two) = (one.start().await?, two.start().await?);
    know_each_other(&one, &two).await?;
    let mut member = Member::join(&door_one, "node-1").await?;
    let leaf = member.issue().await?;
    for shown in [Shown::Nothing, Shown::Agent, Shown::Workload] {
        let mut client = PeerServiceClient::new(member.channel(&door_one, shown)?);
        let serial = leaf.serial().unwrap().as_bytes().to_vec();
        let asked = peer::LookUpRequest { issuer: vec![7; 32], serial: serial.clone() };
        let word = Some(peer::statement::Word::Released(peer::Released {}));
        let released = peer::Statement { agent: "node-1".to_owned(), serial, word };
        let refused = [
            client.look_up(asked).await.map(drop),
            client.tell(peer::TellRequest { statements: vec![released] }).await.map(drop),
            client.ask_to_renew(peer::AskToRenewRequest::default()).await.map(drop),
        ];
        for refused in refused.map(Result::unwrap_err) {
            assert_eq!(
                (refused.code(), reason(&refused).as_str()),
                (Code::PermissionDenied, "CALLER_NOT_ALLOWED"),
                "{shown:?}: {refused:?}"
            );
        }
    }
    assert!(renew_alone(&member, &door_one).await? > 1, "what they said had no effect");
    assert!(renew_alone(&member, &door_two).await? > 1);
    assert!(two.calls("ca-1", "look_up", "unreachable").await? > 0, "it is another server");
    assert_eq!(two.calls("ca-1", "look_up", "answered").await?, 0);
    assert_eq!(two.metric("banyan_leaves_issued_unmatched_total").await?, 1);
    Ok(())
}
