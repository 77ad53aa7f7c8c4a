//! The compaction of the ledger, beside everything else that the server does.

use std::sync::Arc;

use ledger::Ledger;
use tokio::task::JoinHandle;

/// The one compaction that runs, in a thread of its own.
#[derive(Debug, Default)]
pub struct Compaction(Option<JoinHandle<()>>);

impl Compaction {
    /// Has the ledger compacted, unless that is being done; does not wait for it.
    pub fn begin(&mut self, ledger: &Arc<Ledger>) {
        if self.0.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let ledger = Arc::clone(ledger);
        self.0 = Some(tokio::task::spawn_blocking(move || match ledger.compact() {
            Ok(done) => tracing::debug!(?done, "ledger compacted"),
            Err(error) => tracing::warn!(%error, "the ledger could not be compacted"),
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use host::{Fault, FaultDisk, How, Operation};
    use ledger::{OpenOptions, SegmentId, Settings};
    use trust::{ManualClock, Timestamp};

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test(flavor = "multi_thread")]
    async fn who_begins_a_compaction_does_not_wait_for_it_and_one_runs_at_a_time() {
        let (dir, disk) = (tempfile::tempdir().unwrap(), FaultDisk::default());
        let (ledger, _) = Ledger::open(OpenOptions {
            dir: dir.path().join("ledger"),
            segment: SegmentId::parse("ca-1.1").unwrap(),
            disk: Arc::new(disk.clone()),
            clock: Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000))),
            skew: Duration::from_secs(60),
            settings: Settings::default(),
        })
        .unwrap();
        let ledger = Arc::new(ledger);
        let looks = || disk.count(Operation::List, "archive");
        let before = looks();
        disk.plan(Fault::next(Operation::List, How::Waits).on("archive"));
        let began = tokio::spawn({
            let ledger = Arc::clone(&ledger);
            async move {
                let mut compaction = Compaction::default();
                compaction.begin(&ledger);
                compaction
            }
        });
        let began = tokio::time::timeout(SOON, began).await;
        let reached = tokio::time::timeout(SOON, async {
            while looks() == before {
                tokio::task::yield_now().await;
            }
        });
        let reached = reached.await;
        let mut compaction = match began {
            Ok(compaction) => compaction.unwrap(),
            Err(_) => {
                disk.heal();
                panic!("it was waited for");
            }
        };
        reached.unwrap();
        compaction.begin(&ledger);
        assert_eq!(looks(), before + 1, "there is one already");
        disk.heal();
        compaction.0.take().unwrap().await.unwrap();
        compaction.begin(&ledger);
        compaction.0.take().unwrap().await.unwrap();
        assert!(looks() > before + 1, "and another once it is over");
    }
}
