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
    dead: Arc<AtomicBool>,
    /// Its connections are cut: whatever is under way reaches nobody.
    cut: AtomicBool,
}

impl Process {
    pub(crate) fn new(ca: Arc<Ca>, segment: SegmentId, dead: Arc<AtomicBool>) -> Self {
        Self { ca, segment, dead, cut: AtomicBool::new(false) }
    }

    /// Whether nobody hears of it any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed) || self.cut.load(Ordering::Relaxed)
    }

    /// Cuts all connections, as a server does that stops.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
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
