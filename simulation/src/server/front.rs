//! The front of a simulated server: there are no sockets, and its own leaf is shown to nobody.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use control::front::{Front as Port, NotServed, ServerIdentity};

/// The front of a process.
#[derive(Debug, Default)]
pub(crate) struct Front {
    ready: AtomicBool,
}

#[async_trait]
impl Port for Front {
    fn serve_as(&self, _: ServerIdentity) -> Result<(), NotServed> {
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    async fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }
}
