//! The accept loop of every listener.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::crowd::{Crowd, Place};

/// How long the loop rests after an error of `accept`, such as "too many open files": long enough for connections to
/// end, short enough that nobody notices.
const REST_AFTER_ERROR: Duration = Duration::from_millis(100);

/// Something that accepts connections.
pub trait Listener: Send + 'static {
    /// A connection, not yet served.
    type Stream: Send + 'static;
    /// Waits for the next connection.
    fn accept(&self)
    -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    async fn accept(&self) -> io::Result<(TcpStream, Option<SocketAddr>)> {
        let (stream, addr) = Self::accept(self).await?;
        // It fails when the client is gone already, which serving it will show.
        let _ = stream.set_nodelay(true);
        Ok((stream, Some(addr)))
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    async fn accept(&self) -> io::Result<(UnixStream, Option<SocketAddr>)> {
        Ok((Self::accept(self).await?.0, None))
    }
}

/// What ends the connections of one server, in two steps.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// No more connections; those there are finish their requests and end.
    pub gently: CancellationToken,
    /// Everything ends now.
    pub now: CancellationToken,
}

/// Accepts until told to stop, and gives each connection to `serve` in a task of `tasks`.
///
/// The crowd says how many are served at a time, and who goes when all places are taken; the next waits in the kernel's
/// queue for that moment. The permit travels with the task.
pub async fn run<L, F>(
    listener: L,
    crowd: Arc<Crowd>,
    stop: Stop,
    tasks: TaskTracker,
    serve: impl Fn(L::Stream, Option<SocketAddr>, Place) -> F,
) where
    L: Listener,
    F: Future<Output = ()> + Send + 'static,
{
    let free = Arc::new(Semaphore::new(crowd.places()));
    tasks.spawn(Arc::clone(&crowd).watch());
    loop {
        let Some(permit) = until(&stop, permit(&free, &crowd)).await else { return };
        let Some(accepted) = until(&stop, listener.accept()).await else { return };
        match accepted {
            Ok((stream, addr)) => {
                let Some(place) = crowd.admit(addr) else { continue };
                let (conduct, now) = (Arc::clone(place.conduct()), stop.now.clone());
                let connection = serve(stream, addr, place);
                tasks.spawn(async move {
                    // One that was cut does nothing more: what it was sent may be much work, and more to keep.
                    tokio::select! {
                        biased;
                        () = now.cancelled() => {}
                        () = conduct.is_cut() => tracing::debug!(?addr, why = ?conduct.cut_for(), "connection cut"),
                        () = connection => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                drop(permit);
                tokio::time::sleep(REST_AFTER_ERROR).await;
            }
        }
    }
}

async fn permit(free: &Arc<Semaphore>, crowd: &Crowd) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = Arc::clone(free).try_acquire_owned() {
        return Some(permit);
    }
    crowd.make_room();
    // The semaphore is never closed, so there is always a permit in the end.
    let permit = Arc::clone(free).acquire_owned().await.ok();
    crowd.found_room();
    permit
}

async fn until<T>(stop: &Stop, work: impl Future<Output = T>) -> Option<T> {
    stop.gently.run_until_cancelled(work).await
}
