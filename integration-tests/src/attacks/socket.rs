//! Attacks on an agent's socket by processes of other users, and a good process beside them. Needs root, and `python3`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use proto::banyan::admin::v1::CreateTokenRequest;
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::frames::{PREFACE, settings, stream_secrets};
use super::victim::{Files, Victim, cpu_of, files_of, memory_of};
use crate::mesh::{SOON, Subscriber, TRUST_DOMAIN, write_private};

/// User ids of attackers: one with a workload, and the first of those without.
const GREEDY: u32 = 61_001;
const UNTRUSTED: u32 = 61_011;
/// Streams that an attacker opens on each connection.
const STREAMS: u32 = 64;

/// What processes of other users do: connect as a user, send the bytes of standard input on every connection, and read what
/// comes. `again` opens each anew when it ends; `fork` makes each connection one of a process of its own. Says `ready` once all are open.
const ATTACKER: &str = r#"
import os, select, socket, sys
path, uid, many, uids, again, fork = sys.argv[1], *map(int, sys.argv[2:])
words = sys.stdin.buffer.read()

def opened():
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    try:
        s.sendall(words)
    except OSError:
        pass
    return s

def serve(count):
    calls = [opened() for _ in range(count)]
    os.write(1, b'ready\n')
    while calls or again:
        for s in select.select(calls, [], [])[0]:
            try:
                data = s.recv(65536)
            except OSError:
                data = b''
            if not data:
                calls.remove(s)
                s.close()
                if again:
                    calls.append(opened())
    while True:
        select.select([], [], [])

for number in range(many if fork else uids):
    if os.fork() == 0:
        os.setuid(uid + number % uids)
        serve(1 if fork else many)
os.wait()
"#;

/// An attack on an agent's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketAttack {
    /// One user with a workload: 17 connections, each full of streams.
    OneUser,
    /// Four users without a workload, which connect again and again.
    Untrusted,
    /// Processes of one user that hold secrets and sleep.
    Sleepers,
}

/// An agent in a process of its own, with workloads for this user and for an attacker.
#[derive(Debug)]
pub struct AgentVictim {
    _agent: Child,
    pid: u32,
    socket: PathBuf,
    _home: tempfile::TempDir,
    _ca: Victim,
}

/// Processes of other users; dropping it ends them.
#[derive(Debug)]
pub struct Intruders(Child);

impl SocketAttack {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OneUser, Self::Untrusted, Self::Sleepers];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneUser => "agent's socket: one user's streams",
            Self::Untrusted => "agent's socket: users without workload",
            Self::Sleepers => "agent's socket: sleeping processes",
        }
    }

    /// Connections that it has.
    pub const fn connections(self) -> usize {
        match self {
            Self::OneUser => 17,
            Self::Untrusted => 4 * 32,
            Self::Sleepers => 300,
        }
    }

    /// Begins it, and waits until all of its connections were opened once.
    ///
    /// # Errors
    /// When python3 does not run as another user.
    pub async fn begin(self, victim: &AgentVictim) -> anyhow::Result<Intruders> {
        let requests: Vec<u8> =
            (0..STREAMS).flat_map(|number| stream_secrets(number * 2 + 1, "default")).collect();
        let (uid, many, uids, again, fork, streams) = match self {
            Self::OneUser => (GREEDY, 17, 1, 0, 0, requests),
            Self::Untrusted => (UNTRUSTED, 32, 4, 1, 0, requests),
            Self::Sleepers => (GREEDY, 300, 1, 0, 1, stream_secrets(1, "default")),
        };
        let words = [PREFACE, &settings(1 << 20), &streams].concat();
        let numbers = [uid, many, uids, again, fork].map(|number: u32| number.to_string());
        let mut child = Command::new("python3")
            .args(["-c", ATTACKER])
            .arg(&victim.socket)
            .args(numbers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("python3 does not start: install python3")?;
        child.stdin.take().context("no standard input")?.write_all(&words).await?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let intruders = Intruders(child);
        let expected = if fork == 1 { many } else { uids };
        for _ in 0..expected {
            let line = tokio::time::timeout(SOON, lines.next_line())
                .await
                .context("the attackers do not come")??;
            ensure!(
                line.as_deref() == Some("ready"),
                "processes of other users do not run: run this as root"
            );
        }
        Ok(intruders)
    }
}

impl Drop for Intruders {
    fn drop(&mut self) {
        // The group of processes that this one began, and no others.
        let group = self
            .0
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

impl AgentVictim {
    /// Starts a CA and an agent of it: the programs `ca_under_test` and `banyan_under_test`.
    ///
    /// # Errors
    /// When one of them does not start.
    pub async fn start(server: &Path, banyan: &Path) -> anyhow::Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "processes of other users are needed: run this as root"
        );
        let ca = Victim::start(server, Files::AsHere, "").await?;
        let ids = ["own", "greedy"].map(|name| format!("spiffe://{TRUST_DOMAIN}/app/{name}"));
        let request = CreateTokenRequest {
            agent: "host".to_owned(),
            identities: ids.to_vec(),
            ttl_seconds: 0,
            ..CreateTokenRequest::default()
        };
        let token =
            AdminServiceClient::new(ca.admin()).create_token(request).await?.into_inner().token;
        let home = tempfile::tempdir()?;
        // Other users reach the socket.
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755))?;
        let at = |name: &str| home.path().join(name);
        write_private(&at("token"), &token)?;
        let (path, [own, greedy]) = (home.path().display(), ids);
        let config = format!(
            "trust_domain = \"{TRUST_DOMAIN}\"\nca_address = \"{}\"\nca_server_name = \"localhost\"\nstate_dir = \"{path}/state\"\n\
             socket = \"{path}/sds.sock\"\njoin_token_file = \"{path}/token\"\n\
             [[workload]]\nuid = 0\nspiffe_id = \"{own}\"\n[[workload]]\nuid = {GREEDY}\nspiffe_id = \"{greedy}\"\n",
            ca.grpc()
        );
        std::fs::write(at("agent.toml"), config)?;
        let agent = Command::new(banyan)
            .args(["agent", "--config"])
            .arg(at("agent.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (pid, socket) = (agent.id().context("no process")?, at("sds.sock"));
        let victim = Self { _agent: agent, pid, socket, _home: home, _ca: ca };
        let began = Instant::now();
        while victim.ask().await.is_err() {
            ensure!(began.elapsed() < SOON, "the agent serves no leaf in time");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(victim)
    }

    /// A good process connects and gets its leaf; answers how long it took.
    ///
    /// # Errors
    /// When it is not served.
    pub async fn ask(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let ask =
            async { anyhow::Ok(Subscriber::open(&self.socket, "default").await?.next().await??) };
        tokio::time::timeout(SOON, ask).await.context("a good process is not answered")??;
        Ok(began.elapsed())
    }

    /// Memory of its process, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> anyhow::Result<u64> {
        memory_of(self.pid)
    }

    /// Open files of its process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn files(&self) -> anyhow::Result<usize> {
        files_of(self.pid)
    }

    /// CPU time of its process so far.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(&self.pid.to_string())
    }
}
