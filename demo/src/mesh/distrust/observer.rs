//! Sees from outside who can talk with whom: opens a connection for every ordered pair, round after round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::mesh::sidecar::Sidecar;

/// Connections that are being opened at the same time.
const IN_FLIGHT: usize = 16;
/// Longest wait for a few rounds.
const ROUNDS_WITHIN: Duration = Duration::from_secs(120);

/// Who opens a connection, and to whom: places in the list of workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The side that opens it.
    pub client: usize,
    /// The side that is called.
    pub server: usize,
}

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Connections tried.
    pub handshakes: u64,
    /// Rounds that are over.
    pub rounds: u64,
    /// Pairs that failed in the last round, and what was seen.
    pub broken: BTreeMap<Pair, String>,
    /// How often each pair has failed so far.
    pub failures: BTreeMap<Pair, u64>,
}

/// Opens connections until it is dropped.
#[derive(Debug)]
pub struct Observer {
    seen: watch::Receiver<Seen>,
    _task: AbortOnDropHandle<()>,
}

impl Observer {
    /// Begins to look.
    pub fn start(workloads: &[Arc<Sidecar>]) -> Self {
        let (tell, seen) = watch::channel(Seen::default());
        let task = AbortOnDropHandle::new(tokio::spawn(look(workloads.to_vec(), tell)));
        Self { seen, _task: task }
    }

    /// Waits for a whole round that begins after now, and answers what was seen so far.
    ///
    /// # Errors
    /// If the rounds take too long.
    pub async fn whole_round(&mut self) -> anyhow::Result<Seen> {
        // The one that is under way began before.
        let wanted = self.seen.borrow().rounds + 2;
        let round = self.seen.wait_for(|seen| seen.rounds >= wanted);
        let seen = tokio::time::timeout(ROUNDS_WITHIN, round).await.with_context(|| {
            format!("two rounds of connections took more than {ROUNDS_WITHIN:?}")
        })?;
        Ok(seen?.clone())
    }
}

async fn look(workloads: Vec<Arc<Sidecar>>, tell: watch::Sender<Seen>) {
    loop {
        let outcomes = round(&workloads).await;
        tell.send_modify(|seen| {
            seen.rounds += 1;
            seen.handshakes += outcomes.len() as u64;
            seen.broken =
                outcomes.into_iter().filter_map(|(pair, why)| Some((pair, why?))).collect();
            for pair in seen.broken.keys() {
                *seen.failures.entry(*pair).or_default() += 1;
            }
        });
    }
}

/// Every ordered pair once, and why it failed if it did.
async fn round(workloads: &[Arc<Sidecar>]) -> BTreeMap<Pair, Option<String>> {
    let (mut under_way, mut outcomes) = (JoinSet::new(), BTreeMap::new());
    for (client, from) in workloads.iter().enumerate() {
        for (server, to) in workloads.iter().enumerate().filter(|(server, _)| *server != client) {
            if under_way.len() >= IN_FLIGHT {
                outcomes.extend(under_way.join_next().await.and_then(Result::ok));
            }
            let (from, to) = (Arc::clone(from), Arc::clone(to));
            under_way.spawn(async move {
                let why = from.greet(&to).await.err().map(|error| format!("{error:#}"));
                (Pair { client, server }, why)
            });
        }
    }
    while let Some(outcome) = under_way.join_next().await {
        outcomes.extend(outcome.ok());
    }
    outcomes
}
