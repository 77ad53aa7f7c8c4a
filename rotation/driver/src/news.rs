//! Learns that another server may have written the record.

use std::sync::Arc;
use std::time::Duration;

use stores::Hints;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::RecordStore;

/// How often the record is read although nobody said that it changed: a watch may lose what it should say.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Pause before a watch that could not be begun is tried again.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// Tells the driver when to look. Dropping it ends the watch.
#[derive(Debug)]
pub(crate) struct News {
    told: mpsc::Receiver<()>,
    _task: JoinSet<()>,
}

impl News {
    /// Of this store.
    pub(crate) fn of(store: Arc<dyn RecordStore>) -> Self {
        // One word says all: look.
        let (tell, told) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(listen(store, tell));
        Self { told, _task: task }
    }

    /// Waits until there may be something new; for ever where nobody else writes.
    pub(crate) async fn next(&mut self) {
        if self.told.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

async fn listen(store: Arc<dyn RecordStore>, tell: mpsc::Sender<()>) {
    loop {
        let mut hints = match store.watch().await {
            Ok(Some(hints)) => hints,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "the record cannot be watched yet");
                tokio::time::sleep(WATCH_AGAIN).await;
                continue;
            }
        };
        loop {
            // A word that waits already says the same.
            if let Err(mpsc::error::TrySendError::Closed(())) = tell.try_send(()) {
                return;
            }
            said(&mut hints).await;
        }
    }
}

async fn said(hints: &mut Hints) {
    tokio::select! {
        _ = hints.next() => {}
        () = tokio::time::sleep(LOOK_EVERY) => {}
    }
}
