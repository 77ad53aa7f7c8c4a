//! A server and an etcd that end, hang and come back.

use std::sync::Arc;
use std::time::Duration;

use stores::{Key, Look, ReadError, SharedStore, WriteError, settle};
use stores_contract::no_entry_is_lost_or_repeated;
use stores_kubernetes::KubernetesStore;
use stores_peers::{ApiServer, Line, Relay, Setup};
use tokio::time::Instant;

use super::{AGENTS, CALL_TIMEOUT, SOON, eventually, hinted, ready, server, store, store_behind};

async fn in_time<T>(call: impl Future<Output = T>) -> T {
    let before = Instant::now();
    let outcome = call.await;
    let (took, most) = (before.elapsed(), CALL_TIMEOUT + Duration::from_secs(2));
    assert!(took < most, "a call took {took:?}");
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_is_named_and_a_handle_and_a_watch_go_on_after_it() {
    let mut server = server().await;
    let (store, other) = (store(&server), store(&server));
    let key = AGENTS.key("a").unwrap();
    let version = store.create(&key, b"1").await.unwrap();
    let mut hints = store.watch(AGENTS).await.unwrap();

    server.stop();
    let address = server.address().to_string();
    let read = in_time(store.get(&key)).await;
    let Err(ReadError::Failed { reason }) = read else { panic!("{read:?}") };
    assert!(reason.contains(&address) && reason.contains("refused"), "{reason}");
    let written = in_time(store.put(&key, b"2", &version)).await;
    let Err(WriteError::Failed { reason, .. }) = written else { panic!("{written:?}") };
    assert!(reason.contains(&address), "{reason}");

    server.run().await.unwrap();
    let found = eventually("a read", async || store.get(&key).await).await.unwrap();
    assert_eq!((found.value.as_slice(), &found.version), (b"1".as_slice(), &version));
    other.put(&key, b"2", &version).await.unwrap();
    hinted(&mut hints, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_ends_in_time_and_is_unknown_where_it_may_be_done() {
    let mut server = server().await;
    let store = store(&server);
    let key = AGENTS.key("a").unwrap();
    let version = store.create(&key, b"1").await.unwrap();
    let mut hints = store.watch(AGENTS).await.unwrap();
    // The watch has a connection of its own; this one waits for what is written.
    assert!(store.get(&key).await.unwrap().is_some());

    server.pause().unwrap();
    let written = in_time(store.put(&key, b"2", &version)).await;
    assert!(matches!(written, Err(WriteError::Unknown { .. })), "{written:?}");
    // No connection is left, and none can be made: nothing was sent.
    let created = in_time(store.create(&AGENTS.key("b").unwrap(), b"1")).await;
    assert!(matches!(created, Err(WriteError::Failed { .. })), "{created:?}");
    let read = in_time(store.get(&key)).await;
    assert!(matches!(read, Err(ReadError::Failed { .. })), "{read:?}");
    server.resume().unwrap();
    let version = settled(&store, &key, b"2").await;

    server.etcd().pause().unwrap();
    let written = in_time(store.put(&key, b"3", &version)).await;
    assert!(matches!(written, Err(WriteError::Unknown { .. })), "{written:?}");
    let read = in_time(store.get(&key)).await;
    assert!(matches!(read, Err(ReadError::Failed { .. })), "{read:?}");
    server.etcd().resume().unwrap();
    let version = settled(&store, &key, b"3").await;

    server.etcd().stop();
    let written = in_time(store.put(&key, b"4", &version)).await;
    assert!(written.is_err(), "{written:?}");
    server.etcd().run().unwrap();
    settled(&store, &key, b"4").await;
    hinted(&mut hints, "a").await;
}

/// Writes until it is written; what others would do after an outcome that nobody knows.
async fn settled(store: &KubernetesStore, key: &Key, value: &[u8]) -> stores::Version {
    eventually("a write", async || {
        let found = store.get(key).await.map_err(|error| error.to_string())?;
        let found = found.ok_or("it is gone")?;
        if found.value == value {
            return Ok(found.version);
        }
        store.put(key, value, &found.version).await.map_err(|error| error.to_string())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_writers_lose_and_repeat_nothing_while_the_server_is_killed_and_hangs() {
    let mut server = server().await;
    let handles: Vec<Arc<dyn SharedStore>> =
        (0..3).map(|_| Arc::new(store(&server)) as Arc<dyn SharedStore>).collect();
    let trouble = async {
        let a_while = Duration::from_millis(500);
        for _ in 0..2 {
            tokio::time::sleep(a_while).await;
            server.stop();
            server.run().await.unwrap();
            tokio::time::sleep(a_while).await;
            server.pause().unwrap();
            tokio::time::sleep(a_while).await;
            server.resume().unwrap();
            server.etcd().pause().unwrap();
            tokio::time::sleep(a_while).await;
            server.etcd().resume().unwrap();
        }
    };
    assert_eq!(no_entry_is_lost_or_repeated(&handles, trouble).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_was_cut_while_history_was_forgotten_says_to_look_everywhere() {
    let mut server = server().await;
    let relay = Relay::start(server.address()).await.unwrap();
    let (behind, direct) = (store_behind(&server, &relay).await, store(&server));
    let mut hints = behind.watch(AGENTS).await.unwrap();
    relay.set(Line::Cut).await;
    let key = AGENTS.key("missed").unwrap();
    let mut version = direct.create(&key, b"0").await.unwrap();
    for n in 0..20_u8 {
        version = direct.put(&key, &[n], &version).await.unwrap();
    }
    // A server that was started anew remembers nothing from before, and its etcd neither.
    server.etcd().compact().unwrap();
    server.stop();
    server.run().await.unwrap();
    relay.set(Line::Up).await;
    let look = tokio::time::timeout(SOON, hints.next()).await.expect("a hint");
    assert_eq!(look, Look::Everywhere);
    direct.put(&key, b"after", &version).await.unwrap();
    hinted(&mut hints, "missed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_is_full_takes_nothing_without_saying_so_and_the_command_that_helps_is_told() {
    let setup = Setup::plain().with("--quota-backend-bytes=10000000");
    let server = ready(ApiServer::start_over(&setup).await.unwrap()).await;
    let store = store(&server);
    let mut written = 0;
    let refused = loop {
        let key = AGENTS.key(format!("{written:03}")).unwrap();
        match settle::create(&store, &key, &[7; 500_000]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "etcd takes more than its quota");
    };
    let WriteError::Unknown { reason, .. } = refused else { panic!("{refused:?}") };
    assert!(reason.contains("etcdctl alarm disarm"), "{reason}");
    // The write that crosses the quota is done although it is refused: only reading tells, which settles it.
    let there = store.list(AGENTS, None, 1_000).await.unwrap().entries;
    assert_eq!(there.len(), written);
}
