//! What comes of an attack, in numbers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tonic::{Code, Status};

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) ended: AtomicUsize,
    pub(super) bytes: AtomicU64,
    pub(super) granted: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Counts {
    /// Counts an answer; an error of the connection ends it.
    pub(super) fn answered(&self, answer: Result<(), Status>) -> anyhow::Result<()> {
        match answer {
            Ok(()) => _ = self.granted.fetch_add(1, Ordering::Relaxed),
            Err(status) if is_refusal(&status) => _ = self.refused.fetch_add(1, Ordering::Relaxed),
            Err(status) => return Err(status.into()),
        }
        Ok(())
    }

    /// Counts what was taken from a flood.
    pub(super) fn taken(&self, many: u64) {
        self.bytes.fetch_add(many, Ordering::Relaxed);
    }
}

/// Whether the server refused, on a connection that goes on.
fn is_refusal(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
    )
}
