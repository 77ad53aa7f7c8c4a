//! The roots of a workload that reads them from a file, as one does whose agent is not asked about trust.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::held::Held;

/// How often the file is looked at.
const EVERY: Duration = Duration::from_millis(100);

/// Trusts what the file says, from the moment on that it says something else.
pub(super) async fn follow(file: PathBuf, held: Arc<Held>) {
    let mut last = Vec::new();
    loop {
        match tokio::fs::read(&file).await {
            Ok(roots) if roots != last => {
                if let Err(error) = held.put_roots(&roots).and_then(|()| held.rebuild()) {
                    tracing::debug!(file = %file.display(), error = %format!("{error:#}"), "no roots");
                }
                last = roots;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(file = %file.display(), %error, "no roots"),
        }
        tokio::time::sleep(EVERY).await;
    }
}
