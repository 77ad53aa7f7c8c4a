//! A program in a process of its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a program is asked whether it listens, and the pause between: half a minute, on a machine that is busy.
pub(crate) const LOOKS: u32 = 600;
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Ports that the system gives to nobody who did not ask for one, where it is set up as usual: one that is free stays so while
/// the process that shall have it is not there yet, or is started again.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
static NEXT: AtomicU16 = AtomicU16::new(0);

/// An address of this machine that nobody listens on, and that nobody else is given here.
///
/// # Errors
/// If there is none.
pub fn free() -> anyhow::Result<SocketAddr> {
    let ports = u32::from(PORTS.end - PORTS.start);
    // Other processes begin elsewhere.
    let first = std::process::id().wrapping_mul(389) % ports;
    for _ in 0..ports {
        let turn = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from((first + turn) % ports)?;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok(listener.local_addr()?);
        }
    }
    bail!("no free port on 127.0.0.1")
}

/// Runs until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    home: tempfile::TempDir,
    address: SocketAddr,
    arguments: Vec<String>,
    before: Vec<String>,
    child: Option<Child>,
}

impl Process {
    /// A program that is installed under its own name and does not run yet; its files go to a folder of its own.
    pub(crate) fn new(name: &'static str, address: SocketAddr) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        Ok(Self { name, home, address, arguments: Vec::new(), before: Vec::new(), child: None })
    }

    pub(crate) fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    pub(crate) fn add_arguments(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    }

    /// What stands before the program in the command line, such as what takes it into another network.
    pub(crate) fn set_before(&mut self, before: Vec<String>) {
        self.before = before;
    }

    /// A path below its home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn spawn(&mut self) -> anyhow::Result<()> {
        let program = host::peers::binary(self.name, self.name)?;
        let log = File::options().create(true).append(true).open(self.path("log"))?;
        let mut line = self.before.iter().map(OsString::from).chain([program.into_os_string()]);
        let mut command = Command::new(line.next().unwrap_or_default());
        command.args(line).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = command.spawn().with_context(|| format!("{} does not start", self.name));
        self.child = Some(started?);
        Ok(())
    }

    pub(crate) fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        for _ in 0..LOOKS {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            self.must_run()?;
            std::thread::sleep(PAUSE);
        }
        bail!("{} does not listen: {}", self.name, self.log())
    }

    /// That it did not end by itself.
    pub(crate) fn must_run(&mut self) -> anyhow::Result<()> {
        let child =
            self.child.as_mut().with_context(|| format!("{} was not started", self.name))?;
        match child.try_wait()? {
            Some(status) => bail!("{} ended with {status}: {}", self.name, self.log()),
            None => Ok(()),
        }
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Ends it without a word.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Has it do nothing until [`resume`](Self::resume): its sockets stay open, and nobody answers.
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        Ok(kill_process(Pid::from_child(child), signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
