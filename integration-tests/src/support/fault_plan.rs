//! What tests put into a server.

use std::path::Path;
use std::sync::Arc;

use ca_server::{Embedding, HostDeps};
use plugin_key_file::{FileKeysPlugin, KdfCost};
use plugins::Registry;
use rotation_driver::RecordStore;

use super::{AuthoritySwitch, RecordFaults};

/// Faults for a server; none by default.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// Fails writes of the record.
    pub record: RecordFaults,
    /// Stands in for the authority `self-signed`, which then works only while the switch lets it.
    pub authority: Option<AuthoritySwitch>,
}

/// A fault plan for one data directory.
#[derive(Debug)]
pub struct PlannedFaults {
    fault_plan: FaultPlan,
    keys: FileKeysPlugin,
}

impl FaultPlan {
    /// The fault plan of a server over a data directory.
    #[must_use]
    pub fn for_data_dir(&self, data: &Path, deps: &HostDeps) -> PlannedFaults {
        PlannedFaults {
            fault_plan: self.clone(),
            keys: FileKeysPlugin {
                directory: data.join("keys"),
                // Tests start servers by the hundred; a guess of this passphrase need not be dear.
                cost: KdfCost::LEAST,
                disk: Arc::clone(&deps.disk),
                randomness: Arc::clone(&deps.randomness),
            },
        }
    }
}

impl Embedding for PlannedFaults {
    fn plugins(&self, registry: &mut Registry) {
        registry.add_key_backend(self.keys.clone());
        if let Some(switch) = &self.fault_plan.authority {
            registry.add_authority(switch.clone());
        }
    }

    fn record(&self, store: Arc<dyn RecordStore>) -> Arc<dyn RecordStore> {
        self.fault_plan.record.before(store)
    }
}
