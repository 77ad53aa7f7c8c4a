//! The loop: an event in, a step, a check, a write, and only then the world.

mod keeper;
mod start_error;

use std::sync::Arc;

use rotation::{Event, PendingEffect, Policy};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use trust::{Clock, TrustDomain};

use self::keeper::{Keeper, UNKNOWN_RELOAD_PAUSE};
pub use self::start_error::StartError;
use crate::handle::Submission;
use crate::news::News;
use crate::performer::Performer;
use crate::{
    DriverHandle, Duty, EffectError, Effects, QUEUE_EVENTS_MAX, RecordStore, SubmitError, Word,
};

/// What a driver is made of.
#[derive(Debug)]
pub struct DriverParts {
    /// Whose roots it drives.
    pub trust_domain: TrustDomain,
    /// Where the record is.
    pub store: Arc<dyn RecordStore>,
    /// Who performs effects.
    pub effects: Arc<dyn Effects>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What the operator chose.
    pub policy: Policy,
    /// Which part of the work is this process's; it may change at any time.
    pub duty: watch::Receiver<Duty>,
}

/// The running driver. Dropping it stops the driver without waiting.
#[derive(Debug)]
pub struct DriverTask {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl DriverTask {
    /// Lets the event in progress end, drops the running effects, and waits until all of it is gone. The effects are
    /// performed again after the next start.
    pub async fn stop(self) {
        let Self { stop, task } = self;
        drop(stop);
        if let Err(error) = task.await {
            tracing::error!(%error, "the driver broke off");
        }
    }
}

/// Loads the record and starts the one task that drives it. Effects that were pending are resumed.
///
/// # Errors
/// [`StartError`] when there is a record and it cannot be read or used: that is never taken for a first boot.
pub async fn start(parts: DriverParts) -> Result<(DriverHandle, DriverTask), StartError> {
    let DriverParts { trust_domain, store, effects, clock, policy, duty } = parts;
    let mut keeper = Keeper::load(trust_domain, Arc::clone(&store), clock, policy).await?;
    keeper.share_with(duty.clone());
    // What was counted on a former uptime counts for nothing, and nothing is decided before that is stored.
    keeper.take(&Event::DriverStarted, &Word::default()).await?;
    let mut performer = Performer::new(effects, keeper.watch(), duty.clone());
    let (events, queue) = mpsc::channel(QUEUE_EVENTS_MAX);
    let alone = duty.borrow().replica.is_none();
    let news = (!alone).then(|| News::of(Arc::clone(&store)));
    let handle =
        DriverHandle { events, state: keeper.watch(), troubles: performer.troubles(), store };
    performer.reconcile();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(run(keeper, performer, Heard { queue, news, duty }, stopped));
    Ok((handle, DriverTask { stop, task }))
}

/// What the loop listens to besides its own effects.
struct Heard {
    queue: mpsc::Receiver<Submission>,
    /// What other servers write; none where no other can.
    news: Option<News>,
    duty: watch::Receiver<Duty>,
}

impl Heard {
    /// Waits until the record may have been written by somebody else.
    async fn news(news: &mut Option<News>) {
        match news {
            Some(news) => news.next().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the work is shared otherwise.
    async fn shared_otherwise(duty: &mut watch::Receiver<Duty>) {
        if duty.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn run(
    mut keeper: Keeper,
    mut performer: Performer,
    heard: Heard,
    mut stopped: oneshot::Receiver<()>,
) {
    let Heard { mut queue, mut news, mut duty } = heard;
    loop {
        tokio::select! {
            // A stop comes first; otherwise events and results take turns at random, so that neither starves.
            _ = &mut stopped => break,
            submission = queue.recv() => match submission {
                Some(Submission { event, word, answer }) => {
                    // A submitter that no longer waits is no reason to forget what it asked for.
                    let _ = answer.send(keeper.take(&event, &word).await);
                }
                None => break,
            },
            (pending, outcome) = performer.next() => finish(&mut keeper, &mut performer, pending, outcome).await,
            () = tokio::time::sleep(UNKNOWN_RELOAD_PAUSE), if keeper.is_unknown() => keeper.try_reload().await,
            () = Heard::news(&mut news) => keeper.look().await,
            () = Heard::shared_otherwise(&mut duty) => {}
        }
        performer.reconcile();
    }
    queue.close();
    performer.stop().await;
}

/// Takes the event that an effect came to. If the machine or the store did not take it, the effect is still pending
/// and is performed again.
async fn finish(
    keeper: &mut Keeper,
    performer: &mut Performer,
    pending: PendingEffect,
    outcome: Result<Event, EffectError>,
) {
    let failure = match outcome {
        Ok(event) => match keeper.take(&event, &Word::default()).await {
            Ok(_) => EffectError::Refused { reason: "its result did not settle it".to_owned() },
            Err(error @ SubmitError::Refused(_)) => {
                EffectError::Refused { reason: error.to_string() }
            }
            Err(error) => EffectError::Unavailable { reason: error.to_string() },
        },
        Err(error) => error,
    };
    if keeper.owes(&pending) {
        performer.failed(pending, failure);
    }
}
