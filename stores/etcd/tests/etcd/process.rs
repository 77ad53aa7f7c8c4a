//! Real members of etcd in processes of their own, and a PKI for them.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use stores_etcd::TlsFiles;

/// How often a member is asked whether it listens, and the pause between: half a minute, on a machine that is busy.
const LOOKS: u32 = 600;
const PAUSE: Duration = Duration::from_millis(50);

/// How a member is started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    arguments: Vec<String>,
}

/// A member that runs until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Etcd {
    home: tempfile::TempDir,
    address: SocketAddr,
    arguments: Vec<String>,
    child: Option<Child>,
}

/// A CA, with a certificate for members and one for a client below it.
#[derive(Debug)]
pub(crate) struct Pki {
    home: tempfile::TempDir,
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Setup {
    /// Without TLS.
    pub(crate) fn plain() -> Self {
        Self::default()
    }

    #[must_use]
    pub(crate) fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}

impl Etcd {
    /// One member alone, without TLS.
    pub(crate) fn start(setup: &Setup) -> anyhow::Result<Self> {
        let (address, peer) = (free()?, free()?);
        let mut arguments = urls("http", "m0", address, peer);
        arguments.push(format!("--initial-cluster=m0=http://{peer}"));
        arguments.extend(setup.arguments.clone());
        let mut etcd = Self { home: tempfile::tempdir()?, address, arguments, child: None };
        etcd.run()?;
        Ok(etcd)
    }

    /// Members that are one cluster, over mTLS.
    pub(crate) fn cluster(pki: &Pki, members: usize) -> anyhow::Result<Vec<Self>> {
        let mut places = Vec::new();
        for n in 0..members {
            places.push((format!("m{n}"), free()?, free()?));
        }
        let all: Vec<_> =
            places.iter().map(|(name, _, peer)| format!("{name}=https://{peer}")).collect();
        let mut cluster = Vec::new();
        for (name, address, peer) in places {
            let mut arguments = urls("https", &name, address, peer);
            arguments.push(format!("--initial-cluster={}", all.join(",")));
            for role in ["", "peer-"] {
                arguments.push(format!("--{role}cert-file={}", pki.path("server.pem").display()));
                arguments.push(format!("--{role}key-file={}", pki.path("server.key").display()));
                arguments.push(format!("--{role}trusted-ca-file={}", pki.path("ca.pem").display()));
                arguments.push(format!("--{role}client-cert-auth=true"));
            }
            let mut etcd = Self { home: tempfile::tempdir()?, address, arguments, child: None };
            etcd.spawn()?;
            cluster.push(etcd);
        }
        cluster.iter_mut().try_for_each(Self::wait_until_it_listens)?;
        Ok(cluster)
    }

    /// Starts it, also after a [`stop`](Self::stop).
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        self.spawn()?;
        self.wait_until_it_listens()
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let program = host::peers::binary("etcd", "etcd")?;
        let log = File::options().create(true).append(true).open(self.path("log"))?;
        let mut command = Command::new(program);
        command.arg(format!("--data-dir={}", self.path("data").display())).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("etcd does not start")?);
        Ok(())
    }

    fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        for _ in 0..LOOKS {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            let child = self.child.as_mut().context("etcd was not started")?;
            if let Some(status) = child.try_wait()? {
                bail!("etcd ended with {status}: {}", fs::read_to_string(self.path("log"))?);
            }
            std::thread::sleep(PAUSE);
        }
        bail!("etcd does not listen: {}", fs::read_to_string(self.path("log"))?)
    }

    /// Ends it without a word.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A path below its home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Asks its gateway of JSON.
    pub(crate) fn post(&self, path: &str, body: &str) -> anyhow::Result<String> {
        self.post_as(None, path, body)
    }

    /// The same, with the token of a user.
    pub(crate) fn post_as(
        &self,
        token: Option<&str>,
        path: &str,
        body: &str,
    ) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PAUSE * LOOKS))?;
        let authorization =
            token.map_or_else(String::new, |token| format!("authorization: {token}\r\n"));
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: etcd\r\nconnection: close\r\n{authorization}content-length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        Ok(answer)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn urls(scheme: &str, name: &str, address: SocketAddr, peer: SocketAddr) -> Vec<String> {
    vec![
        format!("--name={name}"),
        format!("--listen-client-urls={scheme}://{address}"),
        format!("--advertise-client-urls={scheme}://{address}"),
        format!("--listen-peer-urls={scheme}://{peer}"),
        format!("--initial-advertise-peer-urls={scheme}://{peer}"),
    ]
}

impl Pki {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two CAs of one name would be taken for one whose signature is wrong.
        let name = format!("etcd CA in {}", home.path().display());
        params.distinguished_name.push(DnType::CommonName, name);
        let ca = params.self_signed(&key)?;
        fs::write(home.path().join("ca.pem"), ca.pem())?;
        let issuer = Issuer::from_params(&params, &key);
        for name in ["server", "client"] {
            let key = KeyPair::generate()?;
            let mut params =
                CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
            // Members are clients of each other too.
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let certificate = params.signed_by(&key, &issuer)?;
            fs::write(home.path().join(format!("{name}.pem")), certificate.pem())?;
            fs::write(home.path().join(format!("{name}.key")), key.serialize_pem())?;
        }
        Ok(Self { home })
    }

    /// A path below its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What a client needs.
    pub(crate) fn client(&self) -> TlsFiles {
        self.with_client_of(self)
    }

    /// The same, with the certificate of another PKI.
    pub(crate) fn with_client_of(&self, other: &Self) -> TlsFiles {
        TlsFiles {
            ca: self.path("ca.pem"),
            cert: other.path("client.pem"),
            key: other.path("client.key"),
        }
    }
}
