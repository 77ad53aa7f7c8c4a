//! Who is called: a server that holds its lease and says where it is, at most so many calls at a time, each within its
//! deadline. One that failed is left alone for a while, so that it costs that deadline once and not at each call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use replicas::{Peer, Roster};
use rotation::ReplicaName;
use tokio::sync::{Semaphore, watch};
use trust::Clock;
use trust::plain::span;

use super::calls::{CallError, PeerCalls, Place};
use super::counters::PeerCounters;

/// Time for one call.
pub const CALL_WITHIN: Duration = Duration::from_millis(500);
/// Calls to one server at a time; more wait, within their own deadline.
const IN_FLIGHT_MAX: usize = 64;
/// How long a server is left alone after it failed; twice as long after each further time.
const REST_FIRST: Duration = Duration::from_millis(250);
const REST_MOST: Duration = Duration::from_secs(5);
/// A server that cannot be called for so long is worth a sentence.
const NAMED_AFTER: Duration = Duration::from_secs(10);

/// Why nothing was asked, or nothing was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAnswered {
    /// It holds no lease, or nobody knows where it is.
    Away,
    /// It failed a moment ago.
    Resting,
    /// It did not answer in time.
    Late,
    /// The call failed.
    Failed(CallError),
}

impl NotAnswered {
    const fn label(&self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Resting => "resting",
            Self::Late => "late",
            Self::Failed(error) => error.label(),
        }
    }
}

/// The ways to all other servers.
#[derive(Debug)]
pub struct Lines {
    roster: watch::Receiver<Arc<Roster>>,
    calls: Arc<dyn PeerCalls>,
    clock: Arc<dyn Clock>,
    counters: PeerCounters,
    lines: Mutex<BTreeMap<ReplicaName, Arc<Line>>>,
}

/// The way to one of them, as the process that it was.
#[derive(Debug)]
struct Line {
    holder: String,
    in_flight: Semaphore,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    /// Calls that failed one after the other.
    failures: u32,
    failing_since: Duration,
    rests_until: Duration,
    /// Somebody is finding out whether it answers again.
    is_tried: bool,
    why: String,
}

/// Somebody finds out; nobody does when this is dropped.
struct Trial(Arc<Line>);

impl Drop for Trial {
    fn drop(&mut self) {
        self.0.health().is_tried = false;
    }
}

impl Line {
    fn new(holder: &str) -> Self {
        let (in_flight, health) = (Semaphore::new(IN_FLIGHT_MAX), Mutex::default());
        Self { holder: holder.to_owned(), in_flight, health }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rests(&self, uptime: Duration) -> bool {
        let health = self.health();
        health.failures > 0 && (health.is_tried || uptime < health.rests_until)
    }

    /// Takes a turn; of a server that failed only one call at a time finds out whether it answers again.
    fn begin(self: &Arc<Self>, uptime: Duration) -> Result<Option<Trial>, NotAnswered> {
        if self.rests(uptime) {
            return Err(NotAnswered::Resting);
        }
        let mut health = self.health();
        if health.failures == 0 {
            return Ok(None);
        }
        health.is_tried = true;
        Ok(Some(Trial(Arc::clone(self))))
    }

    fn answered(&self) {
        self.health().failures = 0;
    }

    fn failed(&self, uptime: Duration, why: String) {
        let mut health = self.health();
        if health.failures == 0 {
            health.failing_since = uptime;
        }
        let rest = REST_FIRST.saturating_mul(1 << health.failures.min(8)).min(REST_MOST);
        health.failures = health.failures.saturating_add(1);
        health.rests_until = uptime.saturating_add(rest);
        health.why = why;
    }
}

impl Lines {
    pub(super) fn new(
        roster: watch::Receiver<Arc<Roster>>,
        calls: Arc<dyn PeerCalls>,
        clock: Arc<dyn Clock>,
        counters: PeerCounters,
    ) -> Self {
        Self { roster, calls, clock, counters, lines: Mutex::default() }
    }

    /// Tells when anything about other servers changed.
    pub(super) fn changes(&self) -> watch::Receiver<Arc<Roster>> {
        self.roster.clone()
    }

    /// The servers that can be called now, with what tells one process of each from the next.
    pub(super) fn callable(&self) -> Vec<(ReplicaName, String)> {
        let (roster, uptime) = (self.roster.borrow().clone(), self.clock.uptime());
        let callable = roster.peers.iter().filter(|(name, peer)| {
            peer.may_hold(uptime)
                && peer.row.address.is_some()
                && !self.line(name, &peer.row.holder).rests(uptime)
        });
        callable.map(|(name, peer)| (name.clone(), peer.row.holder.clone())).collect()
    }

    /// Where a server is reached, if it holds its lease and says so.
    fn peer(&self, name: &ReplicaName) -> Option<(Place, Peer)> {
        let roster = self.roster.borrow();
        let peer = roster.peers.get(name).filter(|peer| peer.may_hold(self.clock.uptime()))?;
        let address = peer.row.address.clone()?;
        Some((Place { name: name.clone(), address }, peer.clone()))
    }

    /// The line to a process; the first to a new one starts well.
    fn line(&self, name: &ReplicaName, holder: &str) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(name.clone()).or_insert_with(|| Arc::new(Line::new(holder)));
        if line.holder != holder {
            *line = Arc::new(Line::new(holder));
        }
        Arc::clone(line)
    }

    /// Makes one call. What is asked is its label.
    pub(super) async fn call<A, F>(
        &self,
        to: &ReplicaName,
        asked: &'static str,
        call: impl FnOnce(Arc<dyn PeerCalls>, Place) -> F,
    ) -> Result<A, NotAnswered>
    where
        F: Future<Output = Result<A, CallError>>,
    {
        let answer = self.try_call(to, call).await;
        let result = answer.as_ref().err().map_or("answered", NotAnswered::label);
        self.counters.called(to.as_str(), asked, result);
        answer
    }

    async fn try_call<A, F>(
        &self,
        to: &ReplicaName,
        call: impl FnOnce(Arc<dyn PeerCalls>, Place) -> F,
    ) -> Result<A, NotAnswered>
    where
        F: Future<Output = Result<A, CallError>>,
    {
        let (place, peer) = self.peer(to).ok_or(NotAnswered::Away)?;
        let line = self.line(to, &peer.row.holder);
        let _trial = line.begin(self.clock.uptime())?;
        let work = async {
            // The semaphore is never closed.
            let _turn = line.in_flight.acquire().await;
            call(Arc::clone(&self.calls), place).await
        };
        match tokio::time::timeout(CALL_WITHIN, work).await {
            Ok(Ok(answer)) => {
                line.answered();
                Ok(answer)
            }
            Ok(Err(error)) => {
                line.failed(self.clock.uptime(), error.to_string());
                tracing::debug!(replica = %to, %error, "a call to another server failed");
                Err(NotAnswered::Failed(error))
            }
            Err(_) => {
                let within = CALL_WITHIN.as_millis();
                line.failed(self.clock.uptime(), format!("no answer within {within} ms"));
                Err(NotAnswered::Late)
            }
        }
    }

    pub(super) fn conditions(&self) -> Vec<String> {
        let (roster, uptime) = (self.roster.borrow().clone(), self.clock.uptime());
        let mut said = Vec::new();
        for (name, peer) in roster.peers.iter().filter(|(_, peer)| peer.may_hold(uptime)) {
            let costs = "acknowledgements about its leaves are not passed on, so gates wait for those leaves to end, and its \
                         clients renew here unmatched";
            let Some(address) = &peer.row.address else {
                said.push(format!(
                    "replica {name} does not say where it is reached, so this one cannot ask it: {costs}; set `replica.address` \
                     in the configuration of {name}, and restart it"
                ));
                continue;
            };
            let line = self.line(name, &peer.row.holder);
            let health = line.health();
            let since = uptime.saturating_sub(health.failing_since);
            if health.failures > 1 && since >= NAMED_AFTER {
                let (why, since) = (&health.why, span(since));
                said.push(format!(
                    "replica {name} holds its lease and cannot be asked at {address} for {since} ({why}): {costs}; look at the \
                     way from here to {address}, and at `replica.address` of {name}"
                ));
            }
        }
        said
    }
}

#[cfg(test)]
mod tests;
