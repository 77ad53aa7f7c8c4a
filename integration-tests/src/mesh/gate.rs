//! A gate in front of a CA: shut, the CA is away for everybody who comes this way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Passes connections on while it is open. Shut, it cuts those that are there and lets none through.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
    target: watch::Sender<SocketAddr>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Gate {
    /// Opens a gate in front of an address.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, watched) = watch::channel(true);
        let (target, targeted) = watch::channel(target);
        let arrivals = Arc::<Mutex<Vec<Instant>>>::default();
        let task = tokio::spawn(keep(listener, targeted, watched, Arc::clone(&arrivals)));
        Ok(Self { address, open, target, arrivals, task })
    }

    /// Where to knock.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads to another address from the next connection on, as after a restart of what stands behind it.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// When each connection came, in their order.
    pub fn arrivals(&self) -> Vec<Instant> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

async fn keep(
    listener: TcpListener,
    target: watch::Receiver<SocketAddr>,
    open: watch::Receiver<bool>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((inbound, _)) = listener.accept().await else { return };
        arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        while connections.try_join_next().is_some() {}
        let target = *target.borrow();
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
