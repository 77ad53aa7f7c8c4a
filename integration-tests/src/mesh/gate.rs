//! A gate in front of a CA: shut, the CA is away for everybody who comes this way; stalled, it swallows everything.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Passes connections on while it is open. Shut, it cuts those that are there and lets none through. Stalled, connections stay
/// and come about, and no byte passes.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    state: watch::Sender<State>,
    target: watch::Sender<SocketAddr>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
    passing: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Shut,
    Stalled,
}

impl Gate {
    /// Opens a gate in front of an address.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, watched) = watch::channel(State::Open);
        let (target, targeted) = watch::channel(target);
        let arrivals = Arc::<Mutex<Vec<Instant>>>::default();
        let passing = Arc::<AtomicUsize>::default();
        let way = Way { target: targeted, state: watched, passing: Arc::clone(&passing) };
        let task = tokio::spawn(keep(listener, way, Arc::clone(&arrivals)));
        Ok(Self { address, state, target, arrivals, passing, task })
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
        self.state.send_replace(if open { State::Open } else { State::Shut });
    }

    /// From now on it swallows everything, as a way does whose far end froze or is cut off.
    pub fn stall(&self) {
        self.state.send_replace(State::Stalled);
    }

    /// Connections that pass now.
    pub fn passing(&self) -> usize {
        self.passing.load(Ordering::Relaxed)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What each connection needs to know.
#[derive(Clone)]
struct Way {
    target: watch::Receiver<SocketAddr>,
    state: watch::Receiver<State>,
    passing: Arc<AtomicUsize>,
}

async fn keep(listener: TcpListener, way: Way, arrivals: Arc<Mutex<Vec<Instant>>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((inbound, _)) = listener.accept().await else { return };
        arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        while connections.try_join_next().is_some() {}
        connections.spawn(pass(inbound, way.clone()));
    }
}

/// Counted while it lives.
struct Passing(Arc<AtomicUsize>);

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn pass(mut inbound: TcpStream, way: Way) {
    let Way { target, mut state, passing } = way;
    // One that comes while the way swallows everything waits for another state.
    let stays = state.wait_for(|state| *state != State::Stalled).await.map(|state| *state);
    if stays.ok() != Some(State::Open) {
        return;
    }
    let target = *target.borrow();
    let Ok(mut outbound) = TcpStream::connect(target).await else { return };
    passing.fetch_add(1, Ordering::Relaxed);
    let _counted = Passing(passing);
    let stalled = tokio::select! {
        // How a connection ends is for its two ends to judge.
        _ = tokio::io::copy_bidirectional(&mut inbound, &mut outbound) => return,
        changed = state.wait_for(|state| *state != State::Open) => {
            changed.is_ok_and(|state| *state == State::Stalled)
        }
    };
    if stalled {
        // What was under way is lost; both ends are held until the way is another.
        let _ = state.wait_for(|state| *state != State::Stalled).await;
    }
}
