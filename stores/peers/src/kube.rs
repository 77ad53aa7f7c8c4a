//! A server of the API of Kubernetes, over an etcd of its own, with access by roles.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use k8s_openapi::Resource as _;
use k8s_openapi::api::rbac::v1::Role;
use kube::config::{AuthInfo, Config};
use serde_json::{Value, json};

use crate::etcd::{Etcd, Setup};
use crate::pki::Pki;
use crate::process::{LOOKS, PAUSE, Process, free};

const ADMIN: &str = "admin-token";
/// Callers with fixed tokens: token, name, uid, groups.
const CALLERS: &str =
    "admin-token,admin,admin,\"system:masters\"\nca-token,ca,ca\nother-token,other,other\n";

/// The issuer of the tokens of service accounts.
pub const ISSUER: &str = "https://kubernetes.default.svc";
/// Who asked for what, without what was said.
const AUDIT_POLICY: &str = r#"{ "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
  "rules": [{ "level": "Metadata" }] }"#;

/// One request that was answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// Who, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, ...
    pub verb: String,
    /// Group of the API; empty for the core.
    pub group: String,
    /// What, with a subresource behind a slash. Empty for a path that is no resource.
    pub resource: String,
    /// Where; empty for what is in no namespace.
    pub namespace: String,
    /// HTTP status of the answer.
    pub code: u64,
}

/// What a caller shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// May do everything.
    Admin,
    /// The user `ca`, who may do nothing yet.
    Ca,
    /// The user `other`, who may do nothing yet.
    Other,
}

/// A server that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct ApiServer {
    etcd: Etcd,
    pki: Pki,
    process: Process,
}

impl Token {
    /// As it is sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => ADMIN,
            Self::Ca => "ca-token",
            Self::Other => "other-token",
        }
    }
}

impl ApiServer {
    /// Starts an etcd, and a server over it.
    ///
    /// # Errors
    /// If they cannot be started.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_over(&Setup::plain()).await
    }

    /// The same, over an etcd that is started in a certain way.
    ///
    /// # Errors
    /// If they cannot be started.
    pub async fn start_over(setup: &Setup) -> anyhow::Result<Self> {
        let mut server = Self::prepared(setup, free()?, &[])?;
        server.run().await?;
        Ok(server)
    }

    /// The same where others reach it by an address that this machine has, with the tokens of accounts that Pods show to other
    /// audiences than itself, and with an account of every request that it answers: see [`requests`](Self::requests).
    ///
    /// # Errors
    /// If they cannot be started.
    pub async fn start_at(address: IpAddr, audiences: &[&str]) -> anyhow::Result<Self> {
        let address = SocketAddr::new(address, free()?.port());
        let mut server = Self::prepared(&Setup::plain(), address, audiences)?;
        // Services lead to their endpoints: there is nothing here that routes their addresses.
        server.process.add_arguments(&["--enable-aggregator-routing=true"]);
        server.run().await?;
        Ok(server)
    }

    /// The same as [`start`](Self::start) with further options, such as those that have it behave like an older version.
    ///
    /// # Errors
    /// If they cannot be started.
    pub async fn start_with_options(options: &[&str]) -> anyhow::Result<Self> {
        let mut server = Self::prepared(&Setup::plain(), free()?, &[])?;
        server.process.add_arguments(options);
        server.run().await?;
        Ok(server)
    }

    /// A server that does not run yet.
    fn prepared(setup: &Setup, address: SocketAddr, audiences: &[&str]) -> anyhow::Result<Self> {
        let etcd = Etcd::start(setup)?;
        let pki = Pki::with_address(&address.ip().to_string())?;
        let mut process = Process::new("kube-apiserver", address)?;
        fs::write(process.path("callers"), CALLERS)?;
        fs::write(process.path("audit-policy"), AUDIT_POLICY)?;
        let key = rcgen::KeyPair::generate()?;
        fs::write(process.path("accounts.key"), key.serialize_pem())?;
        fs::write(process.path("accounts.pub"), key.public_key_pem())?;
        let file = |option: &str, path: PathBuf| format!("--{option}={}", path.display());
        process.set_arguments(vec![
            format!("--etcd-servers=http://{}", etcd.address()),
            format!("--bind-address={}", address.ip()),
            format!("--advertise-address={}", address.ip()),
            format!("--secure-port={}", address.port()),
            file("tls-cert-file", pki.path("server.pem")),
            file("tls-private-key-file", pki.path("server.key")),
            file("client-ca-file", pki.path("ca.pem")),
            file("token-auth-file", process.path("callers")),
            file("service-account-key-file", process.path("accounts.pub")),
            file("service-account-signing-key-file", process.path("accounts.key")),
            format!("--service-account-issuer={ISSUER}"),
            format!("--api-audiences={}", [&[ISSUER], audiences].concat().join(",")),
            file("audit-policy-file", process.path("audit-policy")),
            file("audit-log-path", process.path("audit")),
            "--audit-log-mode=blocking".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            // Its controllers are not here, which give each Pod's namespace an account.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
        ]);
        Ok(Self { etcd, pki, process })
    }

    /// Starts it, also after a [`stop`](Self::stop), and waits until it is ready.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn run(&mut self) -> anyhow::Result<()> {
        self.process.spawn()?;
        self.process.wait_until_it_listens()?;
        let mut said = String::new();
        for _ in 0..LOOKS {
            match self.ask("GET", "/readyz", None).await {
                Ok(_) => return Ok(()),
                Err(error) => said = format!("{error:#}"),
            }
            self.process.must_run()?;
            tokio::time::sleep(PAUSE).await;
        }
        bail!("kube-apiserver does not get ready: {said}")
    }

    /// Ends it without a word.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it anew with another key for tokens of accounts; those of the former one stay good.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn replace_accounts_key(&mut self) -> anyhow::Result<()> {
        self.stop();
        let (key, believed) = (rcgen::KeyPair::generate()?, self.process.path("accounts.pub"));
        let all = format!("{}{}", fs::read_to_string(&believed)?, key.public_key_pem());
        fs::write(&believed, all)?;
        fs::write(self.accounts_key(), key.serialize_pem())?;
        self.run().await
    }

    /// Has it do nothing until [`resume`](Self::resume): its sockets stay open, and nobody answers.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.process.pause()
    }

    /// Ends a [`pause`](Self::pause).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process.resume()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.process.address()
    }

    /// Every request that was answered since the start, in its order.
    ///
    /// # Errors
    /// If the account cannot be read.
    pub fn requests(&self) -> anyhow::Result<Vec<Asked>> {
        let account = fs::read_to_string(self.process.path("audit"))?;
        let entries = account.lines().map(serde_json::from_str::<Value>);
        entries.map(|entry| Ok(asked(&entry?))).collect()
    }

    /// What it keeps its objects in.
    pub fn etcd(&mut self) -> &mut Etcd {
        &mut self.etcd
    }

    /// The CA that its certificate comes from; certificates of clients from there are believed too.
    #[must_use]
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// The key that signs tokens of accounts.
    pub(crate) fn accounts_key(&self) -> PathBuf {
        self.process.path("accounts.key")
    }

    /// Writes a file that tells a client how to reach it, at `address` (its own, or that of a relay), as a caller.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn kubeconfig(&self, address: SocketAddr, token: Token) -> anyhow::Result<PathBuf> {
        let path = self.process.path(&format!("kubeconfig-{}-{}", address.port(), token.as_str()));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://{address}"),
                "certificate-authority": self.pki.path("ca.pem"),
            } }],
            "users": [{ "name": "test", "user": { "token": token.as_str() } }],
        });
        // JSON is YAML.
        fs::write(&path, config.to_string())?;
        // It holds a token.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// Asks it as one who may do everything; answers what it says, if that is JSON.
    ///
    /// # Errors
    /// If it refuses, or does not answer.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        self.ask_as(ADMIN, method, path, body).await
    }

    /// The same, as another.
    ///
    /// # Errors
    /// If it refuses, or does not answer.
    pub async fn ask_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let content = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = http::Request::builder().method(method).uri(path);
        let request = request
            .header(http::header::CONTENT_TYPE, content)
            .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())?;
        self.exchange(token, request).await.with_context(|| format!("{method} {path}"))
    }

    /// Makes an object of a namespace, or of the whole cluster (with no namespace), as YAML describes it.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn apply(&self, namespace: &str, yaml: &str) -> anyhow::Result<()> {
        let kind = yaml.lines().find_map(|line| line.strip_prefix("kind: "));
        let kind = kind.context("the YAML has no kind")?.trim_matches('"');
        let base = match kind {
            "Role" | "RoleBinding" | "ClusterRole" => format!("/apis/{}", Role::API_VERSION),
            "MutatingWebhookConfiguration" => "/apis/admissionregistration.k8s.io/v1".to_owned(),
            "CustomResourceDefinition" => "/apis/apiextensions.k8s.io/v1".to_owned(),
            _ => "/api/v1".to_owned(),
        };
        let within = match namespace {
            "" => String::new(),
            namespace => format!("/namespaces/{namespace}"),
        };
        let kind = kind.to_ascii_lowercase();
        let request = http::Request::post(format!("{base}{within}/{kind}s?fieldValidation=Strict"));
        let request = request
            .header(http::header::CONTENT_TYPE, "application/yaml")
            .body(yaml.as_bytes().to_vec())?;
        self.exchange(ADMIN, request).await.with_context(|| yaml.to_owned()).map(drop)
    }

    pub(crate) async fn exchange(
        &self,
        token: &str,
        request: http::Request<Vec<u8>>,
    ) -> anyhow::Result<Value> {
        let mut config = Config::new(format!("https://{}", self.address()).parse()?);
        config.root_cert = Some(vec![self.root()?]);
        config.default_retry = false;
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        let client = kube::Client::try_from(config)?;
        let asking = tokio::time::timeout(PAUSE * LOOKS, client.request_text(request)).await;
        let answer = asking.context("no answer in time")??;
        Ok(serde_json::from_str(&answer).unwrap_or_default())
    }

    fn root(&self) -> anyhow::Result<Vec<u8>> {
        use rustls_pki_types::pem::PemObject as _;
        let path = self.pki.path("ca.pem");
        Ok(rustls_pki_types::CertificateDer::from_pem_file(path)?.to_vec())
    }

    /// Makes a namespace.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn add_namespace(&self, name: &str) -> anyhow::Result<()> {
        let body = json!({ "metadata": { "name": name } });
        self.ask("POST", "/api/v1/namespaces", Some(body)).await.map(drop)
    }

    /// Makes the Role in a namespace what is given, gives it to a caller, and waits until its first rule is in force.
    ///
    /// # Errors
    /// If it refuses.
    pub async fn grant(&self, namespace: &str, token: Token, rules: Value) -> anyhow::Result<()> {
        let group = Role::GROUP;
        let base = format!("/apis/{group}/v1/namespaces/{namespace}");
        let user = token.as_str().trim_end_matches("-token");
        let may = |verb: &str, resource: &str| {
            let asked = json!({ "namespace": namespace, "verb": verb, "resource": resource });
            let body = json!({ "spec": { "resourceAttributes": asked } });
            let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
            self.ask_as(token.as_str(), "POST", path, Some(body))
        };
        let rule = |part: &str| rules.pointer(&format!("/0/{part}/0")).and_then(Value::as_str);
        let (verb, resource) = (rule("verbs"), rule("resources"));
        let (verb, resource) = verb.zip(resource).context("the first rule is empty")?;
        let role = json!({ "metadata": { "name": user }, "rules": rules });
        let binding = json!({
            "metadata": { "name": user },
            "roleRef": { "apiGroup": group, "kind": "Role", "name": user },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
        });
        // To put them makes them too.
        self.ask("PUT", &format!("{base}/roles/{user}"), Some(role)).await?;
        self.ask("PUT", &format!("{base}/rolebindings/{user}"), Some(binding)).await?;
        for _ in 0..LOOKS {
            if may(verb, resource).await?.pointer("/status/allowed") == Some(&Value::Bool(true)) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        bail!("{user} may still not {verb} {resource}")
    }
}

fn asked(entry: &Value) -> Asked {
    let text =
        |path: &str| entry.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let resource = match text("/objectRef/subresource") {
        part if part.is_empty() => text("/objectRef/resource"),
        part => format!("{}/{part}", text("/objectRef/resource")),
    };
    Asked {
        user: text("/user/username"),
        verb: text("/verb"),
        group: text("/objectRef/apiGroup"),
        resource,
        namespace: text("/objectRef/namespace"),
        code: entry.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default(),
    }
}
