//! A CA in a process of its own, which can be killed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{CaDir, Door};
use crate::support::SOON;

/// A server in a child process, killed when dropped.
#[derive(Debug)]
pub struct ChildCa {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    socket: std::path::PathBuf,
}

impl ChildCa {
    /// Starts the program on the directory of a CA; [`Self::ready`] waits for it.
    ///
    /// # Errors
    /// When the program does not start.
    pub fn spawn(program: &Path, ca_dir: &CaDir) -> anyhow::Result<Self> {
        // A write beyond the limit of a file's size is then an error and no signal.
        let mut child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(program)
            .arg(ca_dir.config_path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("no standard output")?;
        let socket = ca_dir.config()?.listen().admin_socket().to_owned();
        Ok(Self { child, lines: BufReader::new(stdout).lines(), socket })
    }

    /// Waits until it serves; answers with its addresses.
    ///
    /// # Errors
    /// What it said when it did not start.
    pub async fn ready(&mut self) -> anyhow::Result<(SocketAddr, SocketAddr)> {
        let line = tokio::time::timeout(SOON, self.lines.next_line())
            .await
            .context("not ready in time")??;
        let Some(line) = line else { bail!("it did not start: {}", self.last_words().await?) };
        let (grpc, plain) = line.split_once(' ').context("an odd line")?;
        Ok((grpc.parse()?, plain.parse()?))
    }

    /// Waits until it serves, and opens a door to it.
    ///
    /// # Errors
    /// As [`ready`](Self::ready), and when its roots cannot be had.
    pub async fn door(&mut self) -> anyhow::Result<Door> {
        let (grpc, plain) = self.ready().await?;
        let door = Door::at(grpc, plain, self.socket.clone());
        door.trust_listed().await?;
        Ok(door)
    }

    /// Reads what it says on standard error from now on, and counts its bytes.
    ///
    /// # Errors
    /// When somebody reads it already.
    pub fn drain_stderr(&mut self) -> anyhow::Result<Arc<AtomicU64>> {
        let mut stderr = self.child.stderr.take().context("standard error is read already")?;
        let bytes = Arc::<AtomicU64>::default();
        let counting = Arc::clone(&bytes);
        tokio::spawn(async move {
            let mut piece = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = stderr.read(&mut piece).await {
                counting.fetch_add(u64::try_from(read).unwrap_or_default(), Ordering::Relaxed);
            }
        });
        Ok(bytes)
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// As the operating system says.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Waits until it ends by itself; answers with its status and what it said on standard error.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let words = self.last_words().await?;
        let status =
            tokio::time::timeout(SOON, self.child.wait()).await.context("it does not end")??;
        Ok((status, words))
    }

    /// Makes every write of it to a file fail, or lets them through again.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn refuse_writes(&self, refuse: bool) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let limit = Rlimit { current: refuse.then_some(0), maximum: None };
        prlimit(Some(pid.context("it has ended")?), Resource::Fsize, limit)?;
        Ok(())
    }

    async fn last_words(&mut self) -> anyhow::Result<String> {
        let mut stderr = self.child.stderr.take().context("standard error was read")?;
        let mut words = String::new();
        tokio::time::timeout(SOON, stderr.read_to_string(&mut words))
            .await
            .context("it does not end")??;
        Ok(words)
    }
}
