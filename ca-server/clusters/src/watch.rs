//! Keeps the pods of a cluster: a list, then a watch from there on. A watch that ends in order goes on where it was; one that
//! breaks, says nothing for long or is too old begins with a list again, since it may have lost what happened meanwhile.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::core::WatchEvent;
use tokio::time::{sleep, timeout};
use trust::Clock;
use trust::plain::span;

use crate::api::{Api, Failed, PodEvents};
use crate::counters::Counted;
use crate::health::{Health, Look};
use crate::pods::Pods;

/// Longest time without a word on a watch: a server that is alive says something about once a minute.
const SILENCE: Duration = Duration::from_secs(90);
/// Pause before anything is asked again, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];

/// What the watch works with.
#[derive(Debug)]
pub(crate) struct PodWatch {
    pub(crate) api: Arc<Api>,
    pub(crate) pods: Arc<Pods>,
    pub(crate) health: Arc<Health>,
    pub(crate) counted: Counted,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) age_max: Duration,
}

/// How a watch ended.
enum Ended {
    /// In order.
    InTime,
    Failed(Failed),
}

impl PodWatch {
    /// Ends never.
    pub(crate) async fn keep(&self) {
        let [least, most] = PAUSES;
        let mut pause = least;
        loop {
            match self.listed().await {
                Ok(version) => {
                    pause = least;
                    self.follow(version).await;
                }
                Err(failed) => self.broke(&failed),
            }
            sleep(pause).await;
            pause = (pause * 2).min(most);
        }
    }

    async fn listed(&self) -> Result<String, Failed> {
        let (pods, version) = self.api.pods().await?;
        self.counted.listed();
        self.pods.listed(&pods);
        self.counted.pods(self.pods.count());
        self.counted.synced(true);
        self.health.saw(Look::Pods, None);
        Ok(version)
    }

    /// Follows one watch after the other, until one does not end in order.
    async fn follow(&self, mut version: String) {
        loop {
            let ended = match self.api.watch_pods(&version).await {
                Ok(events) => self.heard(events, &mut version).await,
                Err(failed) => Ended::Failed(failed),
            };
            match ended {
                Ended::InTime => sleep(PAUSES[0]).await,
                Ended::Failed(failed) => return self.broke(&failed),
            }
        }
    }

    async fn heard(&self, mut events: PodEvents, version: &mut String) -> Ended {
        loop {
            let event = match timeout(SILENCE, events.next()).await {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(failed))) => return Ended::Failed(failed),
                Ok(None) => return Ended::InTime,
                Err(_) => {
                    let text = format!("nothing was heard on the watch for {}", span(SILENCE));
                    return Ended::Failed(Failed::Away(text));
                }
            };
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    self.pods.seen(&pod);
                    *version = pod.metadata.resource_version;
                }
                WatchEvent::Deleted(pod) => {
                    self.pods.gone(&pod);
                    *version = pod.metadata.resource_version;
                }
                WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Ended::Failed(Failed::Away(status.message)),
            }
            self.counted.pods(self.pods.count());
        }
    }

    fn broke(&self, failed: &Failed) {
        self.pods.broken(self.clock.uptime());
        if matches!(failed, Failed::Expired) {
            // A list follows at once; nothing is wrong unless that fails.
            return;
        }
        let fresh = self.pods.is_fresh(self.clock.uptime(), self.age_max);
        self.counted.synced(fresh);
        let meanwhile = match fresh {
            true => format!("those that are known are gone by for {} at most", span(self.age_max)),
            false => "node accounts are told to retry".to_owned(),
        };
        let text = format!("its pods cannot be watched, and {meanwhile}: {}", failed.text());
        self.health.saw(Look::Pods, Some(&text));
    }
}
