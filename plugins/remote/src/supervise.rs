//! A plugin's process: started by its pinned checksum, with an environment of its own, and again when it ends.

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use ring::digest;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::Process;

/// How long a process may take until it listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Wait before a process that ended is started again; doubles up to the longest.
const BACKOFF: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(30)];

/// Keeps one process up. It ends with the supervisor.
pub(crate) struct Supervisor {
    name: String,
    process: Process,
    socket: PathBuf,
    base: PathBuf,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    child: Option<Child>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Supervisor {
    pub(crate) fn new(name: String, process: Process, socket: PathBuf, base: PathBuf) -> Self {
        Self { name, process, socket, base, running: Mutex::default() }
    }

    /// Starts the process if it does not run, and waits until it listens. The error says what is wrong.
    pub(crate) async fn up(&self) -> Result<(), String> {
        let mut running = self.running.lock().await;
        if let Some(child) = running.child.as_mut() {
            match child.try_wait() {
                Ok(None) => return Ok(()),
                Ok(Some(status)) => self.ended(&mut running, &format!("it ended ({status})")),
                Err(error) => self.ended(&mut running, &error.to_string()),
            }
        }
        if let Some(at) = running.not_before.filter(|at| *at > Instant::now()) {
            let wait = at.saturating_duration_since(Instant::now());
            return Err(format!(
                "the plugin's process ended; it is started again in {} ms",
                wait.as_millis()
            ));
        }
        match self.start().await {
            Ok(child) => {
                tracing::info!(authority = self.name, pid = child.id(), "plugin started");
                running.child = Some(child);
                Ok(())
            }
            Err(why) => {
                self.ended(&mut running, &why);
                Err(why)
            }
        }
    }

    fn ended(&self, running: &mut Running, why: &str) {
        let [first, longest] = BACKOFF;
        let wait = first.saturating_mul(1 << running.failures.min(10)).min(longest);
        tracing::warn!(
            authority = self.name,
            why,
            wait_ms = wait.as_millis(),
            "the plugin's process is not up"
        );
        running.child = None;
        running.failures = running.failures.saturating_add(1);
        running.not_before = Some(Instant::now() + wait);
    }

    async fn start(&self) -> Result<Child, String> {
        self.check().await?;
        let Process { command, environment, .. } = &self.process;
        let (program, arguments) = command.split_first().ok_or("`command` is empty")?;
        // A socket of a process that is gone would be taken for a listening one.
        match tokio::fs::remove_file(&self.socket).await {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", self.socket.display())),
        }
        let mut start = Command::new(program);
        start
            .args(arguments)
            .env_clear()
            .envs(environment)
            .env("BANYAN_PLUGIN_SOCKET", &self.socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        if !self.base.as_os_str().is_empty() {
            start.current_dir(&self.base);
        }
        let mut child =
            start.spawn().map_err(|error| format!("cannot start {program}: {error}"))?;
        let listens = async {
            loop {
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(format!(
                        "{program} ended ({status}) before it listened; see its output above"
                    ));
                }
                if tokio::net::UnixStream::connect(&self.socket).await.is_ok() {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        let listens = tokio::time::timeout(LISTENS_WITHIN, listens).await;
        listens.unwrap_or_else(|_| {
            let within = LISTENS_WITHIN.as_secs();
            Err(format!("{program} does not listen on {} after {within} s", self.socket.display()))
        })?;
        Ok(child)
    }

    /// Refuses a program that is not the one that was pinned.
    async fn check(&self) -> Result<(), String> {
        let Some(pinned) = &self.process.sha256 else { return Ok(()) };
        let path = &self.process.checksum_of;
        let bytes =
            tokio::fs::read(path).await.map_err(|error| format!("{}: {error}", path.display()))?;
        let found: String = digest::digest(&digest::SHA256, &bytes)
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if found == *pinned {
            return Ok(());
        }
        Err(format!(
            "{} has the checksum {found}, not the pinned {pinned}; it is not started. If it was updated on purpose, pin the new one",
            path.display()
        ))
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("name", &self.name).finish_non_exhaustive()
    }
}
