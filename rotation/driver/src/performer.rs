//! Runs pending effects, each in a task of its own, so that none of them holds up events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rotation::{Event, PendingEffect, State};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::{Duty, EffectError, Effects, Trouble};

/// Longest time for one attempt. Ports set shorter deadlines of their own; this one is for those that forgot.
const ATTEMPT_MAX: Duration = Duration::from_secs(60);

/// The owner of all effect tasks: one for each pending effect, never more.
#[derive(Debug)]
pub(crate) struct Performer {
    effects: Arc<dyn Effects>,
    state: watch::Receiver<Arc<State>>,
    duty: watch::Receiver<Duty>,
    tasks: JoinSet<Result<Event, EffectError>>,
    running: BTreeMap<PendingEffect, AbortHandle>,
    failed: BTreeMap<PendingEffect, Trouble>,
    troubles: watch::Sender<Arc<[Trouble]>>,
}

impl Performer {
    pub(crate) fn new(
        effects: Arc<dyn Effects>,
        state: watch::Receiver<Arc<State>>,
        duty: watch::Receiver<Duty>,
    ) -> Self {
        Self {
            effects,
            state,
            duty,
            tasks: JoinSet::new(),
            running: BTreeMap::new(),
            failed: BTreeMap::new(),
            troubles: watch::Sender::new(Arc::from([])),
        }
    }

    pub(crate) fn troubles(&self) -> watch::Receiver<Arc<[Trouble]>> {
        self.troubles.subscribe()
    }

    /// Starts what the stored state wants done by this process and does not run, and drops what it no longer wants.
    pub(crate) fn reconcile(&mut self) {
        let state = self.state.borrow().clone();
        let duty = self.duty.borrow().clone();
        let owed = |pending: &&PendingEffect| duty.has(&pending.effect);
        let wanted: Vec<&PendingEffect> = state.pending.iter().filter(owed).collect();
        self.running.retain(|pending, task| {
            let wanted = wanted.contains(&pending);
            if !wanted {
                task.abort();
            }
            wanted
        });
        self.failed.retain(|pending, _| wanted.contains(&pending));
        for pending in wanted {
            if !self.running.contains_key(pending) {
                let pause =
                    self.failed.get(pending).map_or(Duration::ZERO, |t| t.last.pause(t.attempts));
                let task = self.tasks.spawn(attempt(
                    Arc::clone(&self.effects),
                    self.state.clone(),
                    pending.clone(),
                    pause,
                ));
                self.running.insert(pending.clone(), task);
            }
        }
        self.report();
    }

    /// Waits until an attempt is over. The effect stays pending until the event it came to is stored; if it does not
    /// come to that, tell [`Self::failed`]. May be dropped at its await and loses nothing.
    pub(crate) async fn next(&mut self) -> (PendingEffect, Result<Event, EffectError>) {
        loop {
            let Some(ended) = self.tasks.join_next_with_id().await else {
                return std::future::pending().await;
            };
            let (id, outcome) = match ended {
                Ok((id, outcome)) => (id, outcome),
                Err(error) => (error.id(), Err(broken(&error))),
            };
            // A task that is no longer in the list was dropped on purpose.
            let known = self
                .running
                .iter()
                .find(|(_, task)| task.id() == id)
                .map(|(pending, _)| pending.clone());
            if let Some(pending) = known {
                self.running.remove(&pending);
                return (pending, outcome);
            }
        }
    }

    /// Notes a failed attempt; the next [`Self::reconcile`] starts another after a pause.
    pub(crate) fn failed(&mut self, pending: PendingEffect, last: EffectError) {
        let attempts =
            self.failed.get(&pending).map_or(1, |trouble| trouble.attempts.saturating_add(1));
        let effect = pending.effect.name();
        match &last {
            EffectError::NotYet { reason, .. } => {
                tracing::debug!(effect, attempts, reason, "effect not done yet")
            }
            error => {
                tracing::warn!(effect, attempts, %error, "effect failed and will be tried again")
            }
        }
        self.failed.insert(pending.clone(), Trouble { pending, attempts, last });
    }

    /// Drops every task and waits until none is left.
    pub(crate) async fn stop(&mut self) {
        self.running.clear();
        self.tasks.shutdown().await;
    }

    fn report(&self) {
        let now: Arc<[Trouble]> = self.failed.values().cloned().collect();
        self.troubles.send_if_modified(|former| {
            let changed = **former != *now;
            if changed {
                *former = now;
            }
            changed
        });
    }
}

async fn attempt(
    effects: Arc<dyn Effects>,
    state: watch::Receiver<Arc<State>>,
    pending: PendingEffect,
    pause: Duration,
) -> Result<Event, EffectError> {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let state = state.borrow().clone();
    if !state.pending.contains(&pending) {
        // Overtaken since this task was started; nobody will ask for it again.
        return Err(EffectError::NotYet {
            reason: "no longer wanted".to_owned(),
            retry_after: Duration::ZERO,
        });
    }
    let performed = tokio::time::timeout(ATTEMPT_MAX, effects.perform(&state, &pending)).await;
    performed.unwrap_or_else(|_| {
        Err(EffectError::Unavailable {
            reason: format!("no answer within {} s", ATTEMPT_MAX.as_secs()),
        })
    })
}

fn broken(error: &JoinError) -> EffectError {
    EffectError::Refused {
        reason: format!("the attempt broke off, which is a fault to report: {error}"),
    }
}
