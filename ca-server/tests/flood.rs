//! Callers that repeat themselves fill no log. A binary of its own: it listens to the log of the whole process.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use ca_server::HostDeps;
use host::{Fault, FaultDisk, How, Operation, OsRandomness, SystemClock};
use proto::banyan::admin::v1::StatusRequest;
use proto::banyan::agent::v1::agent_message::Message as Up;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::{
    Ack, AgentMessage, AppliedRow, EvidenceClass, Hello, Nack, Release,
};
use rcgen::KeyPair;
use support::{
    Place, admin, agent, bearer, channel, eventually, registration, stop, token, workload,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const WEB: &str = "spiffe://example.org/web";
/// How often each caller says the same.
const TIMES: u64 = 400;
/// Refusals on a full disk: each waits for the disk.
const REFUSALS: u64 = 100;
/// Most lines of each kind that it gets for that.
const LINES: usize = 5;

/// Lines of the log of the whole process, which all tests here write.
#[derive(Debug, Default, Clone)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn listen() -> Self {
        static ALL: OnceLock<Lines> = OnceLock::new();
        let begin = || {
            let lines = Self::default();
            let writer = lines.clone();
            tracing_subscriber::fmt()
                .with_max_level(tracing::Level::INFO)
                .with_ansi(false)
                .with_writer(move || writer.clone())
                .init();
            lines
        };
        ALL.get_or_init(begin).clone()
    }

    fn with(&self, words: &[&str]) -> usize {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_repeats_itself_gets_a_few_lines_of_each_kind_and_hides_nobody() {
    let (lines, place) = (Lines::listen(), Place::new(""));
    let running = place.start().await.unwrap();
    let (pair, join) = (KeyPair::generate().unwrap(), token(&running, "loud-node", &[WEB]).await);
    let mut untrusted = AgentServiceClient::new(channel(&running, None).await);
    // The answer to a registration may be lost: it is repeated with its key.
    let mut answer = None;
    for _ in 0..2 * LINES {
        let message = bearer(registration(&running, &pair), &join);
        answer = Some(untrusted.register(message).await.unwrap().into_inner());
    }
    assert_eq!(lines.with(&["agent registered", "loud-node"]), LINES);
    let identity = support::Identity::of(&answer.unwrap(), &pair);
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    let (up, outbound) = mpsc::channel(16);
    let _down = client.connect(ReceiverStream::new(outbound)).await.unwrap();
    let bundle = running.bundle();
    let hello = Hello {
        build: "loud".to_owned(),
        highest_sequence: bundle.sequence().0,
        highest_digest: bundle.digest().as_bytes().to_vec(),
        held_serials: Vec::new(),
    };
    let nack = Nack { sequence: 1, reason: "no".to_owned(), ..Nack::default() };
    let row =
        AppliedRow { serial: vec![0x41; 16], sequence: 1, evidence: EvidenceClass::Applied.into() };
    let future = AppliedRow { sequence: 1_000, ..row.clone() };
    for message in [
        Up::Hello(hello.clone()),
        Up::Hello(Hello { highest_sequence: 1_000, ..hello }),
        Up::Nack(nack),
        Up::Ack(Ack { rows: vec![row] }),
        Up::Ack(Ack { rows: vec![future] }),
        Up::Release(Release { serials: vec![vec![0x41; 16]] }),
    ] {
        let before = lines.with(&["loud-node"]);
        for _ in 0..TIMES {
            up.send(AgentMessage { message: Some(message.clone()) }).await.unwrap();
        }
        // What is said afterwards is heard afterwards.
        let heard = async || {
            let status = admin(&running).await.status(StatusRequest {}).await.unwrap().into_inner();
            status.agents.iter().map(|agent| agent.nacks).sum::<u64>()
        };
        let nacks = heard().await;
        up.send(AgentMessage { message: Some(Up::Nack(Nack::default())) }).await.unwrap();
        eventually("it was heard", async || heard().await > nacks && up.capacity() == 16).await;
        let more = lines.with(&["loud-node"]) - before;
        assert!(more <= 2 * LINES, "{more} lines for {message:?}");
    }
    assert_eq!(lines.with(&["agent connected", "loud-node"]), LINES);
    assert_eq!(lines.with(&["a holder refused a secret", "loud-node"]), LINES);
    let (up, outbound) = mpsc::channel(16);
    let quiet = agent(&running, "quiet-node", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(quiet)).await);
    let _down = client.connect(ReceiverStream::new(outbound)).await.unwrap();
    let message =
        Some(Up::Nack(Nack { sequence: 1, reason: "cannot".to_owned(), ..Nack::default() }));
    up.send(AgentMessage { message }).await.unwrap();
    eventually("another agent is heard", async || {
        lines.with(&["refused a secret", "quiet-node"]) == 1
    })
    .await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_refusals_on_a_full_disk_writes_a_few_lines_and_is_counted() {
    let (lines, place, disk) = (Lines::listen(), Place::new(""), FaultDisk::default());
    let (clock, randomness) = (Arc::new(SystemClock), Arc::new(OsRandomness::new()));
    let deps = HostDeps { clock, randomness, disk: Arc::new(disk.clone()) };
    let running = place.start_with(deps).await.unwrap();
    let identity = agent(&running, "node-9", &[WEB]).await;
    let mut client = AgentServiceClient::new(channel(&running, Some(identity)).await);
    workload(&mut client, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    disk.plan(Fault::next(Operation::Append, How::DiskFull).on("ledger").times(u64::MAX));
    let pair = KeyPair::generate().unwrap();
    let of_disk = ["no leaf was issued", "the ledger", "could not be audited", "not ready"];
    let said = || of_disk.iter().map(|words| lines.with(&[words])).sum::<usize>();
    let before = said();
    for _ in 0..REFUSALS {
        workload(&mut client, WEB, &pair).await.unwrap_err();
    }
    let more = said() - before;
    assert!((1..=6 * LINES).contains(&more), "{more} lines for {REFUSALS} refusals");
    let status = admin(&running).await.status(StatusRequest {}).await.unwrap().into_inner();
    assert!(status.refused_total >= REFUSALS, "every one is counted: {}", status.refused_total);
    disk.heal();
    eventually("it issues again", async || workload(&mut client.clone(), WEB, &pair).await.is_ok())
        .await;
    stop(running).await;
}
