//! Two servers over one store, on each real engine.
#![expect(clippy::unwrap_used, reason = "clippy takes helpers of tests for product code")]

mod etcd;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use etcd::Etcd;
use host::RealDisk;
use registry::sessions::Sessions;
use registry::{
    AgentRegistry, BanRow, Limits, Membership, RegistryError, Ruling, TokenHash, TokenRow,
};
use stores::SharedStore;
use stores_etcd::{EtcdStore, Settings};
use stores_redb::RedbStore;
use tokio::task::JoinHandle;
use trust::{ManualClock, SpkiHash, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const DAY: Duration = Duration::from_secs(86_400);
/// Longest time until something comes about on a busy machine.
const SOON: Duration = Duration::from_secs(30);

struct Server {
    registry: AgentRegistry,
    following: JoinHandle<()>,
}

impl Server {
    async fn start(store: Arc<dyn SharedStore>, replica: &str) -> Self {
        let membership = Membership {
            replica: replica.to_owned(),
            clock: Arc::new(ManualClock::at(NOW)),
            sessions: Sessions::default(),
            limits: Limits { max: 1_000, per_caller: 16, forget_after: 31 * DAY, idle_after: DAY },
        };
        let (registry, following) = AgentRegistry::open(store, membership).await.unwrap();
        Self { registry, following: tokio::spawn(following.run()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.following.abort();
    }
}

fn key(text: &str) -> SpkiHash {
    SpkiHash::of(text.as_bytes())
}

fn hash(agent: &str) -> TokenHash {
    trust::digest::sha256(agent.as_bytes())
}

async fn make_token(registry: &AgentRegistry, agent: &str) {
    let row = TokenRow {
        agent: agent.to_owned(),
        identities: BTreeSet::new(),
        expires: NOW.plus(DAY),
        used: None,
        made: None,
        pins: None,
        revoked: None,
        spent: false,
    };
    registry.add_token(hash(agent), row, NOW).await.unwrap();
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.expect(what);
}

/// What holds whatever the engine is; each server may have a connection of its own.
async fn shared(open: impl Fn() -> Arc<dyn SharedStore>) {
    let (one, two) = (Server::start(open(), "one").await, Server::start(open(), "two").await);
    for number in 0..10 {
        let agent = format!("node-{number}");
        make_token(&one.registry, &agent).await;
        eventually("the token is known", || two.registry.token(&hash(&agent)).is_some()).await;
        let (first, second) = tokio::join!(
            one.registry.redeem(hash(&agent), key("a"), NOW),
            two.registry.redeem(hash(&agent), key("b"), NOW),
        );
        let winner = match (first, second) {
            (Ok(()), Err(RegistryError::TokenUsed)) => "a",
            (Err(RegistryError::TokenUsed), Ok(())) => "b",
            both => panic!("{both:?}"),
        };
        for server in [&one, &two] {
            eventually("the agent is known", || server.registry.agent(&agent).is_some()).await;
            assert_eq!(server.registry.agent(&agent).unwrap().0.spki, key(winner));
        }
    }
    let (_line, mut hints) = two.registry.sessions().open("node-1", NOW);
    let sentence = BanRow { by: "ann".to_owned(), reason: "stolen".to_owned(), at: NOW };
    one.registry.rule(Ruling::Ban, "node-1".to_owned(), sentence).await.unwrap();
    let judged = tokio::time::timeout(SOON, hints.recv()).await.expect("judged again");
    assert_eq!(judged, Some(Vec::new()));
    assert!(two.registry.agent("node-1").unwrap().1, "banned");
    let three = Server::start(open(), "three").await;
    assert_eq!(three.registry.agents_total(), (10, 1));
    assert_eq!(three.registry.acts_from(0, 9).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_registries_share_a_file_within_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::create(Arc::new(RealDisk), &dir.path().join("state.redb")).unwrap();
    shared(move || Arc::new(store.clone())).await;
}

fn open(etcd: &Etcd) -> Arc<dyn SharedStore> {
    let endpoint = format!("http://{}", etcd.address());
    let settings = Settings::new(&[endpoint], "/banyan/example.org", None).unwrap();
    Arc::new(EtcdStore::new(settings.with_call_timeout(Duration::from_secs(2))))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_registries_share_a_real_etcd_and_get_over_its_restart() {
    let mut etcd = Etcd::start().unwrap();
    shared(|| open(&etcd)).await;
    let (one, two) = (open(&etcd), open(&etcd));
    let (one, two) = (Server::start(one, "one").await, Server::start(two, "two").await);
    make_token(&one.registry, "late").await;
    eventually("the token is known", || two.registry.token(&hash("late")).is_some()).await;
    etcd.stop();
    let refused = two.registry.redeem(hash("late"), key("a"), NOW).await;
    assert_eq!(refused, Err(RegistryError::Broken));
    assert!(two.registry.agent("node-1").is_some() && two.registry.is_broken());
    etcd.run().unwrap();
    let asked = async { while two.registry.redeem(hash("late"), key("a"), NOW).await.is_err() {} };
    tokio::time::timeout(SOON, asked).await.expect("it goes on");
    eventually("the agent is known", || one.registry.agent("late").is_some()).await;
    for server in [&one, &two] {
        eventually("nothing is wrong", || server.registry.troubles().is_empty()).await;
    }
}
