//! An agent in the test's hand, and its stream.

use ca_server::Running;
use proto::banyan::agent::v1::agent_message::Message as Up;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use proto::banyan::agent::v1::server_message::Message as Down;
use proto::banyan::agent::v1::{
    Ack, AgentMessage, AppliedRow, Doubt, EvidenceClass, Hello, IssueResponse,
    IssueWorkloadRequest, RenewAgentRequest, ServerMessage,
};
use rcgen::KeyPair;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use trust::{Bundle, Certificate};

use crate::WEB;
use crate::support::{Identity, SOON, bearer, channel, csr, registration, token};

/// An agent that says what it is told to say.
pub(crate) struct HandMade {
    pub(crate) client: AgentServiceClient<Channel>,
    pub(crate) pair: KeyPair,
    pub(crate) own: Vec<u8>,
    /// What it says that it has stored.
    pub(crate) stored: (u64, Vec<u8>),
}

/// Its stream.
pub(crate) struct Line {
    pub(crate) up: mpsc::Sender<AgentMessage>,
    pub(crate) down: Streaming<ServerMessage>,
}

impl HandMade {
    pub(crate) async fn join(running: &Running, name: &str) -> Self {
        let (pair, token) = (KeyPair::generate().unwrap(), token(running, name, &[WEB]).await);
        let mut untrusted = AgentServiceClient::new(channel(running, None).await);
        let answer = untrusted
            .register(bearer(registration(running, &pair), &token))
            .await
            .unwrap()
            .into_inner();
        let client =
            AgentServiceClient::new(channel(running, Some(Identity::of(&answer, &pair))).await);
        Self { client, pair, own: serial(&answer), stored: stored(&running.bundle()) }
    }

    pub(crate) async fn issue(&mut self, only_to_trusting: bool) -> Result<Vec<u8>, Status> {
        let (stored_sequence, stored_digest) = self.stored.clone();
        let request = IssueWorkloadRequest {
            csr: csr(&KeyPair::generate().unwrap()).0,
            spiffe_id: WEB.to_owned(),
            validity_seconds: 0,
            stored_sequence,
            stored_digest,
            only_to_trusting,
            listening: None,
        };
        self.client.issue_workload(request).await.map(|answer| serial(answer.get_ref()))
    }

    pub(crate) async fn renew(&mut self) -> Result<Vec<u8>, Status> {
        let (stored_sequence, stored_digest) = self.stored.clone();
        let request = RenewAgentRequest { csr: csr(&self.pair).0, stored_sequence, stored_digest };
        self.client.renew_agent(request).await.map(|answer| serial(answer.get_ref()))
    }

    pub(crate) async fn connect(&mut self, held: &[&Vec<u8>]) -> Line {
        let (up, outbound) = mpsc::channel(16);
        let hello = Hello {
            build: "hand-made".to_owned(),
            highest_sequence: self.stored.0,
            highest_digest: self.stored.1.clone(),
            held_serials: held.iter().map(|serial| (*serial).clone()).collect(),
        };
        let line = up.clone();
        line.send(AgentMessage { message: Some(Up::Hello(hello)) }).await.unwrap();
        let down = self.client.connect(ReceiverStream::new(outbound)).await.unwrap().into_inner();
        Line { up, down }
    }
}

impl Line {
    pub(crate) async fn say(&self, message: Up) {
        self.up.send(AgentMessage { message: Some(message) }).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Down {
        let message =
            tokio::time::timeout(SOON, self.down.message()).await.expect("a message in time");
        message.unwrap().expect("the stream goes on").message.expect("a known message")
    }

    pub(crate) async fn doubt(&mut self) -> Doubt {
        loop {
            if let Down::Doubt(doubt) = self.next().await {
                return doubt;
            }
        }
    }

    pub(crate) async fn ack(&self, serials: &[&Vec<u8>], sequence: u64) {
        let row = |serial: &&Vec<u8>| AppliedRow {
            serial: (*serial).clone(),
            sequence,
            evidence: EvidenceClass::Applied.into(),
        };
        self.say(Up::Ack(Ack { rows: serials.iter().map(row).collect() })).await;
    }
}

pub(crate) fn serial(answer: &IssueResponse) -> Vec<u8> {
    Certificate::parse(&answer.chain[0]).unwrap().serial().unwrap().as_bytes().to_vec()
}

pub(crate) fn stored(bundle: &Bundle) -> (u64, Vec<u8>) {
    (bundle.sequence().0, bundle.digest().as_bytes().to_vec())
}
