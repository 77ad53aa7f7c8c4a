//! A server process, as the other parts meet it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use control::ca::Ca;
use replicas::{Lost, Member};
use rotation::SegmentId;
use rotation_driver::DriverTask;
use stores::SharedStore;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::parts::Bent;
use crate::run::Broken;

/// A process that serves.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) ca: Arc<Ca>,
    pub(crate) segment: SegmentId,
    pub(crate) dead: Arc<AtomicBool>,
}

impl Process {
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// What an operator's word rests on here.
    pub(crate) fn source(&self, broken: Option<Broken>) -> Bent {
        Bent { reader: Arc::clone(&self.ca.evidence), broken }
    }
}

/// A process with all that runs for it.
pub(crate) struct Started {
    pub(crate) process: Arc<Process>,
    pub(crate) store: Arc<dyn SharedStore>,
    pub(crate) driver: DriverTask,
    pub(crate) member: Member,
    pub(crate) lost: watch::Receiver<Option<Lost>>,
    pub(crate) upkeep_ended: oneshot::Receiver<()>,
    pub(crate) upkeep_stop: CancellationToken,
}
