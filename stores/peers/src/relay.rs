//! What lies between a client and an engine: a relay that can break, or swallow what comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Pieces of answers that are held at a time.
const HELD_MAX: usize = 1_024;

/// How a relay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// It passes everything on.
    Up,
    /// Connections break, and new ones end at once.
    Cut,
    /// What comes back is swallowed.
    AnswersLost,
    /// What comes back is held for so long.
    Slow(Duration),
}

impl Line {
    const fn delay(self) -> Duration {
        match self {
            Self::Slow(delay) => delay,
            Self::Up | Self::Cut | Self::AnswersLost => Duration::ZERO,
        }
    }
}

/// What comes back, and when it is passed on.
struct Held {
    at: Instant,
    bytes: Vec<u8>,
}

/// Passes connections on to one address, as long as the runtime lasts.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    line: watch::Sender<Line>,
    connections: watch::Sender<u32>,
    passed: Arc<AtomicU64>,
}

/// Counts one connection while it is there.
struct Counted(watch::Sender<u32>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|now| *now -= 1);
    }
}

impl Relay {
    /// Begins to listen, on a port that the system chooses.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn start(to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (line, watched) = watch::channel(Line::Up);
        let (connections, _) = watch::channel(0);
        let counts = connections.clone();
        let passed = Arc::<AtomicU64>::default();
        let sum = Arc::clone(&passed);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                counts.send_modify(|now| *now += 1);
                let (counted, watched) = (Counted(counts.clone()), watched.clone());
                let sum = Arc::clone(&sum);
                tokio::spawn(async move {
                    relayed(near, to, watched, sum).await;
                    drop(counted);
                });
            }
        });
        Ok(Self { address, line, connections, passed })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that were passed on so far, there and back.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Changes the line. When it is cut no connection is left on return.
    pub async fn set(&self, line: Line) {
        self.line.send_replace(line);
        if line == Line::Cut {
            let mut connections = self.connections.subscribe();
            // It ends early only when this relay, which holds the sender, is gone.
            let _ = connections.wait_for(|now| *now == 0).await;
        }
    }
}

async fn relayed(
    near: TcpStream,
    to: SocketAddr,
    line: watch::Receiver<Line>,
    passed: Arc<AtomicU64>,
) -> Option<()> {
    let count = |bytes: usize| {
        passed.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    };
    if *line.borrow() == Line::Cut {
        return None;
    }
    let far = TcpStream::connect(to).await.ok()?;
    near.set_nodelay(true).ok()?;
    far.set_nodelay(true).ok()?;
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let mut cut = line.clone();
    let there = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(bytes @ 1..) = near_in.read(&mut buffer).await {
            count(bytes);
            let sent = far_out.write_all(buffer.get(..bytes).unwrap_or_default()).await;
            if sent.is_err() {
                return;
            }
        }
    };
    let (hold, mut held) = mpsc::channel::<Held>(HELD_MAX);
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        // Once an answer was swallowed the connection is good for nothing more.
        let mut swallowed = false;
        while let Ok(bytes @ 1..) = far_in.read(&mut buffer).await {
            let now = *line.borrow();
            swallowed |= now == Line::AnswersLost;
            let bytes = buffer.get(..bytes).unwrap_or_default().to_vec();
            let at = Instant::now() + now.delay();
            if !swallowed && hold.send(Held { at, bytes }).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some(Held { at, bytes }) = held.recv().await {
            tokio::time::sleep_until(at).await;
            count(bytes.len());
            if near_out.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        tokio::join!(read, write);
    };
    tokio::select! {
        biased;
        _ = cut.wait_for(|line| *line == Line::Cut) => {}
        () = there => {}
        () = back => {}
    }
    Some(())
}
