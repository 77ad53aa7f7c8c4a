//! What is known of other trust domains, and how ours is read by them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use trust::Bundle;

/// A bundle that is read so seldom at most has been read by everybody after this many times its refresh hint.
pub const HINTS_UNTIL_READ: u32 = 5;

/// What is known of other trust domains.
#[derive(Debug)]
pub struct Federated {
    /// Their bundles; `None` while they are not known, so that no agent is told that one is gone.
    pub bundles: watch::Receiver<Option<Arc<Vec<Bundle>>>>,
    /// What is wrong with them, by trust domain.
    pub troubles: watch::Receiver<BTreeMap<String, String>>,
    /// How often others shall read our bundle.
    pub refresh_hint: Duration,
    /// Where they do, at this server.
    pub endpoint: OnceLock<SocketAddr>,
    /// What is wrong with the certificate that is shown there.
    pub endpoint_trouble: watch::Receiver<Option<String>>,
}

impl Federated {
    /// Within which time everybody has read our bundle who keeps to its refresh hint.
    pub fn read_within(&self) -> Duration {
        self.refresh_hint * HINTS_UNTIL_READ
    }

    /// What is wrong, one sentence each.
    pub(crate) fn conditions(&self) -> Vec<String> {
        let troubles = self.troubles.borrow().values().cloned().collect::<Vec<_>>();
        troubles.into_iter().chain(self.endpoint_trouble.borrow().clone()).collect()
    }
}
