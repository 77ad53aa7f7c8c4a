//! The store that several servers of the demo's CA share: a real etcd, of one member or of three.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::ports::free_address;

/// Longest wait until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);

/// An etcd. Dropping it ends it.
#[derive(Debug)]
pub struct Store {
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    client: SocketAddr,
    command: Vec<String>,
    log: PathBuf,
    /// None while it is killed.
    child: Option<Child>,
}

impl Store {
    /// Starts so many members, and waits until they answer.
    ///
    /// # Errors
    /// If there is no etcd, or it does not come up.
    pub async fn start(directory: &Path, members: usize) -> anyhow::Result<Self> {
        let binary = host::peers::binary("etcd", "etcd").map_err(|missing| anyhow!("{missing}"))?;
        let mut places = Vec::new();
        for number in 1..=members {
            places.push((format!("etcd-{number}"), free_address()?, free_address()?));
        }
        let cluster: Vec<_> =
            places.iter().map(|(name, _, peer)| format!("{name}=http://{peer}")).collect();
        let cluster = cluster.join(",");
        let mut started = Self { members: Vec::new() };
        for (name, client, peer) in places {
            let data = directory.join(&name);
            let command = [
                binary.display().to_string(),
                format!("--name={name}"),
                format!("--data-dir={}", data.display()),
                format!("--listen-client-urls=http://{client}"),
                format!("--advertise-client-urls=http://{client}"),
                format!("--listen-peer-urls=http://{peer}"),
                format!("--initial-advertise-peer-urls=http://{peer}"),
                format!("--initial-cluster={cluster}"),
                "--initial-cluster-state=new".to_owned(),
                "--log-level=warn".to_owned(),
            ];
            let log = directory.join(format!("{name}.log"));
            let mut member = Member { client, command: command.into(), log, child: None };
            member.spawn()?;
            started.members.push(member);
        }
        let ready = async {
            while started.leader().await.is_none() {
                tokio::time::sleep(POLL).await;
            }
        };
        let waited = tokio::time::timeout(READY_WITHIN, ready).await;
        waited
            .map_err(|_| anyhow!("etcd has no leader after {READY_WITHIN:?}; {}", started.log()))?;
        Ok(started)
    }

    /// Where its members answer.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.client).collect()
    }

    /// Number of writes that it has taken so far, its revision.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn revision(&self) -> anyhow::Result<u64> {
        let member = self.members.first().context("no member of etcd")?;
        let asked = tokio::time::timeout(ANSWER_WITHIN, member.status()).await??;
        let status: serde_json::Value = serde_json::from_str(&asked)?;
        let revision = status.pointer("/header/revision").and_then(serde_json::Value::as_str);
        Ok(revision.context("etcd tells no revision")?.parse()?)
    }

    /// Kills the member that leads with SIGKILL.
    ///
    /// # Errors
    /// If none leads, or it cannot be killed.
    pub async fn kill_leader(&mut self) -> anyhow::Result<()> {
        let place = self.leader().await.context("no member of etcd leads")?;
        let member = self.members.get_mut(place).context("no such member of etcd")?;
        let mut child = member.child.take().context("the leader of etcd is killed already")?;
        child.kill().await.context("cannot kill etcd")
    }

    /// Starts again what was killed.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        let killed = self.members.iter_mut().filter(|member| member.child.is_none());
        for member in killed {
            member.spawn()?;
        }
        Ok(())
    }

    /// The member that leads, by its own word.
    async fn leader(&self) -> Option<usize> {
        for (place, member) in self.members.iter().enumerate() {
            if member.child.is_some() && member.leads().await.unwrap_or(false) {
                return Some(place);
            }
        }
        None
    }

    fn log(&self) -> String {
        let logs = self.members.iter().map(|member| std::fs::read_to_string(&member.log));
        let logs: Vec<_> = logs.filter_map(Result::ok).collect();
        let lines: Vec<_> = logs.iter().flat_map(|log| log.lines()).collect();
        lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
    }
}

impl Member {
    fn spawn(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let (program, arguments) = self.command.split_first().context("no command")?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start etcd")?;
        self.child = Some(child);
        Ok(())
    }

    async fn leads(&self) -> anyhow::Result<bool> {
        let asked = tokio::time::timeout(ANSWER_WITHIN, self.status()).await??;
        let status: serde_json::Value = serde_json::from_str(&asked)?;
        let (leader, own) = (status.pointer("/leader"), status.pointer("/header/member_id"));
        Ok(leader.is_some_and(serde_json::Value::is_string) && leader == own)
    }

    /// What it says of itself, over its JSON gateway.
    async fn status(&self) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.client).await?;
        let request = format!(
            "POST /v3/maintenance/status HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}",
            self.client
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body_of(head, body)),
            _ => bail!("etcd answers {answer:?}"),
        }
    }
}

/// The body, with the lengths of chunks taken out.
fn body_of(head: &str, body: &str) -> String {
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    body.lines().filter(|line| u64::from_str_radix(line.trim(), 16).is_err()).collect()
}
