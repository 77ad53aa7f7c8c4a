//! A real OpenBao with TLS, on a port that it chose itself, and what its operator does there.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plugin_http::{Address, Answer, Call, Method, Server, TlsFiles};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

/// How long an answer may take.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A server, initialised and unsealed. It is killed when this is dropped.
pub(crate) struct Bao {
    child: Child,
    pub(crate) home: tempfile::TempDir,
    pub(crate) address: String,
    /// The operator's token.
    token: String,
    unseal_key: String,
}

/// A CA for servers and clients.
pub(crate) struct TlsCa {
    key: KeyPair,
    params: CertificateParams,
    pub(crate) pem: String,
}

impl TlsCa {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { key, params, pem }
    }

    /// Writes a certificate for 127.0.0.1 and its key.
    pub(crate) fn certify(&self, name: &str, directory: &Path) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate =
            params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        let paths =
            (directory.join(format!("{name}.pem")), directory.join(format!("{name}-key.pem")));
        fs::write(&paths.0, certificate.pem()).unwrap();
        write_secret(&paths.1, &key.serialize_pem());
        paths
    }
}

/// Writes a file that its owner alone may use.
pub(crate) fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

impl Bao {
    pub(crate) async fn start() -> Self {
        let program =
            host::peers::binary("openbao", "bao").unwrap_or_else(|missing| panic!("{missing}"));
        let home = tempfile::tempdir().unwrap();
        let ca = TlsCa::new("test CA");
        fs::write(home.path().join("ca.pem"), &ca.pem).unwrap();
        let (cert, key) = ca.certify("server", home.path());
        let config = format!(
            "storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  address = \"127.0.0.1:0\"\n  tls_cert_file = {cert:?}\n  \
             tls_key_file = {key:?}\n}}\n"
        );
        fs::write(home.path().join("bao.hcl"), config).unwrap();
        let mut child = Command::new(program)
            .args(["server", "-config", "bao.hcl"])
            .current_dir(home.path())
            .env_clear()
            .env("HOME", home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let port = port_of(&mut child);
        let address = format!("https://127.0.0.1:{port}");
        let mut bao =
            Self { child, home, address, token: String::new(), unseal_key: String::new() };
        let init = bao.post("sys/init", json!({ "secret_shares": 1, "secret_threshold": 1 })).await;
        bao.token = init["root_token"].as_str().unwrap().to_owned();
        bao.unseal_key = init["keys"][0].as_str().unwrap().to_owned();
        bao.unseal().await;
        bao
    }

    /// Ends the server; its files stay.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) async fn seal(&self) {
        self.post("sys/seal", json!({})).await;
    }

    /// Unseals, and waits until the server is active.
    pub(crate) async fn unseal(&self) {
        self.post("sys/unseal", json!({ "key": self.unseal_key })).await;
        for _ in 0..200 {
            let health = self.ask(Method::GET, "sys/health", None).await;
            if health.status.as_u16() == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not become active");
    }

    /// Makes the server read its certificate again, and waits until it shows another one than `before` trusts.
    pub(crate) async fn reload_tls(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        for _ in 0..200 {
            if self.server().call(&Call::get("/v1/sys/health"), SOON).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not take its new certificate");
    }

    /// What its operator asks for.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let (namespace, path) =
            path.split_once(':').map_or((None, path), |(space, path)| (Some(space), path));
        let path = format!("/v1/{path}");
        let mut call = body
            .map_or_else(|| Call::new(method, path.clone()), |body| Call::post(path.clone(), body));
        if !self.token.is_empty() {
            call = call.with_secret("x-vault-token", &self.token).unwrap();
        }
        if let Some(namespace) = namespace {
            call = call.with_secret("x-vault-namespace", namespace).unwrap();
        }
        self.server().call(&call, SOON).await.unwrap()
    }

    /// What its operator does; it must work. A namespace may stand before the path, with a colon.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.ask(Method::POST, path, Some(body)).await;
        assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.body);
        answer.body
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.ask(Method::GET, path, None).await;
        assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.body);
        answer.body
    }

    pub(crate) async fn delete(&self, path: &str) {
        let answer = self.ask(Method::DELETE, path, None).await;
        assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.body);
    }

    pub(crate) async fn mount(&self, path: &str) {
        let (space, bare) = path.rsplit_once(':').map_or(("", path), |(space, bare)| (space, bare));
        let separator = if space.is_empty() { "" } else { ":" };
        self.post(&format!("{space}{separator}sys/mounts/{bare}"), json!({ "type": "pki" })).await;
    }

    /// Makes a root in a mount, and makes it the default. Answers with its issuer id.
    pub(crate) async fn root(&self, mount: &str, name: &str) -> String {
        let body = json!({ "common_name": name, "issuer_name": name, "key_type": "ec", "not_after": "2040-01-01T00:00:00Z" });
        let made = self.post(&format!("{mount}/root/rotate/internal"), body).await;
        let id = made["data"]["issuer_id"].as_str().unwrap().to_owned();
        self.post(&format!("{mount}/root/replace"), json!({ "default": id })).await;
        id
    }

    pub(crate) async fn policy(&self, name: &str, policy: &str) {
        self.post(&format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
    }

    /// Makes a token and writes it into a file of the server's home.
    pub(crate) async fn token(&self, file: &str, more: Value) -> String {
        let mut body = json!({ "policies": ["banyan"], "no_parent": true });
        for (field, value) in more.as_object().unwrap() {
            body[field] = value.clone();
        }
        let made = self.post("auth/token/create", body).await;
        let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
        write_secret(&self.home.path().join(file), &token);
        token
    }

    fn server(&self) -> Server {
        let tls = TlsFiles { ca: Some(self.home.path().join("ca.pem")), identity: None };
        Server { address: Address::parse(&self.address).unwrap(), tls }
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The port that the server chose. It prints the one of its cluster, which is the next.
fn port_of(child: &mut Child) -> u16 {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    let line = lines.find(|line| line.contains("cluster address: \"127.0.0.1:")).unwrap();
    let (_, rest) = line.split_once("cluster address: \"127.0.0.1:").unwrap();
    let next: u16 = rest.split('"').next().unwrap().parse().unwrap();
    // It would wait for a reader otherwise.
    std::thread::spawn(move || lines.for_each(drop));
    next - 1
}
