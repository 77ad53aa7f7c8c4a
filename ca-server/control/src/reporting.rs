//! The task that tells the other servers what this one's rows say, and its last word when it stops.

use std::sync::Arc;
use std::time::Duration;

use rotation::{Contents, Event, SegmentId, SegmentState, State};
use stores::SharedStore;
use tokio::time::MissedTickBehavior;

use crate::ca::Ca;
use crate::reports::Reporter;

/// How often this server reports while a gate is awaited.
const EVERY: Duration = Duration::from_secs(1);
/// Of so many of these, one is made while nothing is awaited.
const IDLE_EVERY: u32 = 30;

/// Reports until it is dropped. What former runs of this server reported is in its own report now.
pub async fn run(ca: Arc<Ca>, store: Arc<dyn SharedStore>, segment: SegmentId) {
    let Some(mut reporter) = Reporter::new(store, &segment) else { return };
    let others = |state: &State, id: &SegmentId| {
        let of = state.segments.get(id).map(|other| &other.replica);
        *id == segment || of.is_some_and(|of| *of != ca.replication.name)
    };
    let (mut idle, mut ticks) = (0, tokio::time::interval(EVERY));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let state = ca.driver.state();
        if state.phase.decided_at().is_none() && idle > 0 {
            idle = (idle + 1) % IDLE_EVERY;
            continue;
        }
        idle = 1;
        let (read, counts) = ca.evidence.own_report(&state);
        match reporter.report(read, counts, false).await {
            Ok(()) => reporter.forget(|id| others(&state, id)).await,
            Err(error) => tracing::debug!(%error, "what the rows say was not reported"),
        }
    }
}

/// What stays behind of a server that stops in order: its rows, closed and read, so that no gate waits for it. Nothing may
/// be in flight.
pub async fn last(ca: &Ca, store: Arc<dyn SharedStore>, segment: &SegmentId) {
    let Some(mut reporter) = Reporter::new(store, segment) else { return };
    let state = ca.driver.state();
    let is_open = |state: &State| {
        let own = state.segments.get(segment).map(|own| own.state);
        matches!(own, Some(SegmentState::Open | SegmentState::Sealed { .. }))
    };
    if !is_open(&state) {
        return;
    }
    let (mut read, counts) = ca.evidence.own_report(&state);
    read.insert(segment.clone(), state.generation);
    if let Err(error) = reporter.report(read, counts, true).await {
        tracing::warn!(%error, "the last report was not written: gates wait for this server, or for its bounds");
        return;
    }
    let closed = Event::SegmentClosed { segment: segment.clone(), contents: Contents::Read };
    if let Err(error) = ca.driver.submit(closed).await {
        tracing::warn!(%error, "the segment was not closed: gates wait for this server, or for its bounds");
    }
}
