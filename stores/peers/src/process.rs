//! A program in a process of its own.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a program is asked whether it listens, and the pause between: half a minute, on a machine that is busy.
pub(crate) const LOOKS: u32 = 600;
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// An address that nobody listens on.
pub(crate) fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Runs until it is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    home: tempfile::TempDir,
    address: SocketAddr,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Process {
    /// A program that is installed under its own name and does not run yet; its files go to a folder of its own.
    pub(crate) fn new(name: &'static str, address: SocketAddr) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        Ok(Self { name, home, address, arguments: Vec::new(), child: None })
    }

    pub(crate) fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
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
        let mut command = Command::new(program);
        command.args(&self.arguments);
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
