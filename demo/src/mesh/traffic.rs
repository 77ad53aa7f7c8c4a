//! Traffic without pause: a new mTLS connection for every ordered pair of workloads, round after round.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use super::counts::FailureSample;
use super::sidecar::Sidecar;

/// Connections that are being opened at the same time.
const IN_FLIGHT: usize = 16;
/// Wait after a connection that one side could not open or take for want of a live leaf.
const NOT_LIVE_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// Failures of which the words are kept; all are counted.
const SAMPLES_MAX: usize = 20;

/// Counters of the traffic so far.
#[derive(Debug, Default)]
pub struct Tally {
    handshakes: AtomicU64,
    failed: AtomicU64,
    expired: AtomicU64,
    samples: Mutex<Vec<FailureSample>>,
    pairs: Mutex<BTreeMap<(usize, usize), u64>>,
}

impl Tally {
    /// Connections tried.
    pub fn handshakes(&self) -> u64 {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// Connections that failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Connections of which one side had no live leaf or was restarted, so that nothing was proven either way.
    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// The first failures, in words.
    pub fn samples(&self) -> Vec<FailureSample> {
        lock(&self.samples).clone()
    }

    /// How many ordered pairs have talked, and the smallest number of connections of one of them.
    pub fn pairs(&self) -> (usize, u64) {
        let pairs = lock(&self.pairs);
        (pairs.len(), pairs.values().copied().min().unwrap_or(0))
    }

    fn count(&self, pair: (usize, usize), outcome: Result<(), FailureSample>) {
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        *lock(&self.pairs).entry(pair).or_default() += 1;
        if let Err(sample) = outcome {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let mut samples = lock(&self.samples);
            if samples.len() < SAMPLES_MAX {
                samples.push(sample);
            }
        }
    }
}

/// Running traffic.
#[derive(Debug)]
pub struct Traffic {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Traffic {
    /// Lets every workload connect to every other one, again and again.
    pub fn start(members: &Arc<Vec<Sidecar>>, tally: &Arc<Tally>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            tasks.spawn(run(
                Arc::clone(members),
                Arc::clone(tally),
                Arc::clone(&next),
                Arc::clone(&stop),
            ));
        }
        Self { stop, tasks }
    }

    /// Lets connections that are being opened finish, then stops.
    pub async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }

    /// Breaks off what is under way.
    pub async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn run(
    members: Arc<Vec<Sidecar>>,
    tally: Arc<Tally>,
    next: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) {
    while !stop.load(Ordering::Relaxed) {
        let pair = ordered_pair(next.fetch_add(1, Ordering::Relaxed), members.len());
        let (Some(client), Some(server)) = (members.get(pair.0), members.get(pair.1)) else {
            return;
        };
        let restarts = || client.restarts() + server.restarts();
        let restarted = restarts();
        let began_live = client.is_live() && server.is_live();
        let outcome = client.greet(server).await;
        let live = began_live && client.is_live() && server.is_live();
        if outcome.is_err() && !(live && restarts() == restarted) {
            tally.expired.fetch_add(1, Ordering::Relaxed);
            // Nobody who has no certificate can talk; the others go on.
            tokio::time::sleep(NOT_LIVE_PAUSE).await;
            continue;
        }
        let outcome = outcome.map_err(|error| FailureSample {
            client: client.id().to_string(),
            server: server.id().to_string(),
            error: format!("{error:#}"),
        });
        tally.count(pair, outcome);
    }
}

/// The `turn`-th ordered pair of `members`, going round for ever.
const fn ordered_pair(turn: usize, members: usize) -> (usize, usize) {
    let turn = turn % (members * (members - 1));
    let (client, other) = (turn / (members - 1), turn % (members - 1));
    (client, if other < client { other } else { other + 1 })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_round_visits_every_ordered_pair_once() {
        let round: BTreeSet<_> = (0..132).map(|turn| ordered_pair(turn, 12)).collect();
        assert_eq!(round.len(), 132);
        assert!(
            round.iter().all(|(client, server)| client != server && *client < 12 && *server < 12)
        );
        assert_eq!(ordered_pair(132, 12), ordered_pair(0, 12));
    }
}
