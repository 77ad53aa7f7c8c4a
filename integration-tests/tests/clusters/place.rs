//! A cluster of a real kube-apiserver with what a small mesh has, and CAs that know it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use integration_tests::mesh::admin_channel;
use integration_tests::untrusted::csr::CsrDraft;
use integration_tests::untrusted::istio::Attempt;
use integration_tests::untrusted::{CaOptions, Refused, TestCa, TestClient, eventually};
use prost_types::value::Kind;
use proto::banyan::admin::v1::StatusRequest;
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use serde_json::{Value, json};
use stores_peers::{ApiServer, Pod, PodPlan, Relay};
use tonic::Code;

pub(crate) const NODE_A: &str = "node-a";
pub(crate) const NODE_B: &str = "node-b";
pub(crate) const WEB: &str = "spiffe://example.org/ns/shop/sa/web";
pub(crate) const KEYS_FETCHED: &str =
    "banyan_cluster_key_set_fetches_total{cluster=\"one\",result=\"good\"}";
/// The section's key for a node account.
pub(crate) const ZTUNNEL: &str = "node_accounts = [\"system:serviceaccount:istio-system:ztunnel\"]";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");

/// A cluster behind a line that can break.
pub(crate) struct Place {
    pub(crate) api: ApiServer,
    pub(crate) relay: Relay,
    files: tempfile::TempDir,
}

impl Place {
    /// A cluster in which the account `banyan` has the rights that the page gives it.
    pub(crate) async fn start() -> Self {
        let here = std::net::Ipv4Addr::LOCALHOST.into();
        let api = ApiServer::start_at(here, &["istio-ca"]).await.unwrap();
        let relay = Relay::start(api.address()).await.unwrap();
        for namespace in ["banyan", "istio-system", "shop"] {
            api.add_namespace(namespace).await.unwrap();
        }
        for (namespace, account) in
            [("banyan", "banyan"), ("istio-system", "ztunnel"), ("shop", "cart"), ("shop", "web")]
        {
            api.add_account(namespace, account).await.unwrap();
        }
        for node in [NODE_A, NODE_B] {
            api.add_node(node).await.unwrap();
        }
        let place = Self { api, relay, files: tempfile::tempdir().unwrap() };
        place.grant(&rules_of_the_page()).await;
        let token = place.api.account_token("banyan", "banyan").await.unwrap();
        fs::write(place.token_file(), token).unwrap();
        place
    }

    pub(crate) async fn grant(&self, rules: &Value) {
        self.api.grant_everywhere("banyan", "banyan", rules).await.unwrap();
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.files.path().join("token")
    }

    /// A section `[cluster.NAME]` for this cluster.
    pub(crate) fn section(&self, name: &str, lines: &str) -> String {
        format!(
            "[cluster.{name}]\napi_server = \"https://{}\"\nca_file = {:?}\ntoken_file = {:?}\n{lines}\n",
            self.relay.address(),
            self.api.pki().path("ca.pem"),
            self.token_file(),
        )
    }

    /// A CA that knows this cluster as `one`.
    pub(crate) async fn ca(&self, lines: &str) -> TestCa {
        TestCa::start(CaOptions::with(&self.section("one", lines))).await
    }

    /// How many tokens the API server was asked about by CAs.
    pub(crate) fn reviews(&self) -> usize {
        let asked = self.api.requests().unwrap().into_iter();
        asked.filter(|asked| asked.resource == "tokenreviews" && asked.verb == "create").count()
    }

    pub(crate) async fn pod(&self, name: &str, account: &str, node: &str) -> Pod {
        let namespace = if account == "ztunnel" { "istio-system" } else { "shop" };
        self.api.add_pod(PodPlan { namespace, name, account, node }).await.unwrap()
    }

    /// A token of a pod, as a kubelet projects it for `istio-ca`.
    pub(crate) async fn token(&self, pod: &Pod) -> String {
        self.api.token_of(pod, "istio-ca").await.unwrap()
    }
}

/// The rules of the ClusterRole in the page: one rule in two lines each.
pub(crate) fn rules_of_the_page() -> Value {
    let page = fs::read_to_string(PAGE).unwrap();
    let block = page.split("```yaml\n").find(|block| block.contains("kind: ClusterRole\n"));
    let block = block.expect("the page has the ClusterRole").split("```").next().unwrap();
    let list = |line: &str| -> Vec<String> {
        let inner = line.split_once('[').unwrap().1.split(']').next().unwrap();
        inner.split(',').map(|one| one.trim().trim_matches('"').to_owned()).collect()
    };
    let rules = block.lines().filter(|line| line.contains("apiGroups:")).map(|line| {
        let part = |key: &str| list(line.split_once(key).unwrap().1);
        json!({ "apiGroups": part("apiGroups:"), "resources": part("resources:"), "verbs": part("verbs:") })
    });
    let rules: Vec<_> = rules.collect();
    assert!(!rules.is_empty(), "{block}");
    rules.into()
}

/// A good request with this token.
pub(crate) fn with_token(token: &str) -> Attempt {
    Attempt::anonymous().token(token)
}

/// A request for another's identity.
pub(crate) fn on_behalf(token: &str, identity: &str) -> Attempt {
    let csr = CsrDraft::new().identity(identity).pem();
    let metadata = vec![("ImpersonatedIdentity", Kind::StringValue(identity.to_owned()))];
    Attempt { csr, metadata, ..with_token(token) }
}

/// How a request is to be refused.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) code: Code,
    pub(crate) reason: &'static str,
}

impl Expected {
    pub(crate) const fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason }
    }
}

/// That a request is refused so, and that nothing was signed.
pub(crate) async fn refused(
    ca: &TestCa,
    client: &TestClient,
    attempt: &Attempt,
    expected: Expected,
) -> Refused {
    let Expected { code, reason } = expected;
    let before = ca.settled_books().await;
    let refused = client.create(attempt).await.expect_err(reason);
    assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{}", refused.text);
    let says_when = code == Code::Unavailable;
    assert_eq!(refused.retry_after.is_some(), says_when, "{reason}");
    assert_eq!(ca.books().intents, before.intents, "{reason}");
    refused
}

/// What `status` calls wrong.
pub(crate) async fn conditions(ca: &TestCa) -> Vec<String> {
    let mut client = AdminServiceClient::new(admin_channel(ca.admin_socket()));
    client.status(StatusRequest {}).await.unwrap().into_inner().conditions
}

/// Waits until `status` says so.
pub(crate) async fn says(ca: &TestCa, words: &str) {
    eventually(words, async || conditions(ca).await.iter().any(|said| said.contains(words))).await;
}

/// Waits until nothing is wrong.
pub(crate) async fn is_well(ca: &TestCa) {
    eventually("nothing is wrong", async || conditions(ca).await.is_empty()).await;
}

/// Waits until the cluster's key set was fetched so often.
pub(crate) async fn knows_keys(ca: &TestCa, times: usize) {
    let what = format!("the key set was fetched {times} times");
    eventually(&what, async || counted(ca, KEYS_FETCHED).await >= times).await;
}

/// A counter of the metrics.
pub(crate) async fn counted(ca: &TestCa, name: &str) -> usize {
    let metrics = ca.metrics().await;
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap()).sum()
}

/// Waits until a request is answered so.
pub(crate) async fn becomes(client: &TestClient, attempt: &Attempt, reason: &str) {
    let asked = async || match client.create(attempt).await {
        Ok(_) => reason.is_empty(),
        Err(refused) => refused.reason == reason,
    };
    eventually(&format!("answered with {reason:?}"), asked).await;
}

/// Longer than answers are believed with the usual configuration.
pub(crate) const PAST_CACHE: Duration = Duration::from_secs(31);
