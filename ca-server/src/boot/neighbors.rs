//! Neighbors of the configuration, each with a task of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use api::Served;
use control::ca::Ca;
use control::further_roots::FurtherRoots;
use control::metered::Authorities;
use control::neighbors::NeighborTroubles;
use control::neighbors::keeper::Neighbor;
use tokio::sync::watch;

use crate::config::Config;

/// Keeps what neighbors say, and what they are told, until the server stops.
pub(super) fn keep(
    config: &Config,
    asked: &Authorities,
    ca: &Arc<Ca>,
    served: &Served,
    troubles: watch::Sender<NeighborTroubles>,
) {
    let troubles = Arc::new(troubles);
    for (name, authority) in asked {
        let Some(section) = config.neighbors().get(name) else { continue };
        let neighbor = Neighbor {
            name: name.clone(),
            authority: Arc::clone(authority),
            further: FurtherRoots {
                driver: ca.driver.clone(),
                clock: Arc::clone(&ca.clock),
                patience: ca.policy.settle.max(section.keep()),
                again: BTreeMap::new(),
                missing: Mutex::default(),
            },
            leave: section.leave(),
        };
        let keeping = neighbor.keep(Arc::clone(ca), Arc::clone(&troubles));
        served.tasks.spawn(served.stop.gently.clone().run_until_cancelled_owned(keeping));
    }
}
