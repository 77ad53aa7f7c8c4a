//! What hands do to objects, and who else is in the namespace.

use serde_json::{Value, json};
use stores::{ReadError, SharedStore as _, Space, WriteError};
use stores_kubernetes::KubernetesStore;
use stores_peers::{ApiServer, Token};

use super::{AGENTS, INSTANCE, NAMESPACE, TOKENS, hinted, settings, store};

fn path(space: Space) -> String {
    let kind = if space == TOKENS { "secrets" } else { "configmaps" };
    format!("/api/v1/namespaces/{NAMESPACE}/{kind}")
}

/// The path of the object that holds a key.
async fn object(server: &ApiServer, space: Space, id: &str) -> String {
    let list = server.ask("GET", &path(space), None).await.unwrap();
    let named =
        |object: &&Value| object["metadata"]["annotations"]["banyan-ca.github.io/id"] == *id;
    let found =
        list["items"].as_array().unwrap().iter().find(named).expect("an object with the id");
    format!("{}/{}", path(space), found["metadata"]["name"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_a_hand_changed_is_named_and_never_missing() {
    let server = super::server().await;
    let store = store(&server);
    let changes = [
        ("label", json!({ "metadata": { "labels": { "banyan-ca.github.io/space": null } } })),
        ("foreign", json!({ "metadata": { "labels": { "banyan-ca.github.io/instance": "x" } } })),
        ("id", json!({ "metadata": { "annotations": { "banyan-ca.github.io/id": null } } })),
        (
            "other",
            json!({ "metadata": { "annotations": { "banyan-ca.github.io/id": "another" } } }),
        ),
        ("value", json!({ "binaryData": { "value": null }, "data": { "value": null } })),
    ];
    for space in [AGENTS, TOKENS] {
        for (id, change) in &changes {
            let key = space.key(*id).unwrap();
            let version = store.create(&key, b"one").await.unwrap();
            let mut hints = store.watch(space).await.unwrap();
            let object = object(&server, space, id).await;
            let change = if space == TOKENS && *id == "value" {
                json!({ "data": { "value": null } })
            } else {
                change.clone()
            };
            server.ask("PATCH", &object, Some(change)).await.unwrap();
            // Who watches hears of it, and looks.
            hinted(&mut hints, id).await;
            let name = object.rsplit('/').next().unwrap();
            for result in [
                store.get(&key).await.map(drop),
                store.list(space, None, 100).await.map(drop),
                store.list(space, Some("zzz"), 1).await.map(drop),
            ] {
                let Err(ReadError::Unreadable { key, reason }) = result else {
                    panic!("{id}: {result:?}");
                };
                assert!(key.contains(name), "{id}: {key}");
                assert!(reason.contains("kubectl -n banyan delete"), "{id}: {reason}");
            }
            // A write at a former version conflicts, but nobody can say with what.
            let refused = store.put(&key, b"two", &version).await;
            assert!(matches!(refused, Err(WriteError::Failed { .. })), "{id}: {refused:?}");
            // The advice can be followed.
            server.ask("DELETE", &object, None).await.unwrap();
            assert_eq!(store.get(&key).await, Ok(None));
            assert!(store.list(space, None, 100).await.unwrap().entries.is_empty());
        }
    }
    a_copy_is_named(&server, &store).await;
    what_waits_for_finalizers_is_named(&server, &store).await;
    a_value_that_a_hand_wrote_is_read_and_has_another_version(&server, &store).await;
}

async fn a_copy_is_named(server: &ApiServer, store: &KubernetesStore) {
    store.create(&AGENTS.key("a").unwrap(), b"one").await.unwrap();
    let found = server.ask("GET", &object(server, AGENTS, "a").await, None).await.unwrap();
    let mut copy = json!({ "metadata": { "name": "copy" }, "binaryData": found["binaryData"] });
    for part in ["labels", "annotations"] {
        copy["metadata"][part] = found["metadata"][part].clone();
    }
    server.ask("POST", &path(AGENTS), Some(copy)).await.unwrap();
    let listed = store.list(AGENTS, None, 10).await;
    let Err(ReadError::Unreadable { key, .. }) = listed else { panic!("{listed:?}") };
    assert_eq!(key, "ConfigMap banyan/copy");
    assert!(store.get(&AGENTS.key("a").unwrap()).await.unwrap().is_some());
    server.ask("DELETE", &format!("{}/copy", path(AGENTS)), None).await.unwrap();
}

async fn what_waits_for_finalizers_is_named(server: &ApiServer, store: &KubernetesStore) {
    let key = AGENTS.key("kept").unwrap();
    store.create(&key, b"one").await.unwrap();
    let object = object(server, AGENTS, "kept").await;
    let finalizers = |list: Value| json!({ "metadata": { "finalizers": list } });
    server.ask("PATCH", &object, Some(finalizers(json!(["x.io/keep"])))).await.unwrap();
    let version = store.get(&key).await.unwrap().unwrap().version;
    let deleted = store.delete(&key, &version).await;
    let Err(WriteError::Unknown { reason, .. }) = deleted else { panic!("{deleted:?}") };
    assert!(reason.contains("x.io/keep"), "{reason}");
    let read = store.get(&key).await;
    assert!(matches!(read, Err(ReadError::Unreadable { .. })), "{read:?}");
    server.ask("PATCH", &object, Some(finalizers(json!([])))).await.unwrap();
    assert_eq!(store.get(&key).await, Ok(None));
}

async fn a_value_that_a_hand_wrote_is_read_and_has_another_version(
    server: &ApiServer,
    store: &KubernetesStore,
) {
    let key = TOKENS.key("edited").unwrap();
    let version = store.create(&key, b"one").await.unwrap();
    let edit = json!({ "data": { "value": "dHdv" } });
    server.ask("PATCH", &object(server, TOKENS, "edited").await, Some(edit)).await.unwrap();
    let found = store.get(&key).await.unwrap().unwrap();
    assert_eq!(found.value, b"two");
    let stale = store.put(&key, b"three", &version).await;
    let Err(WriteError::Conflict { found: Some(there), .. }) = stale else { panic!("{stale:?}") };
    assert_eq!(there, found.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_in_one_namespace_do_not_see_each_other_and_a_missing_namespace_is_named() {
    let server = super::server().await;
    let of = |instance: &str| {
        let kubeconfig = server.kubeconfig(server.address(), Token::Ca).unwrap();
        KubernetesStore::new(settings(kubeconfig, instance))
    };
    let (one, other, longer) = (of(INSTANCE), of("example.net"), of("sub.example.org"));
    let mut heard = other.watch(AGENTS).await.unwrap();
    for space in [AGENTS, TOKENS] {
        let key = space.key("a").unwrap();
        let version = one.create(&key, b"one").await.unwrap();
        for another in [&other, &longer] {
            assert_eq!(another.get(&key).await, Ok(None));
            assert!(another.list(space, None, 10).await.unwrap().entries.is_empty());
            let foreign = another.delete(&key, &version).await;
            assert!(
                matches!(foreign, Err(WriteError::Conflict { found: None, .. })),
                "{foreign:?}"
            );
        }
        other.create(&key, b"other").await.unwrap();
        assert_eq!(one.list(space, None, 10).await.unwrap().entries[0].value, b"one");
        assert_eq!(one.get(&key).await.unwrap().unwrap().version, version);
    }
    // The first that it hears is its own.
    hinted(&mut heard, "a").await;

    let access = stores_kubernetes::Access::Kubeconfig {
        path: server.kubeconfig(server.address(), Token::Admin).unwrap(),
        context: None,
    };
    let nowhere = stores_kubernetes::Settings::new(access, "nowhere", INSTANCE).unwrap();
    let created = KubernetesStore::new(nowhere).create(&AGENTS.key("a").unwrap(), b"x").await;
    let Err(WriteError::Failed { reason, .. }) = created else { panic!("{created:?}") };
    assert!(reason.contains("kubectl create namespace nowhere"), "{reason}");
}
