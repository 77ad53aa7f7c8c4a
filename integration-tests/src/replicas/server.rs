//! One of the servers: a process that is killed, stopped and started again on the same place.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use proto::banyan::admin::v1::admin_service_client::AdminServiceClient;
use proto::banyan::admin::v1::replica_service_client::ReplicaServiceClient;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{
    GetRotationRequest, ListReplicasRequest, ReadJournalRequest, Replica, Rotation, StatusRequest,
    StatusResponse,
};
use rotation::State;
use rustix::process::{Pid, Signal, kill_process};
use stores_peers::{Line, Relay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tonic::transport::Channel;

use super::hooks::Hooks;
use crate::mesh::{Gate, admin_channel};
use crate::support::{SOON, eventually};
use crate::tokens::TokenIssuer;

/// Length of a lease: the least that a configuration may say.
pub const LEASE: Duration = Duration::from_secs(5);
/// Longest wait for one answer of a server that may be paused.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);
/// Name of the program that is released.
const RELEASED: &str = "banyan";

/// Where a server is and what runs there.
#[derive(Debug)]
pub struct Server {
    pub(super) name: String,
    /// What stands before the program, if it is in another network.
    pub(super) before: Vec<String>,
    pub(super) programs: Programs,
    pub(super) home: PathBuf,
    pub(super) grpc: SocketAddr,
    pub(super) plain: SocketAddr,
    /// Its line to the store, unless a network has that.
    pub(super) line: Option<Relay>,
    /// The way from agents, unless a network has that.
    pub(super) way: Option<Gate>,
    pub(super) child: Option<Child>,
}

/// The programs of a test.
#[derive(Clone, Debug, Default)]
pub(super) struct Programs {
    /// `replica_under_test`, or `banyan` as it was released: that knows nothing of hooks.
    pub(super) server: PathBuf,
    /// `banyan_under_test`.
    pub(super) banyan: PathBuf,
}

impl Server {
    /// Its name among the servers.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the test slips into its process.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        Hooks::at(&self.home)
    }

    /// Where agents find it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.way.as_ref().map_or(self.grpc, Gate::address)
    }

    /// Its own address.
    #[must_use]
    pub const fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Where it answers `/readyz`.
    #[must_use]
    pub const fn plain(&self) -> SocketAddr {
        self.plain
    }

    /// The way from agents.
    ///
    /// # Errors
    /// If a network has it.
    pub fn way(&self) -> anyhow::Result<&Gate> {
        self.way.as_ref().context("the network has the way from agents")
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Where its files are.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The admin socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.home.join("admin.sock")
    }

    /// Another program for its next start: `replica_under_test`, or `banyan` as it was released.
    pub fn set_program(&mut self, program: &Path) {
        program.clone_into(&mut self.programs.server);
    }

    /// Starts the process; [`ready`](Self::ready) waits for it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.child = Some(self.process(&self.home, &self.home.join("ca.log"))?);
        Ok(())
    }

    /// A process of this server's program, on another place if that is wanted.
    pub(super) fn process(&self, home: &Path, log: &Path) -> anyhow::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut line: Vec<_> = self.before.iter().map(PathBuf::from).collect();
        line.push(self.programs.server.clone());
        let (first, rest) = line.split_first().context("no program")?;
        let mut command = Command::new(first);
        command.args(rest);
        match self.programs.server.file_name() == Some(RELEASED.as_ref()) {
            true => command.args(["serve", "--config"]).arg(home.join("banyan.toml")),
            false => command.arg(home),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.kill_on_drop(true).spawn().context("a server does not start")
    }

    /// Starts a second process under this server's name, on a place and ports of its own, and waits until it ends; answers with
    /// what it logged.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn a_second_one(&self) -> anyhow::Result<(ExitStatus, String)> {
        let home = self.home.with_extension("second");
        fs::create_dir_all(&home)?;
        let mut config = fs::read_to_string(self.home.join("banyan.toml"))?;
        for listens in ["grpc", "plain"] {
            let address = if listens == "grpc" { self.grpc } else { self.plain };
            let any = SocketAddr::new(address.ip(), 0);
            config = config
                .replace(&format!("{listens} = \"{address}\""), &format!("{listens} = \"{any}\""));
        }
        fs::write(home.join("banyan.toml"), config)?;
        fs::copy(self.home.join(TokenIssuer::KEY_SET_FILE), home.join(TokenIssuer::KEY_SET_FILE))?;
        let log = home.join("ca.log");
        let mut child = self.process(&home, &log)?;
        let ended = tokio::time::timeout(SOON, child.wait()).await.context("it does not end")??;
        Ok((ended, fs::read_to_string(log)?))
    }

    /// Whether `/readyz` answers 200.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn is_ready(&self) -> anyhow::Result<bool> {
        Ok(self.probed().await?.starts_with("HTTP/1.1 200"))
    }

    /// What `/readyz` answers.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn probed(&self) -> anyhow::Result<String> {
        let ask = async {
            let mut stream = TcpStream::connect(self.plain).await?;
            stream
                .write_all(b"GET /readyz HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n\r\n")
                .await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            anyhow::Ok(answer)
        };
        tokio::time::timeout(ANSWER_WITHIN, ask).await.context("no answer")?
    }

    /// Waits until a load balancer sends clients there. Something may be wrong with it all the same.
    ///
    /// # Errors
    /// If it does not.
    pub async fn until_ready(&self) -> anyhow::Result<()> {
        let ready = || async { self.is_ready().await.is_ok_and(|ready| ready) };
        eventually("a balancer sends clients there", ready).await
    }

    /// Waits until a load balancer sends nobody there.
    ///
    /// # Errors
    /// If it does.
    pub async fn until_not_ready(&self) -> anyhow::Result<()> {
        let not_ready = || async { self.is_ready().await.is_ok_and(|ready| !ready) };
        eventually("a balancer sends nobody there", not_ready).await
    }

    /// Waits until it serves and nothing is wrong with it.
    ///
    /// # Errors
    /// If it does not in time, or ends; the end of its log is part of the error.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let mut said = String::new();
        let ready = async {
            loop {
                self.must_run()?;
                match self.status().await {
                    Ok(status) if status.healthy => return anyhow::Ok(()),
                    Ok(status) => said = status.conditions.join("; "),
                    Err(error) => said = format!("{error:#}"),
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let ready = tokio::time::timeout(SOON, ready).await;
        let ready = ready.unwrap_or_else(|_| Err(anyhow::anyhow!("not ready in time")));
        ready.with_context(|| format!("{}: {said}; its log:\n{}", self.name, self.log_tail()))
    }

    fn must_run(&mut self) -> anyhow::Result<()> {
        match self.child.as_mut().context("it was not started")?.try_wait()? {
            Some(status) => bail!("it ended with {status}"),
            None => Ok(()),
        }
    }

    /// Whether a process runs that was started here, and did not end.
    pub fn is_running(&mut self) -> bool {
        self.must_run().is_ok()
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.take().context("it was not started")?.kill().await?)
    }

    /// Asks it to stop, and waits until it has in order.
    ///
    /// # Errors
    /// If it does not.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended().await?;
        ensure!(status.success(), "{}: {status}\n{}", self.name, self.log_tail());
        Ok(())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let mut child = self.child.take().context("it was not started")?;
        let ended = tokio::time::timeout(SOON, child.wait()).await;
        Ok(ended.with_context(|| format!("{} does not end", self.name))??)
    }

    /// SIGSTOP, or SIGCONT.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self, is_paused: bool) -> anyhow::Result<()> {
        self.signal(if is_paused { Signal::STOP } else { Signal::CONT })
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self.child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw).context("it does not run")?;
        Ok(kill_process(id, signal)?)
    }

    /// Changes the line to the store.
    ///
    /// # Errors
    /// If a network has it.
    pub async fn line(&self, line: Line) -> anyhow::Result<()> {
        self.line.as_ref().context("the network has the way to the store")?.set(line).await;
        Ok(())
    }

    /// How often it joined the servers of its CA.
    #[must_use]
    pub fn joined(&self) -> usize {
        let log = fs::read_to_string(self.home.join("ca.log")).unwrap_or_default();
        log.matches("joined the servers of this CA").count()
    }

    /// The end of what it logged.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.home.join("ca.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n")
    }

    /// Rotations, as operators ask for them.
    #[must_use]
    pub fn rotations(&self) -> RotationServiceClient<Channel> {
        RotationServiceClient::new(admin_channel(&self.socket()))
    }

    /// The operators' side.
    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(admin_channel(&self.socket()))
    }

    /// Servers, as operators ask for them.
    #[must_use]
    pub fn replicas(&self) -> ReplicaServiceClient<Channel> {
        ReplicaServiceClient::new(admin_channel(&self.socket()))
    }

    /// Its state.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn status(&self) -> anyhow::Result<StatusResponse> {
        let mut admin = self.admin();
        let asked = admin.status(StatusRequest {});
        Ok(tokio::time::timeout(ANSWER_WITHIN, asked).await.context("no answer")??.into_inner())
    }

    /// Where the rotation stands, as it sees it.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn rotation(&self) -> anyhow::Result<Rotation> {
        let mut rotations = self.rotations();
        let asked = rotations.get_rotation(GetRotationRequest {});
        Ok(tokio::time::timeout(ANSWER_WITHIN, asked).await.context("no answer")??.into_inner())
    }

    /// What it knows of a server.
    ///
    /// # Errors
    /// If it does not answer, or knows none of this name.
    pub async fn sees(&self, name: &str) -> anyhow::Result<Replica> {
        let listed = self.replicas().list_replicas(ListReplicasRequest {}).await?.into_inner();
        let mut all = listed.replicas.into_iter();
        all.find(|replica| replica.name == name).with_context(|| format!("no server {name}"))
    }

    /// Waits until its `status` says something.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn until_it_says(&self, words: &str) -> anyhow::Result<String> {
        self.until_it_says_of(words, "").await
    }

    /// The same of something that has these words too.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn until_it_says_of(&self, words: &str, too: &str) -> anyhow::Result<String> {
        let mut said = Vec::new();
        let says = async {
            loop {
                if let Ok(status) = self.status().await {
                    said = status.conditions;
                    let is_it = |one: &&String| one.contains(words) && one.contains(too);
                    if let Some(one) = said.iter().find(is_it) {
                        return one.clone();
                    }
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let says = tokio::time::timeout(SOON, says).await;
        says.map_err(|_| {
            anyhow::anyhow!("{} does not say {words:?} and {too:?} but {said:?}", self.name)
        })
    }

    /// Runs `banyan` against its admin socket; answers with what it prints, and whether it was done.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn banyan(&self, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
        let mut command = Command::new(&self.programs.banyan);
        command.args(arguments).arg("--socket").arg(self.socket()).stdin(Stdio::null());
        let output = tokio::time::timeout(SOON, command.output()).await??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.success(), text(&output.stdout) + &text(&output.stderr)))
    }

    /// `banyan` with its configuration, for what is done while it does not run.
    #[must_use]
    pub fn offline(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.banyan);
        command.args(arguments).arg("--config").arg(self.home.join("banyan.toml"));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// The record, once the journal has led to it.
    ///
    /// # Errors
    /// If it leads elsewhere.
    pub async fn verified(&self) -> anyhow::Result<State> {
        let (mut client, mut entries) = (self.rotations(), Vec::new());
        loop {
            let from = entries.last().map_or(0, |(index, _)| *index + 1);
            let asked = ReadJournalRequest { from, limit: 0 };
            let page = client.read_journal(asked).await?.into_inner();
            entries.extend(page.entries.into_iter().map(|entry| (entry.index, entry.entry)));
            if page.more {
                continue;
            }
            let record: State = serde_json::from_slice(&page.record)?;
            let replayed = rotation_driver::replay(record.trust_domain.clone(), &entries)?;
            // What came while it was read is in the entries and not in the record.
            if replayed.state.generation == record.generation {
                ensure!(replayed.state == record, "the journal leads to another record");
                return Ok(record);
            }
        }
    }
}
