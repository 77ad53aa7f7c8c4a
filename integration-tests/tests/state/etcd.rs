//! A real etcd of one member, without TLS.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use integration_tests::faults::SOON;

/// A member that runs until it is dropped.
pub(crate) struct Etcd {
    home: tempfile::TempDir,
    address: SocketAddr,
    child: Child,
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Etcd {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let (home, address, peer) = (tempfile::tempdir()?, free()?, free()?);
        let program = host::peers::binary("etcd", "etcd")?;
        let log = std::fs::File::create(home.path().join("log"))?;
        let mut command = Command::new(program);
        command.arg(format!("--data-dir={}", home.path().join("data").display())).args([
            "--name=m0".to_owned(),
            format!("--listen-client-urls=http://{address}"),
            format!("--advertise-client-urls=http://{address}"),
            format!("--listen-peer-urls=http://{peer}"),
            format!("--initial-advertise-peer-urls=http://{peer}"),
            format!("--initial-cluster=m0=http://{peer}"),
        ]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("etcd does not start")?;
        let mut etcd = Self { home, address, child };
        let listens = async {
            while TcpStream::connect(etcd.address).is_err() {
                if let Some(status) = etcd.child.try_wait()? {
                    let log = std::fs::read_to_string(etcd.home.path().join("log"))?;
                    bail!("etcd ended with {status}: {log}");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        tokio::time::timeout(SOON, listens).await.context("etcd does not listen")??;
        Ok(etcd)
    }

    /// The section of the configuration that names it.
    pub(crate) fn section(&self) -> String {
        format!("[store]\nengine = \"etcd\"\nendpoints = [\"http://{}\"]\n", self.address)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
