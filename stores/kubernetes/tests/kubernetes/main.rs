//! The engine against a real kube-apiserver over a real etcd: the contract, rights, faults, what hands do.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on ends here"
)]

mod fake;
mod faults;
mod hands;
mod rights;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use stores::{Hints, Look, Sensitivity, SharedStore, Space};
use stores_contract::{Subject, Trouble, run};
use stores_kubernetes::{Access, KubernetesStore, Settings};
use stores_peers::{ApiServer, Line, Relay, Token};

const AGENTS: Space = Space::new("agents", Sensitivity::Plain);
const TOKENS: Space = Space::new("tokens", Sensitivity::Secret);
const NAMESPACE: &str = "banyan";
const INSTANCE: &str = "example.org";
const VERBS: [&str; 6] = ["get", "list", "watch", "create", "update", "delete"];
/// Longest time for a call in tests that wait for it.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time until something comes about on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A server with the namespace, in which the caller `ca` may do what the engine needs.
async fn server() -> ApiServer {
    ready(ApiServer::start().await.unwrap()).await
}

async fn ready(server: ApiServer) -> ApiServer {
    server.add_namespace(NAMESPACE).await.unwrap();
    server.grant(NAMESPACE, Token::Ca, rules(&VERBS)).await.unwrap();
    server
}

fn rules(verbs: &[&str]) -> serde_json::Value {
    json!([{ "apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": verbs }])
}

fn settings(kubeconfig: PathBuf, instance: &str) -> Settings {
    let access = Access::Kubeconfig { path: kubeconfig, context: None };
    let settings = Settings::new(access, NAMESPACE, instance).unwrap();
    settings.with_call_timeout(CALL_TIMEOUT).with_watch_silence(Duration::from_secs(5))
}

/// A handle with connections of its own.
fn store(server: &ApiServer) -> KubernetesStore {
    let kubeconfig = server.kubeconfig(server.address(), Token::Ca).unwrap();
    KubernetesStore::new(settings(kubeconfig, INSTANCE))
}

async fn store_behind(server: &ApiServer, relay: &Relay) -> KubernetesStore {
    let kubeconfig = server.kubeconfig(relay.address(), Token::Ca).unwrap();
    KubernetesStore::new(settings(kubeconfig, INSTANCE))
}

async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let mut last = None;
    let trying = async {
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let done = tokio::time::timeout(SOON, trying).await;
    done.unwrap_or_else(|_| panic!("not in time: {what}: {last:?}"))
}

/// Waits until a watch has said to look at an id, or everywhere.
async fn hinted(hints: &mut Hints, id: &str) {
    let waiting = async {
        loop {
            match hints.next().await {
                Look::Everywhere => return,
                Look::At(ids) if ids.contains(id) => return,
                Look::At(_) => {}
            }
        }
    };
    let waited = tokio::time::timeout(SOON, waiting).await;
    waited.unwrap_or_else(|_| panic!("no hint at {id}"));
}

struct KubernetesTrouble {
    relay: Relay,
    server: tokio::sync::Mutex<ApiServer>,
}

#[async_trait]
impl Trouble for KubernetesTrouble {
    async fn cut(&self) {
        self.relay.set(Line::Cut).await;
    }

    async fn lose_answers(&self) {
        self.relay.set(Line::AnswersLost).await;
    }

    async fn mend(&self) {
        self.relay.set(Line::Up).await;
    }

    async fn compact(&self) -> bool {
        self.server.lock().await.etcd().compact().expect("compacted");
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_of_kubernetes_keeps_the_contract() {
    let server = server().await;
    let relay = Relay::start(server.address()).await.unwrap();
    let kubeconfig = server.kubeconfig(relay.address(), Token::Ca).unwrap();
    let open = move || {
        let settings = settings(kubeconfig.clone(), INSTANCE);
        let store: Arc<dyn SharedStore> = Arc::new(KubernetesStore::new(settings));
        async move { Ok(store) }
    };
    let trouble = Arc::new(KubernetesTrouble { relay, server: server.into() });
    let report = run(&Subject::new(open).with_trouble(trouble)).await;
    report.assert_conforms();
    assert_eq!(report.skipped(), Vec::<&str>::new(), "{report}");
}
