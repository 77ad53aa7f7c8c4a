//! What happens to a cluster of etcd, and to what is in it.

use std::sync::Arc;
use std::time::Duration;

use stores::{ReadError, SharedStore, WriteError};
use stores_contract::no_entry_is_lost_or_repeated;
use stores_etcd::{EtcdStore, Settings};
use stores_peers::{Etcd, Setup};
use tokio::time::Instant;

use super::{AGENTS, PREFIX, SOON, eventually};

const CALL_TIMEOUT: Duration = Duration::from_secs(2);

fn store(members: &[&Etcd]) -> EtcdStore {
    let endpoints: Vec<_> = members.iter().map(|one| format!("http://{}", one.address())).collect();
    EtcdStore::new(Settings::new(&endpoints, PREFIX, None).unwrap().with_call_timeout(CALL_TIMEOUT))
}

fn id(member: &Etcd) -> anyhow::Result<String> {
    member.number("/v3/maintenance/status", "{}", "member_id")
}

async fn leader(members: &[Etcd]) -> usize {
    eventually("a leader", async || {
        for member in members {
            let Ok(leader) = member.number("/v3/maintenance/status", "{}", "leader") else {
                continue;
            };
            let place = members.iter().position(|one| id(one).is_ok_and(|id| id == leader));
            if let Some(place) = place {
                return Ok(place);
            }
        }
        Err("no member knows a leader")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_lose_and_repeat_nothing_while_the_leader_steps_down_hangs_and_ends() {
    let mut members = Etcd::plain_cluster(3).unwrap();
    let all: Vec<_> = members.iter().collect();
    let handles: Vec<Arc<dyn SharedStore>> =
        (0..3).map(|_| Arc::new(store(&all)) as Arc<dyn SharedStore>).collect();
    let ready = AGENTS.key("ready").unwrap();
    eventually("a first write", async || match handles[0].create(&ready, b"x").await {
        Err(WriteError::Conflict { .. }) => Ok(()),
        answer => answer.map(drop),
    })
    .await;
    let trouble = async {
        let a_while = Duration::from_millis(500);
        let first = leader(&members).await;
        let next = id(&members[(first + 1) % 3]).unwrap();
        let asked = format!("{{\"targetID\":\"{next}\"}}");
        members[first].post("/v3/maintenance/transfer-leadership", &asked).unwrap();
        let second = leader(&members).await;
        assert_ne!(first, second, "the leader has changed");
        tokio::time::sleep(a_while).await;
        // Longer than an election takes.
        members[second].pause().unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        members[second].resume().unwrap();
        tokio::time::sleep(a_while).await;
        let third = leader(&members).await;
        members[third].stop();
        tokio::time::sleep(Duration::from_secs(3)).await;
        members[third].run().unwrap();
    };
    assert_eq!(no_entry_is_lost_or_repeated(&handles, trouble).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_taken_out_of_the_cluster_is_left_and_fewer_endpoints_serve_too() {
    let mut members = Etcd::plain_cluster(3).unwrap();
    let all: Vec<_> = members.iter().collect();
    // The first endpoint is the one in use.
    let (store, fewer) = (store(&all), store(&all[1..]));
    let key = AGENTS.key("a").unwrap();
    let version = eventually("a first write", async || match store.create(&key, b"0").await {
        Err(WriteError::Conflict { found: Some(found), .. }) => Ok(found),
        answer => answer,
    })
    .await;
    let mut hints = store.watch(AGENTS).await.unwrap();
    let gone = id(&members[0]).unwrap();
    // A cluster that has just come up refuses that for five seconds.
    eventually("a smaller cluster", async || {
        members[1].post("/v3/cluster/member/remove", &format!("{{\"ID\":\"{gone}\"}}"))
    })
    .await;
    let version =
        eventually("a write without it", async || match store.put(&key, b"1", &version).await {
            Err(WriteError::Conflict { found: Some(found), .. }) => Ok(found),
            answer => answer,
        })
        .await;
    let found = fewer.get(&key).await.unwrap().unwrap();
    assert_eq!((found.value.as_slice(), &found.version), (b"1".as_slice(), &version));
    tokio::time::timeout(SOON, hints.next()).await.expect("a hint after it was left");
    fewer.put(&key, b"2", &version).await.unwrap();
    tokio::time::timeout(SOON, hints.next()).await.expect("a hint from another member");
    members[0].stop();
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, b"2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_slow_is_done_once_and_what_is_slower_than_the_deadline_is_unknown() {
    let etcd = Etcd::start(&Setup::plain()).unwrap();
    let store = store(&[&etcd]);
    let key = AGENTS.key("a").unwrap();
    let version = store.create(&key, b"0").await.unwrap();
    etcd.pause().unwrap();
    let resumed = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        etcd.resume().unwrap();
    };
    let (written, ()) = tokio::join!(store.put(&key, b"1", &version), resumed);
    let version = written.unwrap();
    assert_eq!(store.get(&key).await.unwrap().unwrap().version, version);

    etcd.pause().unwrap();
    let before = Instant::now();
    let written = store.put(&key, b"2", &version).await;
    assert!(matches!(written, Err(WriteError::Unknown { .. })), "{written:?}");
    let read = store.get(&key).await;
    let Err(ReadError::Failed { reason }) = read else { panic!("{read:?}") };
    assert!(reason.contains("within 2 s"), "{reason}");
    assert!(before.elapsed() < 3 * CALL_TIMEOUT, "{:?}", before.elapsed());
    etcd.resume().unwrap();
    let found = eventually("a read", async || store.get(&key).await).await.unwrap();
    assert!(found.value == b"1" || found.value == b"2", "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_hand_wrote_has_another_version_and_a_key_of_a_hand_is_named() {
    let etcd = Etcd::start(&Setup::plain()).unwrap();
    let store = store(&[&etcd]);
    let key = AGENTS.key("a").unwrap();
    let version = store.create(&key, b"one").await.unwrap();
    // "L2Jhbnlhbi9leGFtcGxlLm9yZy9hZ2VudHMvYQ==" is /banyan/example.org/agents/a, and "dHdv" is two.
    let place = "L2Jhbnlhbi9leGFtcGxlLm9yZy9hZ2VudHMvYQ==";
    etcd.post("/v3/kv/put", &format!("{{\"key\":\"{place}\",\"value\":\"dHdv\"}}")).unwrap();
    let found = store.get(&key).await.unwrap().unwrap();
    assert_eq!(found.value, b"two");
    let stale = store.put(&key, b"three", &version).await;
    assert_eq!(stale, Err(WriteError::conflict(&key, Some(found.version))));

    // The same with a newline behind it: an id that no key has.
    let place = "L2Jhbnlhbi9leGFtcGxlLm9yZy9hZ2VudHMvYQo=";
    etcd.post("/v3/kv/put", &format!("{{\"key\":\"{place}\",\"value\":\"dHdv\"}}")).unwrap();
    let listed = store.list(AGENTS, None, 10).await;
    let Err(ReadError::Unreadable { key, reason }) = listed else { panic!("{listed:?}") };
    assert!(key.contains("/banyan/example.org/agents/a"), "{key}");
    assert!(reason.contains("delete it in etcd"), "{reason}");
    etcd.post("/v3/kv/deleterange", &format!("{{\"key\":\"{place}\"}}")).unwrap();
    assert_eq!(store.list(AGENTS, None, 10).await.unwrap().entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_is_away_at_first_is_named_and_used_once_it_is_there() {
    let mut etcd = Etcd::start(&Setup::plain()).unwrap();
    // One that ends before it ever had a leader has none afterwards either.
    let early = AGENTS.key("early").unwrap();
    eventually("a first write", async || match store(&[&etcd]).create(&early, b"x").await {
        Err(WriteError::Conflict { .. }) => Ok(()),
        answer => answer.map(drop),
    })
    .await;
    etcd.stop();
    let store = store(&[&etcd]);
    let key = AGENTS.key("a").unwrap();
    let (read, written) = (store.get(&key).await, store.create(&key, b"x").await);
    let watched = store.watch(AGENTS).await;
    let endpoint = format!("http://{}", etcd.address());
    let Err(ReadError::Failed { reason }) = read else { panic!("{read:?}") };
    assert!(reason.contains(&endpoint) && reason.contains("no endpoint of etcd"), "{reason}");
    // Nothing was sent: a caller may try again at once.
    assert!(matches!(written, Err(WriteError::Failed { .. })), "{written:?}");
    assert!(matches!(watched, Err(ReadError::Failed { .. })), "{watched:?}");
    etcd.run().unwrap();
    // It has no leader at first: a write may end as unknown, and is there then.
    eventually("a write", async || match store.create(&key, b"x").await {
        Err(WriteError::Conflict { .. }) => Ok(()),
        answer => answer.map(drop),
    })
    .await;
}
