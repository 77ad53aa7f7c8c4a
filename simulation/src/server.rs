//! A server process on a simulated machine: the parts of a real one, put together in the order of `ca-server/src/boot`, without
//! sockets, threads and configuration.

mod front;
mod open;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use control::reporting;
use ledger::LedgerError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::machine::Machine;
use crate::process::{Process, Started};
use crate::trap::Blow;
use crate::world::World;

/// How long a start may take before it is begun anew.
const START_WITHIN: Duration = Duration::from_secs(180);

/// Keeps a process running on a machine, whatever hits it, for ever.
pub(crate) async fn supervise(
    world: Arc<World>,
    machine: Arc<Machine>,
    mut blows: mpsc::UnboundedReceiver<Blow>,
) {
    loop {
        let (dead, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        let blow = run_once(&world, &machine, &dead, &mut tasks, &mut blows).await;
        dead.store(true, Ordering::Relaxed);
        machine.runs(None);
        drop(tasks);
        machine.freeze(false);
        match blow {
            Some(Blow::PowerCut) => {
                world.roll(|dice| machine.medium.power_cut(dice));
                machine.clock.boot();
            }
            Some(Blow::NewDisk) => {
                machine.medium.replace();
                machine.keys.lose();
                machine.clock.boot();
            }
            Some(Blow::Kill | Blow::Stop) | None => {}
        }
        tokio::time::sleep(world.roll(|dice| dice.millis(200, 4_000))).await;
    }
}

/// Starts a process and waits for its end; answers what hit it, if it did not end by itself.
async fn run_once(
    world: &Arc<World>,
    machine: &Arc<Machine>,
    dead: &Arc<AtomicBool>,
    tasks: &mut JoinSet<()>,
    blows: &mut mpsc::UnboundedReceiver<Blow>,
) -> Option<Blow> {
    let starting = tokio::time::timeout(START_WITHIN, start::start(world, machine, dead, tasks));
    let started = tokio::select! {
        biased;
        blow = blows.recv() => {
            world.note(machine, &format_args!("is hit at its start by {blow:?}"));
            return blow;
        }
        started = starting => match started {
            Ok(Ok(started)) => started,
            Ok(Err(error)) => {
                world.note(machine, &format_args!("does not start: {error}"));
                return None;
            }
            Err(_) => {
                world.note(machine, &"does not start in time");
                return None;
            }
        },
    };
    machine.runs(Some(Arc::clone(&started.process)));
    world.note(machine, &format_args!("serves as {}", started.process.segment));
    let blow = tokio::select! {
        biased;
        blow = blows.recv() => blow,
        why = ended(&started) => {
            world.note(machine, &format_args!("ends by itself: {why}"));
            return None;
        }
    };
    world.note(machine, &format_args!("is hit by {blow:?}"));
    if blow == Some(Blow::Stop) {
        machine.runs(None);
        // Whoever waits too long is killed.
        let _ = tokio::time::timeout(Duration::from_secs(30), stop(started)).await;
    }
    blow
}

/// Waits until the process can serve no more.
async fn ended(started: &Started) -> String {
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    loop {
        ticks.tick().await;
        let Process { ca, segment, .. } = started.process.as_ref();
        let lost = started.lost.borrow().clone();
        if let Some(lost) = lost {
            return lost.to_string();
        }
        if ca.driver.state().segments.get(segment).is_none_or(rotation::Segment::is_closed) {
            return "its segment is closed".to_owned();
        }
        if let Err(error @ LedgerError::Poisoned { .. }) = ca.ledger.check() {
            return error.to_string();
        }
    }
}

/// As a real server stops.
async fn stop(started: Started) {
    let Started { process, store, driver, member, upkeep_ended, upkeep_stop, .. } = started;
    upkeep_stop.cancel();
    let _ = upkeep_ended.await;
    process.cut();
    reporting::last(&process.ca, store, &process.segment).await;
    driver.stop().await;
    process.ca.ledger.shutdown().await;
    member.leave().await;
}
