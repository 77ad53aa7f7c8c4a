//! What a cluster has beside its API: nodes, pods and service accounts, made by hand, and tokens that are bound to them. There is
//! no kubelet and no controller, so nothing runs and nothing is made by itself.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::kube::{ApiServer, Token};
use crate::process::{LOOKS, PAUSE};

/// A pod that somebody scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account.
    pub account: String,
    /// Its UID.
    pub uid: String,
}

impl Pod {
    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }
}

/// A pod that shall be.
#[derive(Debug, Clone, Copy)]
pub struct PodPlan<'p> {
    /// Its namespace.
    pub namespace: &'p str,
    /// Its name.
    pub name: &'p str,
    /// Its service account.
    pub account: &'p str,
    /// The node that it is on.
    pub node: &'p str,
}

impl ApiServer {
    /// Makes a node.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn add_node(&self, name: &str) -> anyhow::Result<()> {
        let body = json!({ "metadata": { "name": name } });
        self.ask("POST", "/api/v1/nodes", Some(body)).await.map(drop)
    }

    /// Makes a service account.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn add_account(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let body = json!({ "metadata": { "name": name } });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.ask("POST", &path, Some(body)).await.map(drop)
    }

    /// Makes a pod that is scheduled already.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn add_pod(&self, plan: PodPlan<'_>) -> anyhow::Result<Pod> {
        let PodPlan { namespace, name, account, node } = plan;
        let body = json!({
            "metadata": { "name": name },
            "spec": {
                "serviceAccountName": account, "nodeName": node, "automountServiceAccountToken": false,
                "containers": [{ "name": "app", "image": "none.example/app" }],
            },
        });
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let made = self.ask("POST", &path, Some(body)).await?;
        let uid = made.pointer("/metadata/uid").and_then(Value::as_str).context("no UID")?;
        let [namespace, name, account] = [namespace, name, account].map(str::to_owned);
        Ok(Pod { namespace, name, account, uid: uid.to_owned() })
    }

    /// Deletes a pod at once, as nobody waits for its containers to end.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn delete_pod(&self, pod: &Pod) -> anyhow::Result<()> {
        let path = format!("{}?gracePeriodSeconds=0", pod.path());
        self.ask("DELETE", &path, None).await.map(drop)
    }

    /// Says what a kubelet would say of a pod: `Running`, `Succeeded`, `Failed`.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn set_phase(&self, pod: &Pod, phase: &str) -> anyhow::Result<()> {
        let body = json!({ "status": { "phase": phase } });
        self.ask("PATCH", &format!("{}/status", pod.path()), Some(body)).await.map(drop)
    }

    /// A token that is bound to a pod, for an audience.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn token_of(&self, pod: &Pod, audience: &str) -> anyhow::Result<String> {
        let bound = json!({ "kind": "Pod", "apiVersion": "v1", "name": pod.name, "uid": pod.uid });
        let spec = json!({
            "audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound,
        });
        self.token(&pod.namespace, &pod.account, spec).await
    }

    /// A token of a service account for the API server itself, which is bound to nothing.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn account_token(&self, namespace: &str, account: &str) -> anyhow::Result<String> {
        self.token(namespace, account, json!({ "expirationSeconds": 3600 })).await
    }

    async fn token(&self, namespace: &str, account: &str, spec: Value) -> anyhow::Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let made = self.ask("POST", &path, Some(json!({ "spec": spec }))).await?;
        let token = made.pointer("/status/token").and_then(Value::as_str);
        token.map(str::to_owned).context("no token")
    }

    /// Gives a service account these rights in the whole cluster and no others of those that this gave before, and waits until
    /// that is in force.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn grant_everywhere(
        &self,
        namespace: &str,
        account: &str,
        rules: &Value,
    ) -> anyhow::Result<()> {
        let group = "rbac.authorization.k8s.io";
        let base = format!("/apis/{group}/v1");
        let name = format!("{namespace}-{account}");
        let role = json!({ "metadata": { "name": name }, "rules": rules });
        let subject = json!({ "kind": "ServiceAccount", "namespace": namespace, "name": account });
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": name },
            "subjects": [subject],
        });
        self.ask("PUT", &format!("{base}/clusterroles/{name}"), Some(role)).await?;
        self.ask("PUT", &format!("{base}/clusterrolebindings/{name}"), Some(binding)).await?;
        let user = format!("system:serviceaccount:{namespace}:{account}");
        for _ in 0..LOOKS {
            let reviewed = json!({ "spec": { "namespace": namespace } });
            let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
            let may = self.ask_impersonating(&user, "POST", path, Some(reviewed)).await?;
            if is_granted(&may, rules) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        bail!("{user} does not have its rights yet")
    }

    async fn ask_impersonating(
        &self,
        user: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let request = http::Request::builder().method(method).uri(path);
        let request = request
            .header(http::header::CONTENT_TYPE, "application/json")
            .header("Impersonate-User", user)
            .header("Impersonate-Group", "system:serviceaccounts")
            .header("Impersonate-Group", "system:authenticated")
            .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())?;
        self.exchange(Token::Admin.as_str(), request).await
    }
}

/// Whether pods and token reviews may be asked for exactly as the rules say: nothing else is ever granted here.
fn is_granted(review: &Value, rules: &Value) -> bool {
    let of = |list: Option<&Value>| -> Vec<(String, String)> {
        let rules = list.and_then(Value::as_array).into_iter().flatten();
        let texts = |rule: &Value, key: &str| -> Vec<String> {
            let list = rule.get(key).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let pairs = rules.flat_map(|rule| {
            let verbs = texts(rule, "verbs");
            texts(rule, "resources").into_iter().flat_map(move |resource| {
                verbs.clone().into_iter().map(move |verb| (resource.clone(), verb))
            })
        });
        let mut pairs: Vec<_> = pairs
            .filter(|(resource, _)| ["pods", "tokenreviews"].contains(&resource.as_str()))
            .collect();
        pairs.sort();
        pairs
    };
    of(review.pointer("/status/resourceRules")) == of(Some(rules))
}
