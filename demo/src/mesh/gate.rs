//! A gate between an agent and the CA: shut, the CA is away for that agent alone.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Passes connections on while it is open; shut, it cuts those that are there and lets none through.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Gate {
    /// Opens a gate in front of an address.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn before(target: SocketAddr) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(("127.0.0.1", 0)).await.context("no free port for a gate")?;
        let address = listener.local_addr()?;
        let (open, watched) = watch::channel(true);
        Ok(Self { address, open, task: tokio::spawn(keep(listener, target, watched)) })
    }

    /// Where to connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens or shuts it.
    pub fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(listener: TcpListener, target: SocketAddr, open: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((inbound, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        connections.spawn(pass(inbound, target, open.clone()));
    }
}

async fn pass(mut inbound: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
    if !*open.borrow_and_update() {
        return;
    }
    let Ok(mut outbound) = TcpStream::connect(target).await else { return };
    tokio::select! {
        // How a connection ends is for its two ends to judge.
        _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound) => {}
        _ = open.wait_for(|open| !open) => {}
    }
}
