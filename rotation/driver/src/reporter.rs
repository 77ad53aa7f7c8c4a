//! Watches gates: reads the evidence while a phase ends at a gate, and tells the driver when that moves something.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rotation::{Event, Evidence, Phase, Policy, State, step};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use trust::Clock;

use crate::{DriverHandle, Duty, SubmitError};

/// How often evidence is read while a gate is awaited. What opens a gate is seen at most this much later.
const READ_EVERY: Duration = Duration::from_millis(500);

/// The port to what is known of the mesh.
#[async_trait]
pub trait EvidenceSource: Send + Sync + Debug {
    /// Reads everything that gates rest on, about the bundle of `state`.
    ///
    /// Wall clock and uptime are taken together when the reading is over. A segment's rows are read after its seal was
    /// taken from `state`.
    ///
    /// # Errors
    /// [`NoEvidence`] when it cannot be known now. No gate moves then.
    async fn read(&self, state: &State) -> Result<Evidence, NoEvidence>;
}

/// Why there is no evidence now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no evidence now: {reason}")]
pub struct NoEvidence {
    /// What is not known, and what to do.
    pub reason: String,
}

/// Reports until it is dropped, or the driver has stopped. Of several servers only the one that leads reports: `settle` counts
/// for one observer.
///
/// Whether a report would move anything is asked of [`step`] itself, so that reports that change nothing cost no
/// round through the driver's queue.
pub async fn report(
    driver: DriverHandle,
    source: Arc<dyn EvidenceSource>,
    policy: Policy,
    clock: Arc<dyn Clock>,
    duty: watch::Receiver<Duty>,
) {
    report_every(READ_EVERY, Reporter { driver, source, policy, clock, duty }).await;
}

/// What reports.
#[derive(Debug)]
pub struct Reporter {
    /// Whom to tell.
    pub driver: DriverHandle,
    /// What is known of the mesh.
    pub source: Arc<dyn EvidenceSource>,
    /// What the operator chose.
    pub policy: Policy,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether it is this process that reports.
    pub duty: watch::Receiver<Duty>,
}

/// As [`report`], and reads so often: for whoever runs through months of a clock of its own.
pub async fn report_every(every: Duration, reporter: Reporter) {
    let Reporter { driver, source, policy, clock, mut duty } = reporter;
    let mut changes = driver.changes();
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if changes.wait_for(|state| ends_at_gate(&state.phase)).await.is_err() {
            return;
        }
        ticks.tick().await;
        if duty.wait_for(|duty| duty.leads).await.is_err() {
            return;
        }
        let state = driver.state();
        let evidence = match source.read(&state).await {
            Ok(evidence) => evidence,
            Err(error) => {
                tracing::warn!(%error, "no gate can open");
                continue;
            }
        };
        let event = Event::EvidenceReported { evidence };
        // The record may be newer than the reading: then the report is made anew at the next tick.
        let moves =
            step(&state, &event, clock.now(), &policy).is_ok_and(|next| next.changes(&state));
        if !moves || driver.state().generation != state.generation {
            continue;
        }
        match driver.submit(event).await {
            Ok(_) => {}
            Err(SubmitError::Stopped) => return,
            Err(error) => tracing::warn!(%error, "evidence was not taken; it is read again"),
        }
    }
}

const fn ends_at_gate(phase: &Phase) -> bool {
    phase.gate_name().is_some()
}
