//! What a change asks for is a level: a step that fails once right after it is tried again, and said meanwhile.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ca_server::{Embedding, HostDeps, Server};
use host::{OsRandomness, RealDisk, SystemClock};
use ledger::{Ledger, OpenOptions, SegmentId, Settings};
use plugins::memory::MemoryKeys;
use plugins::{
    ConfigProblem, Health, KeyBackend, KeyBackendDescription, KeyBackendPlugin, KeyError,
    KeyHandle, KeyId, KeySpec, Registry, RequestId,
};
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{GetRotationRequest, StartRotationRequest, StatusRequest};
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use rcgen::KeyPair;
use support::{Place, admin, admin_channel, agent, channel, eventually, reason, stop, workload};
use tonic::Code;
use tonic_types::StatusExt as _;
use trust::{Clock as _, ManualClock, PublicKey, SignatureAlgorithm};

const WEB: &str = "spiffe://example.org/web";

/// A fake: keys in memory that fail when they are first asked for and when they first sign a leaf, but for the first of all.
#[derive(Debug, Default)]
struct FailsOnce {
    keys: MemoryKeys,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    first: Option<KeyId>,
    /// Keys whose public half was asked for, and failed.
    public: BTreeSet<KeyId>,
    /// Keys that have failed to sign after it was given.
    given: BTreeSet<KeyId>,
    failed: BTreeSet<KeyId>,
}

fn away() -> KeyError {
    KeyError::BackendDown { detail: "away for a moment".to_owned() }
}

#[async_trait]
impl KeyBackend for FailsOnce {
    fn describe(&self) -> KeyBackendDescription {
        self.keys.describe()
    }

    async fn generate(&self, request_id: &RequestId, spec: KeySpec) -> Result<KeyHandle, KeyError> {
        self.keys.generate(request_id, spec).await
    }

    async fn public(&self, id: &KeyId) -> Result<PublicKey, KeyError> {
        let fails = {
            let mut asked = self.asked.lock().unwrap();
            let first = asked.first.get_or_insert_with(|| id.clone()) == id;
            let fails = !first && asked.public.insert(id.clone());
            if !first && !fails {
                asked.given.insert(id.clone());
            }
            fails
        };
        if fails { Err(away()) } else { self.keys.public(id).await }
    }

    async fn sign(
        &self,
        id: &KeyId,
        message: &[u8],
        algorithm: SignatureAlgorithm,
    ) -> Result<Vec<u8>, KeyError> {
        let fails = {
            let mut asked = self.asked.lock().unwrap();
            asked.given.contains(id) && asked.failed.insert(id.clone())
        };
        if fails { Err(away()) } else { self.keys.sign(id, message, algorithm).await }
    }

    async fn list(&self) -> Result<Vec<KeyHandle>, KeyError> {
        self.keys.list().await
    }

    async fn destroy(&self, id: &KeyId) -> Result<(), KeyError> {
        self.keys.destroy(id).await
    }

    async fn check(&self) -> Health {
        self.keys.check().await
    }
}

#[derive(Debug, Default, Clone)]
struct Fitted(Arc<FailsOnce>);

impl KeyBackendPlugin for Fitted {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn validate(&self, _: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        Ok(())
    }

    fn open(&self, _: &toml::Table) -> Result<Arc<dyn KeyBackend>, Vec<ConfigProblem>> {
        Ok(Arc::<FailsOnce>::clone(&self.0))
    }
}

impl Embedding for Fitted {
    fn plugins(&self, registry: &mut Registry) {
        registry.add_key_backend(self.clone());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_backend_that_fails_once_right_after_the_switch_delays_it_by_seconds() {
    let place = Place::new("[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n");
    let fitted = Fitted::default();
    let running =
        Box::pin(Server::start_with(place.config(), HostDeps::system(), &fitted)).await.unwrap();
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let request =
        StartRotationRequest { request_id: "one".to_owned(), ..StartRotationRequest::default() };
    rotations.start_rotation(request).await.unwrap();
    eventually("the rotation is over", async || {
        let rotation =
            rotations.clone().get_rotation(GetRotationRequest {}).await.unwrap().into_inner();
        rotation.phase == "steady" && rotation.done.iter().any(|done| done == "one")
    })
    .await;
    assert_eq!(
        fitted.0.asked.lock().unwrap().failed.len(),
        1,
        "the new issuer's key has failed to sign"
    );
    let said = conditions(&running).await;
    assert!(
        !said.iter().any(|said| said.contains("serves on with its former certificate")),
        "{said:?}"
    );
    stop(running).await;
}

async fn conditions(running: &ca_server::Running) -> Vec<String> {
    admin(running).await.status(StatusRequest {}).await.unwrap().into_inner().conditions
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_ledger_that_was_cut_or_is_gone_is_said_and_gates_wait_for_its_segment() {
    let place = Place::durable("[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n");
    let running = place.start().await.unwrap();
    agent(&running, "node-1", &[WEB]).await;
    stop(running).await;
    let mut entries =
        std::fs::read_dir(place.data().join("ledger")).unwrap().map(|entry| entry.unwrap().path());
    let segment = entries.find(|path| path.is_dir() && !path.ends_with("archive")).unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let log = segment.join("00000001.log");
    let sound = std::fs::read(&log).unwrap();
    std::fs::write(&log, &sound[..sound.len() / 2]).unwrap();

    let running = place.start().await.unwrap();
    let said = conditions(&running).await;
    assert!(
        said.iter().any(|said| said.contains(&name) && said.contains("when it was closed")),
        "{said:?}"
    );
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let request =
        StartRotationRequest { request_id: "one".to_owned(), ..StartRotationRequest::default() };
    rotations.start_rotation(request).await.unwrap();
    eventually("the trust gate waits for the segment", async || {
        let rotation =
            rotations.clone().get_rotation(GetRotationRequest {}).await.unwrap().into_inner();
        rotation.gate.is_some_and(|gate| gate.holds.iter().any(|hold| hold.contains(&name)))
    })
    .await;
    stop(running).await;

    std::fs::write(&log, &sound).unwrap();
    let running = place.start().await.unwrap();
    assert!(!conditions(&running).await.iter().any(|said| said.contains(&name)), "it was mended");
    stop(running).await;

    std::fs::remove_dir_all(&segment).unwrap();
    let running = place.start().await.unwrap();
    let said = conditions(&running).await;
    assert!(said.iter().any(|said| said.contains(&name) && said.contains("is gone")), "{said:?}");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_live_leaf_more_than_an_agent_may_have_is_refused_by_name_and_others_are_not() {
    let place = Place::new("[limits]\nrows_per_agent = 3\n");
    let running = place.start().await.unwrap();
    let mut clients = Vec::new();
    for name in ["greedy", "modest"] {
        let identity = agent(&running, name, &[WEB]).await;
        clients.push(AgentServiceClient::new(channel(&running, Some(identity)).await));
    }
    let [greedy, modest] = &mut clients[..] else { panic!() };
    let mut refused = None;
    for _ in 0..3 {
        refused = workload(greedy, WEB, &KeyPair::generate().unwrap()).await.err();
    }
    let refused = refused.unwrap();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "ROWS_EXHAUSTED")
    );
    let said = refused.message();
    assert!(
        said.contains("agent greedy has 3 live leaves") && said.contains("limits.rows_per_agent"),
        "{said}"
    );
    assert!(refused.get_details_retry_info().is_some());
    workload(modest, WEB, &KeyPair::generate().unwrap()).await.unwrap();
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_was_read_holds_no_gate_once_a_compaction_has_emptied_it() {
    let place = Place::durable(
        "[leaf]\nttl_default = \"30m\"\nttl_max = \"24h\"\n[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"1s\"\n",
    );
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let start = async || {
        let (clock, randomness) =
            (Arc::<ManualClock>::clone(&clock), Arc::new(OsRandomness::new()));
        place.start_with(HostDeps { clock, randomness, disk: Arc::new(RealDisk) }).await.unwrap()
    };
    let running = start().await;
    agent(&running, "node-1", &[WEB]).await;
    stop(running).await;
    let entries = std::fs::read_dir(place.data().join("ledger")).unwrap();
    let mut entries = entries.map(|entry| entry.unwrap().path());
    let segment = entries.find(|path| path.is_dir() && !path.ends_with("archive")).unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();

    // Its rows are over, and the time until which it could have released others is not.
    clock.advance(Duration::from_secs(3 * 3_600));
    let (ledger, _) = Ledger::open(OpenOptions {
        dir: place.data().join("ledger"),
        segment: SegmentId::parse("by-hand").unwrap(),
        disk: Arc::new(RealDisk),
        clock: Arc::<ManualClock>::clone(&clock),
        skew: Duration::from_secs(60),
        settings: Settings::default(),
    })
    .unwrap();
    let ledger = Arc::new(ledger);
    let compacting = Arc::clone(&ledger);
    let done = tokio::task::spawn_blocking(move || compacting.compact()).await.unwrap().unwrap();
    assert!(done.archived > 0 && !segment.exists(), "{done:?}");
    ledger.shutdown().await;
    drop(ledger);

    for _ in 0..2 {
        let running = start().await;
        assert!(!conditions(&running).await.iter().any(|said| said.contains(&name)));
        stop(running).await;
    }
    let running = start().await;
    let mut rotations = RotationServiceClient::new(admin_channel(&running).await);
    let request =
        StartRotationRequest { request_id: "one".to_owned(), ..StartRotationRequest::default() };
    rotations.start_rotation(request).await.unwrap();
    eventually("no gate waits for it", async || {
        clock.advance(Duration::from_millis(100));
        let rotation =
            rotations.clone().get_rotation(GetRotationRequest {}).await.unwrap().into_inner();
        rotation.phase == "steady" && rotation.done.iter().any(|done| done == "one")
    })
    .await;
    assert!(clock.now() < SystemClock.now().plus(Duration::from_secs(4 * 3_600)));
    stop(running).await;
}
