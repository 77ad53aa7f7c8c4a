//! Work that may block, away from the threads that must not.

use super::BootError;

/// Runs what may block on a thread that may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BootError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| BootError::BrokeOff(error.to_string()))
}
