//! Members of etcd.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::pki::Pki;
use crate::process::{LOOKS, PAUSE, Process, free};

/// How a member is started.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    arguments: Vec<String>,
    is_over_tls: bool,
    /// What takes it into another network, and its addresses there.
    elsewhere: Option<(Vec<String>, [SocketAddr; 2])>,
}

/// A member that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Etcd(Process);

impl Setup {
    /// Without TLS.
    #[must_use]
    pub fn plain() -> Self {
        Self::default()
    }

    /// The same, with another argument of its command line.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The same over mTLS by a PKI.
    #[must_use]
    pub fn over_tls(mut self, pki: &Pki) -> Self {
        self.arguments.extend(tls_arguments(pki));
        self.is_over_tls = true;
        self
    }

    /// The same in another network: what stands before the program takes it there, and clients and members find it at these
    /// addresses.
    #[must_use]
    pub fn within(mut self, before: Vec<String>, client: SocketAddr, peer: SocketAddr) -> Self {
        self.elsewhere = Some((before, [client, peer]));
        self
    }
}

impl Etcd {
    /// One member alone.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(setup: &Setup) -> anyhow::Result<Self> {
        let (before, [address, peer]) = match &setup.elsewhere {
            Some((before, addresses)) => (before.clone(), *addresses),
            None => (Vec::new(), [free()?, free()?]),
        };
        let scheme = if setup.is_over_tls { "https" } else { "http" };
        let mut arguments = urls(scheme, "m0", address, peer);
        arguments.push(format!("--initial-cluster=m0={scheme}://{peer}"));
        arguments.extend(setup.arguments.clone());
        let mut etcd = Self::new(address, arguments)?;
        etcd.0.set_before(before);
        etcd.run()?;
        Ok(etcd)
    }

    /// Members that are one cluster, over mTLS by a PKI.
    ///
    /// # Errors
    /// If they cannot be started.
    pub fn cluster(pki: &Pki, members: usize) -> anyhow::Result<Vec<Self>> {
        Self::members("https", &tls_arguments(pki), members)
    }

    /// Members that are one cluster, without TLS.
    ///
    /// # Errors
    /// If they cannot be started.
    pub fn plain_cluster(members: usize) -> anyhow::Result<Vec<Self>> {
        Self::members("http", &[], members)
    }

    fn members(scheme: &str, tls: &[String], members: usize) -> anyhow::Result<Vec<Self>> {
        let mut places = Vec::new();
        for n in 0..members {
            places.push((format!("m{n}"), free()?, free()?));
        }
        let all: Vec<_> =
            places.iter().map(|(name, _, peer)| format!("{name}={scheme}://{peer}")).collect();
        let mut cluster = Vec::new();
        for (name, address, peer) in places {
            let mut arguments = urls(scheme, &name, address, peer);
            arguments.push(format!("--initial-cluster={}", all.join(",")));
            arguments.extend_from_slice(tls);
            let mut etcd = Self::new(address, arguments)?;
            etcd.0.spawn()?;
            cluster.push(etcd);
        }
        for member in &mut cluster {
            member.0.wait_until_it_listens()?;
        }
        Ok(cluster)
    }

    fn new(address: SocketAddr, mut arguments: Vec<String>) -> anyhow::Result<Self> {
        let mut process = Process::new("etcd", address)?;
        arguments.push(format!("--data-dir={}", process.path("data").display()));
        process.set_arguments(arguments);
        Ok(Self(process))
    }

    /// Starts it, also after a [`stop`](Self::stop).
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(&mut self) -> anyhow::Result<()> {
        self.0.spawn()?;
        self.0.wait_until_it_listens()
    }

    /// Ends it without a word.
    pub fn stop(&mut self) {
        self.0.stop();
    }

    /// Has it do nothing until [`resume`](Self::resume): its sockets stay open, and nobody answers.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.0.pause()
    }

    /// Ends a [`pause`](Self::pause).
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.0.resume()
    }

    /// Where clients find it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// A path below its home.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// Has it forget every revision before the present one.
    ///
    /// # Errors
    /// If it does not.
    pub fn compact(&self) -> anyhow::Result<()> {
        let revision = self.number("/v3/kv/range", "{\"key\":\"AA==\"}", "revision")?;
        let asked = format!("{{\"revision\":\"{revision}\",\"physical\":true}}");
        self.post("/v3/kv/compaction", &asked).map(drop)
    }

    /// A field of what a question gives: the first number that is called so.
    ///
    /// # Errors
    /// If there is none.
    pub fn number(&self, path: &str, body: &str, field: &str) -> anyhow::Result<String> {
        let answer = self.post(path, body)?;
        let number = answer.split(&format!("\"{field}\":\"")).nth(1);
        let number = number.and_then(|rest| rest.split('"').next());
        Ok(number.with_context(|| format!("{path} gives no {field}: {answer}"))?.to_owned())
    }

    /// Asks its gateway of JSON, where it has no TLS.
    ///
    /// # Errors
    /// If it is not done.
    pub fn post(&self, path: &str, body: &str) -> anyhow::Result<String> {
        self.post_as(None, path, body)
    }

    /// The same, with the token of a user.
    ///
    /// # Errors
    /// If it is not done.
    pub fn post_as(&self, token: Option<&str>, path: &str, body: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.address())?;
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

fn tls_arguments(pki: &Pki) -> Vec<String> {
    let mut tls = Vec::new();
    for role in ["", "peer-"] {
        tls.push(format!("--{role}cert-file={}", pki.path("server.pem").display()));
        tls.push(format!("--{role}key-file={}", pki.path("server.key").display()));
        tls.push(format!("--{role}trusted-ca-file={}", pki.path("ca.pem").display()));
        tls.push(format!("--{role}client-cert-auth=true"));
    }
    tls
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
