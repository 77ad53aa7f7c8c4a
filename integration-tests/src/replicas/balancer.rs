//! A TCP load balancer, as clients of the CSR API have one before them: each connection goes to the next server that takes it.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Begins to listen.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(servers: Vec<SocketAddr>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(keep(listener, servers)) })
    }

    /// Where to knock.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(listener: TcpListener, servers: Vec<SocketAddr>) {
    let mut connections = JoinSet::new();
    let mut turns = (0..servers.len()).cycle();
    while let Ok((inbound, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let first = turns.next().unwrap_or_default();
        let order: Vec<_> =
            servers.iter().cycle().skip(first).take(servers.len()).copied().collect();
        connections.spawn(pass(inbound, order));
    }
}

async fn pass(mut inbound: TcpStream, order: Vec<SocketAddr>) {
    for server in order {
        let Ok(mut outbound) = TcpStream::connect(server).await else { continue };
        // How a connection ends is for its two ends to judge.
        let _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound).await;
        return;
    }
}
