//! A real step-ca in a process of its own, with a PKI that a test made, and the section that asks it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};

/// Name of the provisioner.
pub(crate) const PROVISIONER: &str = "banyan";
/// How often it is asked whether it listens, and the pause between: half a minute, on a machine that is busy.
const LOOKS: u32 = 1_500;
const PAUSE: Duration = Duration::from_millis(20);

/// A root, and an intermediate that a step-ca signs with.
pub(crate) struct Pki {
    pub(crate) root: Certificate,
    pub(crate) intermediate: Certificate,
    root_key: KeyPair,
    pub(crate) intermediate_key: KeyPair,
}

/// How a step-ca is set up.
pub(crate) struct Setup {
    pub(crate) pki: Pki,
    /// The provisioner's template; none for the default, which makes leaves.
    pub(crate) template: Option<String>,
    /// The provisioner's `maxTLSCertDuration`.
    pub(crate) longest: &'static str,
    /// Whether the root itself signs.
    pub(crate) root_signs: bool,
}

/// A step-ca that runs until it is stopped or dropped.
pub(crate) struct StepCaProcess {
    home: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Pki {
    /// A PKI of this name whose intermediate has this path length.
    pub(crate) fn new(name: &str, path_len: u8) -> anyhow::Result<Self> {
        let (root_key, intermediate_key) = (KeyPair::generate()?, KeyPair::generate()?);
        let root_params = ca_params(&format!("{name} root"), BasicConstraints::Unconstrained);
        let root = root_params.self_signed(&root_key)?;
        let params =
            ca_params(&format!("{name} intermediate"), BasicConstraints::Constrained(path_len));
        let intermediate =
            params.signed_by(&intermediate_key, &Issuer::from_params(&root_params, &root_key))?;
        Ok(Self { root, intermediate, root_key, intermediate_key })
    }
}

impl Setup {
    /// With the template of the documentation, and a life that is long enough.
    pub(crate) fn of(pki: Pki) -> Self {
        Self { pki, template: Some(documented_template()), longest: "9000h", root_signs: false }
    }
}

impl StepCaProcess {
    /// Writes everything that a step-ca needs, on a port that is free, and starts it.
    pub(crate) fn start(setup: &Setup) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let key = KeyPair::generate()?;
        fs::write(home.path().join("provisioner.key"), key.serialize_pem())?;
        let mut process = Self { home, port, child: None };
        process.write(setup)?;
        process.run()?;
        Ok(process)
    }

    /// Writes the PKI and the configuration anew, for the next start. The provisioner's key stays.
    pub(crate) fn write(&self, setup: &Setup) -> anyhow::Result<()> {
        let pki = &setup.pki;
        let (certificate, key) = match setup.root_signs {
            true => (&pki.root, &pki.root_key),
            false => (&pki.intermediate, &pki.intermediate_key),
        };
        fs::write(self.path("root.pem"), pki.root.pem())?;
        fs::write(self.path("signer.pem"), certificate.pem())?;
        fs::write(self.path("signer.key"), key.serialize_pem())?;
        fs::set_permissions(self.path("signer.key"), fs::Permissions::from_mode(0o600))?;
        Ok(fs::write(self.path("ca.json"), self.configuration(setup)?)?)
    }

    /// Starts it after a [`stop`](Self::stop), on the same port.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let program = host::peers::binary("step-ca", "step-ca")?;
        let log = File::options().create(true).append(true).open(self.path("log"))?;
        let child = Command::new(program)
            .arg(self.path("ca.json"))
            .env("STEPPATH", self.home.path())
            .env("HOME", self.home.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("step-ca does not start")?;
        self.child = Some(child);
        self.wait_until_it_listens()
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What it has said so far, each request among it.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A path below its home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The settings that ask it.
    pub(crate) fn section(&self) -> String {
        let (address, home) = (self.address(), self.home.path().display());
        format!(
            "address = \"{address}\"\nca_file = \"{home}/root.pem\"\nprovisioner = \"{PROVISIONER}\"\n\
             key_file = \"{home}/provisioner.key\"\n"
        )
    }

    fn configuration(&self, setup: &Setup) -> anyhow::Result<String> {
        let key = KeyPair::from_pem(&fs::read_to_string(self.path("provisioner.key"))?)?;
        let options =
            setup.template.as_ref().map(|template| serde_json::json!({ "template": template }));
        let configuration = serde_json::json!({
            "root": self.path("root.pem"),
            "crt": self.path("signer.pem"),
            "key": self.path("signer.key"),
            "address": format!("127.0.0.1:{}", self.port),
            "dnsNames": ["127.0.0.1"],
            "logger": { "format": "json" },
            "db": { "type": "bbolt", "dataSource": self.path("db") },
            "authority": { "provisioners": [{
                "type": "JWK",
                "name": PROVISIONER,
                "key": public_jwk(&key),
                "claims": { "maxTLSCertDuration": setup.longest },
                "options": { "x509": options },
            }] },
        });
        Ok(configuration.to_string())
    }

    fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        for _ in 0..LOOKS {
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            let runs =
                self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
            if !runs {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        bail!("step-ca does not listen: {}", self.log())
    }
}

impl Drop for StepCaProcess {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The template that the documentation tells operators to use.
pub(crate) fn documented_template() -> String {
    documented("```gotemplate\n")
}

/// The first block of the documentation that opens so.
pub(crate) fn documented(opening: &str) -> String {
    let page = include_str!("../../../../docs/plugins/step-ca.md");
    let block = page.split(opening).nth(1).and_then(|rest| rest.split("```").next());
    block.unwrap_or_default().to_owned()
}

/// What every CA of a [`Pki`] is made of.
pub(crate) fn ca_params(name: &str, path_len: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(path_len);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2046, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params
}

/// The public half as `step crypto jwk create` writes it: its id is the RFC 7638 thumbprint.
pub(crate) fn public_jwk(key: &KeyPair) -> serde_json::Value {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let spki = key.subject_public_key_info();
    let (x, y) = spki.split_at(spki.len() - 64).1.split_at(32);
    let (x, y) = (encode(x), encode(y));
    let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    let id = encode(&trust::digest::sha256(members.as_bytes()));
    serde_json::json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "use": "sig", "alg": "ES256" })
}
