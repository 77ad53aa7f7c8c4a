//! What is done to the server: one function for each attack, which is one connection of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::counts::Counts;
use super::frames::{PREFACE, get_bundle, ping, reply, settings, window_update};
use super::insider::Insider;
use super::victim::{DoorFuture, Victim};

/// Streams that a connection of [`Attack::ZeroWindow`] opens.
const STREAMS: u32 = 256;
/// Frames that a flood writes at once.
const AT_ONCE: usize = 500;
/// Bytes of the filler of a large header.
const FILLER: usize = 14 * 1024;
/// Threads of an assault.
const THREADS: usize = 2;
/// Largest window of HTTP/2.
const WINDOW: u32 = i32::MAX as u32;

/// An attack on the sockets of a CA: without any credential, but for the last three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// Requests whose answers are never taken, on connections that answer every PING.
    ZeroWindow,
    /// Connections that shake hands and say nothing.
    Idle,
    /// Connections that begin a handshake and do not go on.
    HalfOpen,
    /// PING without end.
    Pings,
    /// SETTINGS without end.
    Settings,
    /// WINDOW_UPDATE without end.
    WindowUpdates,
    /// Requests with headers of 14 KiB, as fast as they are read.
    LargeHeaders,
    /// Connections to the plain port that say nothing.
    PlainIdle,
    /// One JWT that registers agents with ever new keys.
    Registrations,
    /// One JWT that asks for leaves.
    Rows,
    /// One registered agent that says what a server would log.
    LogStorm,
}

/// An attack under way; dropping it ends it. It has threads of its own, as attackers have machines of their own: what it
/// computes stands in no queue of good clients.
#[derive(Debug)]
pub struct Assault {
    tasks: JoinSet<()>,
    counts: Arc<Counts>,
    /// There until it is dropped.
    threads: Option<Runtime>,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ZeroWindow,
        Self::Idle,
        Self::HalfOpen,
        Self::Pings,
        Self::Settings,
        Self::WindowUpdates,
        Self::LargeHeaders,
        Self::PlainIdle,
        Self::Registrations,
        Self::Rows,
        Self::LogStorm,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ZeroWindow => "answers not taken",
            Self::Idle => "idle connections",
            Self::HalfOpen => "half-open handshakes",
            Self::Pings => "PING flood",
            Self::Settings => "SETTINGS flood",
            Self::WindowUpdates => "WINDOW_UPDATE flood",
            Self::LargeHeaders => "headers of 14 KiB",
            Self::PlainIdle => "silent connections to the plain port",
            Self::Registrations => "registrations with one JWT",
            Self::Rows => "leaves with one JWT",
            Self::LogStorm => "log storm of one agent",
        }
    }

    /// Connections that it usually has.
    pub const fn connections(self) -> usize {
        match self {
            Self::ZeroWindow => 100,
            Self::Idle => 1_500,
            Self::HalfOpen => 1_000,
            Self::Pings | Self::Settings | Self::WindowUpdates | Self::LargeHeaders => 10,
            Self::Registrations | Self::Rows | Self::LogStorm => 10,
            Self::PlainIdle => 300,
        }
    }

    /// Begins it on so many connections. Each is opened once, or `again` whenever the server has ended it.
    ///
    /// # Errors
    /// When there are no threads for it.
    pub fn begin(self, victim: &Victim, connections: usize, again: bool) -> io::Result<Assault> {
        let threads = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
        let counts = Arc::<Counts>::default();
        let mut tasks = JoinSet::new();
        let insider = victim.insider();
        for _ in 0..connections {
            let (door, plain, grpc) = (victim.door(), victim.plain(), victim.grpc());
            let (counts, insider) = (Arc::clone(&counts), insider.clone());
            let attacking = async move {
                loop {
                    // However it ends, it has ended.
                    match self {
                        Self::Registrations | Self::Rows | Self::LogStorm => {
                            drop(self.by_insider(&insider, &counts).await);
                        }
                        _ => drop(self.connection(&door, grpc, plain, &counts).await),
                    }
                    counts.ended.fetch_add(1, Ordering::Relaxed);
                    if !again {
                        return;
                    }
                }
            };
            tasks.spawn_on(attacking, threads.handle());
        }
        Ok(Assault { tasks, counts, threads: Some(threads) })
    }

    /// One connection, until the server ends it.
    async fn connection(
        self,
        door: &(impl Fn() -> DoorFuture + Sync),
        grpc: SocketAddr,
        plain: SocketAddr,
        counts: &Counts,
    ) -> io::Result<()> {
        match self {
            Self::ZeroWindow => zero_window(door().await?).await,
            Self::Idle => silence(door().await?).await,
            Self::HalfOpen => {
                let mut stream = TcpStream::connect(grpc).await?;
                // The header of a record, and no hello.
                stream.write_all(&[0x16, 3, 1, 1, 0]).await?;
                silence(stream).await
            }
            Self::Pings => flood(door().await?, |_| ping(), counts).await,
            Self::Settings => flood(door().await?, |_| settings(WINDOW), counts).await,
            Self::WindowUpdates => flood(door().await?, |_| window_update(), counts).await,
            Self::LargeHeaders => {
                flood(door().await?, |number| get_bundle(number * 2 + 1, FILLER), counts).await
            }
            Self::PlainIdle => silence(TcpStream::connect(plain).await?).await,
            Self::Registrations | Self::Rows | Self::LogStorm => {
                Err(io::Error::other("needs a credential"))
            }
        }
    }

    /// One connection of somebody whom the server knows, until it ends.
    async fn by_insider(self, insider: &Insider, counts: &Counts) -> anyhow::Result<()> {
        match self {
            Self::Registrations => insider.registers(counts).await,
            Self::Rows => insider.asks(counts).await,
            _ => insider.storms(counts).await,
        }
    }
}

impl Assault {
    /// How many connections the server has ended.
    pub fn ended(&self) -> usize {
        self.counts.ended.load(Ordering::Relaxed)
    }

    /// How many bytes were taken from a flood, or messages.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::Relaxed)
    }

    /// How many requests of callers that are known were granted, and how many refused.
    pub fn answers(&self) -> (u64, u64) {
        (self.counts.granted.load(Ordering::Relaxed), self.counts.refused.load(Ordering::Relaxed))
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Drop for Assault {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

async fn silence(mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
    let mut heard = [0; 1024];
    while stream.read(&mut heard).await? > 0 {}
    Ok(())
}

async fn zero_window(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let requests: Vec<u8> = (0..STREAMS).flat_map(|number| get_bundle(number * 2 + 1, 0)).collect();
    stream.write_all(&[PREFACE, &settings(0), &requests].concat()).await?;
    loop {
        if let Some(answer) = reply(&mut stream).await? {
            stream.write_all(&answer).await?;
        }
    }
}

async fn flood(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    frame: impl Fn(u32) -> Vec<u8>,
    counts: &Counts,
) -> io::Result<()> {
    let (reader, mut writer) = tokio::io::split(stream);
    let write = async {
        writer.write_all(&[PREFACE, &settings(WINDOW)].concat()).await?;
        let mut number = 0;
        loop {
            let mut frames = Vec::new();
            for _ in 0..AT_ONCE {
                frames.extend(frame(number));
                number += 1;
                // Large ones are written one by one, so that what is counted was taken.
                if frames.len() > FILLER {
                    break;
                }
            }
            writer.write_all(&frames).await?;
            counts.taken(u64::try_from(frames.len()).unwrap_or_default());
        }
    };
    tokio::select! {
        written = write => written,
        heard = silence(reader) => heard,
    }
}
