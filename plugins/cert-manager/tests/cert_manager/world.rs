//! An API server with cert-manager, and an issuer of its kind "CA".

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use host::{OsRandomness, SystemClock};
use plugin_cert_manager::CertManagerPlugin;
use plugins::memory::MemoryKeys;
use plugins::state::MemoryState;
use plugins::{
    AuthorityDeps, AuthorityPlugin as _, CallContext, HealthState, IssuerRequest, KeyBackend as _,
    KeySpec, Outcome, PluginError, RequestId, RootAuthority, RootSet, ca_certificate,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use stores_peers::{ApiServer, CertManager, Token};
use trust::{Certificate, RootId, TrustDomain};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);
const NAMESPACE: &str = "ca";
/// What operators read of rights.
const PAGE: &str = include_str!("../../../../docs/plugins/cert-manager.md");
const REQUESTS: &str = "/apis/cert-manager.io/v1/namespaces/ca/certificaterequests";
const ISSUERS: &str = "/apis/cert-manager.io/v1/namespaces/ca/issuers";
const SECRETS: &str = "/api/v1/namespaces/ca/secrets";
/// A look, and a wait for the next one.
const SOON: Duration = Duration::from_secs(60);

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::parse("example.org").unwrap()
}

pub(crate) fn context(id: &str) -> CallContext {
    CallContext::new(RequestId::parse(id).unwrap(), Duration::from_secs(20))
}

pub(crate) fn id(ca: &CaSecret) -> RootId {
    RootId::of(ca.certificate.der())
}

pub(crate) async fn request(root: RootId, ttl: Duration) -> IssuerRequest {
    let keys = MemoryKeys::new();
    let key = keys.generate(&RequestId::parse("issuer").unwrap(), KeySpec::P256).await.unwrap();
    let csr = ca_certificate::build_issuer_csr(&keys, &key).await.unwrap();
    IssuerRequest::new(root, csr, domain(), ttl)
}

/// Asks until cert-manager has signed, on a machine that is busy.
pub(crate) async fn asked(
    authority: &dyn RootAuthority,
    name: &str,
    root: RootId,
    ttl: Duration,
) -> Result<Vec<Certificate>, PluginError> {
    let wanted = request(root, ttl).await;
    loop {
        if let Outcome::Ready(chain) = authority.sign_issuer(&context(name), &wanted).await? {
            let read = |der: &Vec<u8>| Certificate::parse(der).unwrap();
            return Ok(chain.certificates.iter().map(read).collect());
        }
    }
}

pub(crate) async fn eventually_signs(authority: &dyn RootAuthority, root: RootId) -> RootSet {
    let looking = async {
        loop {
            let set = authority.roots(&context("roots")).await.unwrap();
            if set.signing == Some(root) {
                return set;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(SOON, looking).await.unwrap()
}

pub(crate) async fn eventually_well(authority: &dyn RootAuthority) {
    let looking = async {
        while authority.check(&context("check")).await.state != HealthState::Ok {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(SOON, looking).await.unwrap();
}

pub(crate) fn opened(settings: &str, state: Arc<MemoryState>) -> Arc<dyn RootAuthority> {
    let (keys, state) = (Arc::new(MemoryKeys::new()) as _, state as _);
    let (clock, randomness) = (Arc::new(SystemClock) as _, Arc::new(OsRandomness::new()) as _);
    let deps = AuthorityDeps::new(domain(), keys, state, clock, randomness);
    CertManagerPlugin.open(&settings.parse().unwrap(), deps).unwrap()
}

/// A CA and its key, as a Secret has them.
pub(crate) struct CaSecret {
    certificate: rcgen::Certificate,
    params: CertificateParams,
    key: KeyPair,
    /// The root above, in PEM; empty if it is one.
    above: String,
}

impl CaSecret {
    /// A root.
    pub(crate) fn new(name: &str, path_len: u8) -> Self {
        let (params, key) = (params(name, path_len), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, params, key, above: String::new() }
    }

    /// An intermediate below this root.
    pub(crate) fn below(&self, name: &str, path_len: u8) -> Self {
        let (params, key) = (params(name, path_len), KeyPair::generate().unwrap());
        let signer = rcgen::Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &signer).unwrap();
        Self { certificate, params, key, above: self.pem() }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }
}

fn params(name: &str, path_len: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2036, 1, 1);
    params
}

pub(crate) struct World {
    api: ApiServer,
    home: tempfile::TempDir,
    _cert_manager: CertManager,
}

impl World {
    pub(crate) async fn start(ca: &CaSecret) -> anyhow::Result<Self> {
        let api = ApiServer::start().await?;
        let cert_manager = CertManager::start(&api).await?;
        api.add_namespace(NAMESPACE).await?;
        let world = Self { api, home: tempfile::tempdir()?, _cert_manager: cert_manager };
        world.allow().await?;
        world.put_secret(ca).await?;
        world.add_issuer().await?;
        Ok(world)
    }

    /// Gives the account what the page lists.
    async fn allow(&self) -> anyhow::Result<()> {
        self.api.apply(NAMESPACE, role()?).await?;
        let group = "rbac.authorization.k8s.io";
        let binding = json!({ "metadata": { "name": "banyan-authority" },
            "roleRef": { "apiGroup": group, "kind": "Role", "name": "banyan-authority" },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": "ca" }] });
        let path = format!("/apis/{group}/v1/namespaces/{NAMESPACE}/rolebindings");
        self.api.ask("POST", &path, Some(binding)).await?;
        let wait = async {
            while self.api.ask_as(Token::Ca.as_str(), "GET", REQUESTS, None).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(SOON, wait).await.context("the rights are not in force")
    }

    /// Puts a CA into the issuer's Secret.
    pub(crate) async fn put_secret(&self, ca: &CaSecret) -> anyhow::Result<()> {
        let chain = format!("{}{}", ca.pem(), ca.above);
        let data = json!({ "tls.crt": chain, "tls.key": ca.key.serialize_pem() });
        let body = json!({ "metadata": { "name": "root" }, "stringData": data });
        let path = format!("{SECRETS}/root");
        let (method, path) = match self.api.ask("GET", &path, None).await {
            Ok(_) => ("PUT", path),
            Err(_) => ("POST", SECRETS.to_owned()),
        };
        self.api.ask(method, &path, Some(body)).await.map(drop)
    }

    pub(crate) async fn add_issuer(&self) -> anyhow::Result<()> {
        let body = json!({ "apiVersion": "cert-manager.io/v1", "kind": "Issuer",
            "metadata": { "name": "root" }, "spec": { "ca": { "secretName": "root" } } });
        self.api.ask("POST", ISSUERS, Some(body)).await.map(drop)
    }

    pub(crate) async fn remove_issuer(&self) -> anyhow::Result<()> {
        self.api.ask("DELETE", &format!("{ISSUERS}/root"), None).await.map(drop)
    }

    /// Settings of the plugin, and more.
    pub(crate) fn settings(&self, more: &str) -> String {
        let kubeconfig = self.api.kubeconfig(self.api.address(), Token::Ca).unwrap();
        format!(
            "kubeconfig = {kubeconfig:?}\nnamespace = \"{NAMESPACE}\"\nissuer = \"root\"\n{more}"
        )
    }

    pub(crate) fn open(&self, more: &str) -> Arc<dyn RootAuthority> {
        opened(&self.settings(more), Arc::new(MemoryState::new()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Names of the requests with a label.
    pub(crate) async fn requests(&self, label: &str) -> anyhow::Result<Vec<String>> {
        let path = format!("{REQUESTS}?labelSelector={label}");
        let list = self.api.ask("GET", &path, None).await?;
        let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let name = |one: &Value| one.pointer("/metadata/name")?.as_str().map(str::to_owned);
        Ok(items.iter().filter_map(name).collect())
    }

    /// Takes back what waits, as the CA does for a rotation that was given up.
    pub(crate) async fn withdrawn(&self) -> anyhow::Result<()> {
        let authority = self.open("");
        let root = authority.roots(&context("roots")).await?.signing.context("no root")?;
        self.remove_issuer().await?;
        let waits =
            authority.sign_issuer(&context("taken-back"), &request(root, DAY).await).await?;
        anyhow::ensure!(matches!(waits, Outcome::Pending { .. }), "{waits:?}");
        let withdrawing = authority.withdrawing().context("it cannot")?;
        withdrawing.withdraw(&context("open"), &context("taken-back").request_id).await?;
        anyhow::ensure!(withdrawing.open_requests(&context("open")).await?.is_empty());
        Ok(())
    }

    /// Rights of the page that were not used, and what was forbidden.
    pub(crate) fn rights(&self) -> anyhow::Result<(Vec<String>, Vec<String>)> {
        let asked = self.api.requests()?.into_iter().filter(|asked| asked.user == "ca");
        let asked: Vec<_> = asked.collect();
        let used: BTreeSet<_> = asked.iter().map(|asked| asked.verb.clone()).collect();
        let verbs = role()?.lines().find_map(|line| line.trim().strip_prefix("verbs: ["));
        let verbs = verbs.context("no verbs")?.trim_end_matches(']').split(", ");
        let unused = verbs.filter(|verb| !used.contains(*verb)).map(str::to_owned).collect();
        let forbidden = asked.iter().filter(|asked| asked.code == 403);
        Ok((unused, forbidden.map(|asked| format!("{asked:?}")).collect()))
    }

    pub(crate) fn stop(&mut self) {
        self.api.stop();
    }

    pub(crate) async fn run(&mut self) -> anyhow::Result<()> {
        self.api.run().await
    }
}

/// The role as the page has it.
fn role() -> anyhow::Result<&'static str> {
    let mut blocks = PAGE.split("```").filter_map(|block| block.strip_prefix("yaml\n"));
    blocks.find(|block| block.contains("kind: Role\n")).context("the page has no Role")
}
