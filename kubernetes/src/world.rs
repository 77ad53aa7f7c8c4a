//! What each part works with.

use std::sync::Arc;

use kube::Client;
use tokio_util::sync::CancellationToken;
use trust::Clock;

use crate::board::Board;
use crate::ca::Ca;
use crate::lead::Leading;
use crate::metrics::Metrics;

/// What each part works with.
#[derive(Clone)]
pub struct World {
    /// The CA.
    pub ca: Ca,
    /// The cluster.
    pub client: Client,
    /// Where each part says how it is: a part takes its line with [`Board::part`].
    pub board: Board,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Whether this process works. A part waits for that, and stops when it ends.
    pub leading: Leading,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Asks every part to end.
    pub stop: CancellationToken,
}
