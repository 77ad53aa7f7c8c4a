//! What the Envoys of this machine say at their admin endpoints: how many handshakes they count, and where they listen.
//!
//! An admin endpoint is believed about numbers and addresses only: who answers at an address a handshake shows. What it answers is bounded
//! in time and size. Start at [`Admin`].

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trust::Clock;

use crate::config::AgentConfig;
use crate::hub::HubHandle;
use crate::probed::{Found, Wanted};

mod dump;
mod finder;
mod get;
mod listened;
mod reader;
mod statistics;

use finder::Finder;
use reader::AdminReader;

/// Both tasks that ask.
#[derive(Debug)]
pub(crate) struct Admin {
    reader: AdminReader,
    finder: Finder,
}

impl Admin {
    /// The tasks, and where Envoys listen as far as they know it.
    pub(crate) fn new(
        config: &Arc<AgentConfig>,
        clock: &Arc<dyn Clock>,
        hub: &HubHandle,
        wanted: watch::Receiver<Option<Wanted>>,
    ) -> (Self, watch::Receiver<Found>) {
        let (found, known) = watch::channel(Found::new());
        let (config, hub) = (Arc::clone(config), hub.clone());
        let finder = Finder { config: Arc::clone(&config), hub: hub.clone(), wanted, found };
        let reader = AdminReader { config, clock: Arc::clone(clock), hub };
        (Self { reader, finder }, known)
    }

    /// Runs until cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::join!(self.reader.run(stop.clone()), self.finder.run(stop));
    }
}
