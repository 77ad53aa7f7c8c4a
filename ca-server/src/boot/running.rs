//! A server that runs, and how it ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::DirLock;
use rotation_driver::DriverTask;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use transport::accept::Stop;
use transport::unix::SocketFile;
use trust::{Bundle, SpiffeId};

use super::assemble::Assembled;
use crate::config::Config;
use api::{Served, ServerFront};
use control::ca::Ca;
use control::front::Front as _;

/// A running server. Dropping it leaves its tasks to the runtime; [`shutdown`](Self::shutdown) ends them in order.
#[derive(Debug)]
pub struct Running {
    /// Where gRPC over TLS is served.
    pub grpc_addr: SocketAddr,
    /// Where health and metrics are served.
    pub plain_addr: SocketAddr,
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
    pub(super) _admin_file: SocketFile,
    pub(super) _lock: DirLock,
}

/// Starts the task that keeps the server up, and says that it is ready.
pub(super) async fn run(
    config: &Config,
    assembled: Assembled,
    driver: DriverTask,
    lock: DirLock,
) -> Running {
    let Assembled { ca, served, upkeep, unstarted } = assembled;
    let Served { grpc_addr, plain_addr, admin_file, front, stop, tasks } = served;
    upkeep.read_key_sets().await;
    let upkeep_stop = CancellationToken::new();
    let unkept = upkeep_stop.clone().drop_guard();
    let upkeep = tokio::spawn(upkeep.run(upkeep_stop.clone()));
    front.set_ready(control::conditions::obstacles(&ca).is_empty()).await;
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
        _admin_file: admin_file,
        _lock: lock,
    };
    Running {
        grpc_addr,
        plain_addr,
        admin_socket: config.listen().admin_socket().to_owned(),
        parts,
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

    /// Ends the server: not ready any more, no new connections, time for what is under way, then the rest in order. What
    /// is still under way after `drain` is cut.
    pub async fn shutdown(self, drain: Duration) {
        let Parts { ca, stop, tasks, front, upkeep, upkeep_stop, driver, _admin_file, _lock } =
            self.parts;
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
        driver.stop().await;
        ca.ledger.shutdown().await;
        tracing::info!("the CA has stopped");
    }
}
