//! Rights and credentials.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use stores::{ReadError, SharedStore as _, Space, WriteError};
use stores_kubernetes::{Access, InCluster, KubernetesStore, Settings};
use stores_peers::{ApiServer, Token};

use super::{
    AGENTS, CALL_TIMEOUT, INSTANCE, NAMESPACE, SOON, TOKENS, VERBS, eventually, rules, store,
};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/stores.md");

fn not_read<T: std::fmt::Debug>(result: Result<T, ReadError>) -> Result<String, String> {
    match result {
        Err(ReadError::Failed { reason }) => Ok(reason),
        other => Err(format!("it must fail, and gave {other:?}")),
    }
}

fn not_written<T: std::fmt::Debug>(result: Result<T, WriteError>) -> Result<String, String> {
    match result {
        Err(WriteError::Failed { reason, .. }) => Ok(reason),
        other => Err(format!("it must fail for sure, and gave {other:?}")),
    }
}

/// What a call that needs this verb says when it is refused. `id` is of no key yet.
async fn refusal(
    store: &KubernetesStore,
    verb: &str,
    space: Space,
    id: &str,
) -> Result<String, String> {
    let key = space.key(id).unwrap();
    match verb {
        "get" => not_read(store.get(&key).await),
        "list" => not_read(store.list(space, None, 10).await),
        "watch" => not_read(store.watch(space).await),
        "create" => not_written(store.create(&key, b"x").await),
        _ => {
            let version = store.create(&key, b"x").await.map_err(|error| error.to_string())?;
            match verb {
                "update" => not_written(store.put(&key, b"y", &version).await),
                _ => not_written(store.delete(&key, &version).await),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_that_is_missing_is_named_with_its_verb_its_objects_and_its_namespace() {
    let server = super::server().await;
    let store = store(&server);
    let mut tries = 0;
    for missing in VERBS {
        let others: Vec<_> = VERBS.into_iter().filter(|verb| *verb != missing).collect();
        server.grant(NAMESPACE, Token::Ca, rules(&others)).await.unwrap();
        for (space, objects) in [(AGENTS, "configmaps"), (TOKENS, "secrets")] {
            let wanted = format!("lacks the verb {missing} on {objects}");
            // The server looks at its roles a moment later.
            eventually(&wanted, async || {
                tries += 1;
                let told = refusal(&store, missing, space, &format!("try-{tries}")).await?;
                let named = told.contains(&wanted) && told.contains("in namespace banyan");
                if named { Ok(()) } else { Err(told) }
            })
            .await;
        }
    }
}

/// The YAML of the page that gives the rights.
fn role_of_the_page() -> Vec<String> {
    let page = fs::read_to_string(PAGE).unwrap();
    let block = page.split("```yaml\n").find(|block| block.contains("kind: Role\n"));
    let block = block.expect("the page has the Role").split("```").next().unwrap();
    block.split("---\n").map(str::to_owned).collect()
}

/// A token of a service account, which ends with a Secret.
async fn token(server: &ApiServer, account: &str, bound_to: &str) -> String {
    let secret = json!({ "metadata": { "name": bound_to } });
    let secrets = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    let secret = server.ask("POST", &secrets, Some(secret)).await.unwrap();
    let bound = json!({ "kind": "Secret", "apiVersion": "v1", "name": bound_to, "uid": secret["metadata"]["uid"] });
    let asked =
        json!({ "spec": { "audiences": [], "expirationSeconds": 3600, "boundObjectRef": bound } });
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token");
    let token = server.ask("POST", &path, Some(asked)).await.unwrap();
    token["status"]["token"].as_str().unwrap().to_owned()
}

fn in_cluster(server: &ApiServer, token_file: &Path, ca_file: PathBuf) -> KubernetesStore {
    let server = format!("https://{}", server.address());
    let access = InCluster { server, token_file: token_file.to_owned(), ca_file };
    let settings = Settings::new(Access::InCluster(access), NAMESPACE, INSTANCE).unwrap();
    KubernetesStore::new(settings.with_call_timeout(CALL_TIMEOUT))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_needs_the_role_of_the_page_and_nothing_more_and_its_token_may_change() {
    let server = ApiServer::start().await.unwrap();
    server.add_namespace(NAMESPACE).await.unwrap();
    for object in role_of_the_page() {
        server.apply(NAMESPACE, &object).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let (token_file, ca) = (folder.path().join("token"), server.pki().path("ca.pem"));
    let first = token(&server, "banyan", "first").await;
    fs::write(&token_file, &first).unwrap();
    let store = in_cluster(&server, &token_file, ca.clone());

    let key = TOKENS.key("a").unwrap();
    let write = async || match store.create(&key, b"1").await {
        Err(WriteError::Conflict { found: Some(found), .. }) => Ok(found),
        answer => answer,
    };
    let version = eventually("the Role is in force", write).await;
    let mut hints = store.watch(TOKENS).await.unwrap();
    let version = store.put(&key, b"2", &version).await.unwrap();
    super::hinted(&mut hints, "a").await;
    assert_eq!(store.list(TOKENS, None, 10).await.unwrap().entries.len(), 1);

    // The former token ends, and the file has another: nobody but the kubelet knows when.
    let secret = format!("/api/v1/namespaces/{NAMESPACE}/secrets/first");
    server.ask("DELETE", &secret, None).await.unwrap();
    let second = token(&server, "banyan", "second").await;
    fs::write(&token_file, second).unwrap();
    let ended = tokio::time::timeout(SOON, async {
        while server.ask_as(&first, "GET", "/api", None).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    ended.await.expect("the former token ends with what it is bound to");
    let version = store.put(&key, b"3", &version).await.unwrap();
    store.delete(&key, &version).await.unwrap();

    // Files that are wrong are named, and what they say is not shown.
    fs::write(&token_file, "wrong-token").unwrap();
    let told = not_read(in_cluster(&server, &token_file, ca.clone()).get(&key).await).unwrap();
    assert!(told.contains("401") && told.contains("credentials are not believed"), "{told}");
    assert!(!told.contains("wrong-token"), "{told}");
    fs::write(&token_file, "").unwrap();
    let told = not_read(in_cluster(&server, &token_file, ca).get(&key).await).unwrap();
    assert!(told.contains(&*token_file.display().to_string()) && told.contains("empty"), "{told}");
    fs::write(&token_file, "any").unwrap();
    let none = folder.path().join("none.pem");
    let told = not_read(in_cluster(&server, &token_file, none).get(&key).await).unwrap();
    assert!(told.contains("none.pem"), "{told}");
    let foreign = stores_peers::Pki::new().unwrap();
    let store = in_cluster(&server, &token_file, foreign.path("ca.pem"));
    let told = not_written(store.create(&key, b"x").await).unwrap();
    assert!(told.contains("cannot be reached") && told.contains("UnknownIssuer"), "{told}");
}
