//! One module a verb.

pub mod about;
pub mod agent;
pub mod authority;
pub mod ceremony;
pub mod clock;
pub mod config;
pub mod issue;
pub mod issuer;
pub mod journal;
pub mod leaf;
pub mod plugin;
pub mod root;
pub mod rotate;
pub mod serve;
pub mod state;
pub mod status;
pub mod subscriber;
pub mod tier;
pub mod token;

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
