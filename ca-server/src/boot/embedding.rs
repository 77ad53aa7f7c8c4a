//! What a program that embeds the server adds to it.

use std::sync::Arc;

use plugin_key_file::KdfCost;
use plugins::Registry;
use rotation_driver::{EvidenceSource, RecordStore};
use stores::SharedStore;

/// What a program that embeds the server adds to it. `banyan serve` adds nothing: `()` is that.
pub trait Embedding: Send + Sync {
    /// Lists further plugins. One with the name of a built-in stands in its place.
    fn plugins(&self, registry: &mut Registry) {
        let _ = registry;
    }

    /// What a guess of the passphrase of key files shall cost, where they are made.
    fn key_cost(&self) -> KdfCost {
        KdfCost::default()
    }

    /// Stands between the server and the state that all servers of its CA share. What is answered must keep the promises of
    /// [`SharedStore`].
    fn store(&self, store: Arc<dyn SharedStore>) -> Arc<dyn SharedStore> {
        store
    }

    /// Stands between the driver and the record. What is answered must keep the promises of
    /// [`RecordStore`].
    fn record(&self, store: Arc<dyn RecordStore>) -> Arc<dyn RecordStore> {
        store
    }

    /// Stands between the gates and what is known of the mesh. A rotation is as safe as this evidence is true.
    fn evidence(&self, source: Arc<dyn EvidenceSource>) -> Arc<dyn EvidenceSource> {
        source
    }
}

impl Embedding for () {}
