//! A server that runs, and how it ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::DirLock;
use replicas::Lost;
use rotation::{SegmentId, State};
use rotation_driver::DriverTask;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transport::accept::Stop;
use transport::unix::SocketFile;
use trust::{Bundle, SpiffeId};

use super::assemble::Assembled;
use super::joined::Joined;
use super::open::CoreServices;
use crate::config::Config;
use api::{Served, ServerFront};
use control::ca::Ca;
use control::front::Front as _;
use control::reporting;

/// Why a server can serve no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// It is no replica of its CA any more.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// It was away for so long that every leaf it may have released has ended, and the others went on without it. It goes on by
    /// starting anew.
    #[error("this server was away until its last leaf had ended: it starts anew")]
    SegmentClosed,
}

/// A running server. Dropping it leaves its tasks to the runtime; [`shutdown`](Self::shutdown) ends them in order.
#[derive(Debug)]
pub struct Running {
    /// Where gRPC over TLS is served.
    pub grpc_addr: SocketAddr,
    /// Where health and metrics are served.
    pub plain_addr: SocketAddr,
    /// Where the bundle is served to other trust domains.
    pub bundle_addr: Option<SocketAddr>,
    /// The socket of the admin API.
    pub admin_socket: PathBuf,
    pub(super) parts: Parts,
}

#[derive(Debug)]
pub(super) struct Parts {
    pub(super) ca: Arc<Ca>,
    pub(super) stop: Stop,
    pub(super) tasks: TaskTracker,
    pub(super) front: ServerFront,
    pub(super) upkeep: JoinHandle<()>,
    pub(super) upkeep_stop: CancellationToken,
    pub(super) driver: DriverTask,
    pub(super) joined: Joined,
    pub(super) segment: SegmentId,
    pub(super) _admin_file: SocketFile,
    pub(super) _lock: DirLock,
}

/// Starts the task that keeps the server up, and says that it is ready.
pub(super) async fn run(
    config: &Config,
    assembled: Assembled,
    core: CoreServices,
    lock: DirLock,
) -> Running {
    let Assembled { ca, served, upkeep, unstarted, segment } = assembled;
    let CoreServices { task: driver, joined, .. } = core;
    let Served { grpc_addr, plain_addr, bundle_addr, admin_file, front, stop, tasks } = served;
    upkeep.read_key_sets().await;
    let upkeep_stop = CancellationToken::new();
    let unkept = upkeep_stop.clone().drop_guard();
    let upkeep = tokio::spawn(upkeep.run(upkeep_stop.clone()));
    front.set_ready(control::conditions::obstacles(&ca).is_empty()).await;
    joined.serves(&segment).await;
    tracing::info!(%grpc_addr, %plain_addr, id = %ca.id, "the CA serves");
    unkept.disarm();
    unstarted.disarm();
    let parts = Parts {
        ca,
        stop,
        tasks,
        front,
        upkeep,
        upkeep_stop,
        driver,
        joined,
        segment,
        _admin_file: admin_file,
        _lock: lock,
    };
    Running {
        grpc_addr,
        plain_addr,
        bundle_addr,
        admin_socket: config.listen().admin_socket().to_owned(),
        parts,
    }
}

/// Waits until this server is no replica any more.
async fn gone(lost: &mut watch::Receiver<Option<Lost>>) -> Ended {
    let found = lost.wait_for(Option::is_some).await.ok().and_then(|lost| lost.clone());
    match found {
        Some(lost) => Ended::Lost(lost),
        None => std::future::pending().await,
    }
}

impl Running {
    /// The bundle in force.
    pub fn bundle(&self) -> Bundle {
        self.parts.ca.cell.load().bundle().clone()
    }

    /// The id of this replica, as its own certificate names it.
    pub fn id(&self) -> &SpiffeId {
        &self.parts.ca.id
    }

    /// Waits until this server can serve no more; for ever while all is well. It is to be [shut down](Self::shutdown) then.
    pub async fn ended(&self) -> Ended {
        let mut lost = self.parts.joined.lost.clone();
        let mut changes = self.parts.ca.driver.changes();
        let segment = &self.parts.segment;
        // What was seen is let go at once: the driver waits for whoever holds it.
        let closed = async {
            let is_closed = |state: &Arc<State>| {
                state.segments.get(segment).is_none_or(rotation::Segment::is_closed)
            };
            let state = changes.wait_for(is_closed).await.ok()?;
            Some(state.segments.get(segment).and_then(rotation::Segment::last_bound))
        };
        tokio::select! {
            ended = gone(&mut lost) => ended,
            Some(bound) = closed => {
                let (ca, joined) = (&self.parts.ca, &self.parts.joined);
                // Before its last leaf has ended nobody closes it but who takes this server out for good; that shows next.
                let is_removed = bound.is_some_and(|bound| ca.clock.now() < bound);
                let most = if is_removed { joined.notices_within() } else { Duration::ZERO };
                let lost = tokio::time::timeout(most, gone(&mut lost)).await;
                lost.unwrap_or(Ended::SegmentClosed)
            }
            else => std::future::pending().await,
        }
    }

    /// Sends agents and other clients elsewhere, spread over this time, and serves on
    /// ([`ServerFront::drain`](api::ServerFront::drain)).
    pub fn drain(&self, spread: Duration) {
        self.parts.front.drain(spread);
    }

    /// Ends the server: not ready any more, no new connections, time for what is under way, then the rest in order. What
    /// is still under way after `drain` is cut.
    pub async fn shutdown(self, drain: Duration) {
        let Parts { ca, stop, tasks, front, upkeep, upkeep_stop, driver, .. } = self.parts;
        let Parts { joined, segment, _admin_file, _lock, .. } = self.parts;
        // First, for it would call the server ready again.
        upkeep_stop.cancel();
        if let Err(error) = upkeep.await {
            tracing::error!(%error, "the upkeep task broke off");
        }
        front.set_ready(false).await;
        stop.gently.cancel();
        tasks.close();
        if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
            tracing::warn!(
                connections = tasks.len(),
                "cutting connections that did not end in time"
            );
            stop.now.cancel();
            tasks.wait().await;
        }
        if joined.is_shared() {
            reporting::last(&ca, joined.store(), &segment).await;
        }
        driver.stop().await;
        ca.ledger.shutdown().await;
        joined.leave().await;
        tracing::info!("the CA has stopped");
    }
}
