//! Signals that ask a process to stop.

/// Waits until the process is asked to stop: SIGTERM or Ctrl-C.
///
/// # Errors
/// An I/O error if signals cannot be watched.
pub async fn stop_requested() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
