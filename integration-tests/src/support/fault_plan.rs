//! What tests put into a server.

use std::sync::Arc;

use ca_server::Embedding;
use plugin_key_file::KdfCost;
use plugins::Registry;
use rotation_driver::RecordStore;
use stores::SharedStore;

use super::{AuthoritySwitch, RecordFaults, Window};

/// Faults for a server; none by default.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// Fails writes of the record.
    pub record: RecordFaults,
    /// Stands in for the authority `self-signed`, which then works only while the switch lets it.
    pub authority: Option<AuthoritySwitch>,
    /// Shows the shared state of the server.
    pub window: Window,
}

impl Embedding for FaultPlan {
    fn plugins(&self, registry: &mut Registry) {
        if let Some(switch) = &self.authority {
            registry.add_authority(switch.clone());
        }
    }

    /// Tests start servers by the hundred; a guess of this passphrase need not be dear.
    fn key_cost(&self) -> KdfCost {
        KdfCost::LEAST
    }

    fn store(&self, store: Arc<dyn SharedStore>) -> Arc<dyn SharedStore> {
        self.window.open_on(&store);
        store
    }

    fn record(&self, store: Arc<dyn RecordStore>) -> Arc<dyn RecordStore> {
        self.record.before(store)
    }
}
