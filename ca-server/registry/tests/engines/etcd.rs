//! One real member of etcd in a process of its own, without TLS.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// How often it is asked whether it listens, and the pause between: half a minute, on a machine that is busy.
const LOOKS: u32 = 600;
const PAUSE: Duration = Duration::from_millis(50);

/// A member that runs until it is stopped or dropped.
pub(crate) struct Etcd {
    home: tempfile::TempDir,
    address: SocketAddr,
    peer: SocketAddr,
    child: Option<Child>,
}

impl Etcd {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let free = || TcpListener::bind("127.0.0.1:0")?.local_addr();
        let (address, peer) = (free()?, free()?);
        let mut etcd = Self { home: tempfile::tempdir()?, address, peer, child: None };
        etcd.run()?;
        Ok(etcd)
    }

    /// Starts it, also after a [`stop`](Self::stop).
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let program = host::peers::binary("etcd", "etcd")?;
        let (Self { address, peer, .. }, path) = (&*self, self.home.path().join("log"));
        let log = File::options().create(true).append(true).open(&path)?;
        let mut command = Command::new(program);
        command.arg("--name=m0").arg(format!("--data-dir={}", self.home.path().display()));
        command.arg(format!("--listen-client-urls=http://{address}"));
        command.arg(format!("--advertise-client-urls=http://{address}"));
        command.arg(format!("--listen-peer-urls=http://{peer}"));
        command.arg(format!("--initial-advertise-peer-urls=http://{peer}"));
        command.arg(format!("--initial-cluster=m0=http://{peer}"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().context("etcd does not start")?;
        for _ in 0..LOOKS {
            if TcpStream::connect(self.address).is_ok() {
                self.child = Some(child);
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                bail!("etcd ended with {status}: {}", fs::read_to_string(&path)?);
            }
            std::thread::sleep(PAUSE);
        }
        // One that has ended already is as good.
        let _ = child.kill();
        bail!("etcd does not listen: {}", fs::read_to_string(&path)?)
    }

    /// Ends it without a word.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}
