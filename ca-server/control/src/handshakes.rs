//! Handshakes as proxies count them and their agents tell: how much traffic rests on an identity, and how much of it fails.
//!
//! It is what proxies of workloads say, so no gate rests on it. It is in memory, and each server knows what the agents said that are
//! or were connected to it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use trust::{SpiffeId, Timestamp};

/// Identities of agents that are remembered at most; the one that was not heard of for longest makes room.
const TALLIES_MAX: usize = 100_000;

/// What an agent says of one identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeReport {
    /// When the agent began to count.
    pub since: Timestamp,
    /// What it counted since then.
    pub counts: HandshakeCounts,
    /// Admin endpoints that it asks.
    pub endpoints: u32,
    /// Those that gave no good answer last.
    pub silent: u32,
}

/// Numbers of handshakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeCounts {
    /// That succeeded.
    pub handshakes: u64,
    /// That failed for another reason than the peer's certificate; that a peer refused ours is one of them.
    pub connection_errors: u64,
    /// Peers whose certificates were refused, or that had none.
    pub refused_peers: u64,
}

/// What is known of one identity below one agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeTally {
    /// Since when it is counted.
    pub since: Timestamp,
    /// When it was heard last.
    pub seen: Timestamp,
    /// The sums, which do not go back while this server runs.
    pub counts: HandshakeCounts,
    /// Admin endpoints that the agent asks.
    pub endpoints: u32,
    /// Those that gave no good answer last: what their proxies count is missing.
    pub silent: u32,
}

/// What is known of all.
#[derive(Debug, Default)]
pub struct Handshakes(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// By agent and identity; no agent without identities.
    of: BTreeMap<String, BTreeMap<SpiffeId, Kept>>,
    /// How many there are.
    count: usize,
}

#[derive(Debug, Default)]
struct Kept {
    tally: Option<HandshakeTally>,
    last: HandshakeReport,
}

impl HandshakeCounts {
    /// How many failed, for whatever reason.
    pub const fn failed(&self) -> u64 {
        self.connection_errors.saturating_add(self.refused_peers)
    }

    /// Both together.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            handshakes: self.handshakes.saturating_add(other.handshakes),
            connection_errors: self.connection_errors.saturating_add(other.connection_errors),
            refused_peers: self.refused_peers.saturating_add(other.refused_peers),
        }
    }

    /// What came since, if no number went back.
    pub fn since(&self, before: &Self) -> Option<Self> {
        Some(Self {
            handshakes: self.handshakes.checked_sub(before.handshakes)?,
            connection_errors: self.connection_errors.checked_sub(before.connection_errors)?,
            refused_peers: self.refused_peers.checked_sub(before.refused_peers)?,
        })
    }
}

impl Handshakes {
    /// Takes what an agent says of an identity that it is entitled to.
    pub fn heard(&self, agent: &str, identity: &SpiffeId, report: HandshakeReport, now: Timestamp) {
        let mut table = self.lock();
        let kept = table.place(agent, identity);
        match &mut kept.tally {
            Some(tally) => {
                // An agent that was started anew counts from zero.
                let same = kept.last.since == report.since;
                let more = same.then(|| report.counts.since(&kept.last.counts)).flatten();
                tally.counts = tally.counts.plus(&more.unwrap_or(report.counts));
                tally.seen = tally.seen.max(now);
                (tally.endpoints, tally.silent) = (report.endpoints, report.silent);
            }
            none => {
                *none = Some(HandshakeTally {
                    since: report.since.min(now),
                    seen: now,
                    counts: report.counts,
                    endpoints: report.endpoints,
                    silent: report.silent,
                });
            }
        }
        kept.last = report;
    }

    /// What is known of the identities of one agent.
    pub fn of_agent(&self, agent: &str) -> Vec<(SpiffeId, HandshakeTally)> {
        let table = self.lock();
        let of = table.of.get(agent).into_iter().flatten();
        of.filter_map(|(identity, kept)| Some((identity.clone(), kept.tally?))).collect()
    }

    /// What is known of one identity below one agent.
    pub fn find(&self, agent: &str, identity: &SpiffeId) -> Option<HandshakeTally> {
        self.lock().of.get(agent)?.get(identity)?.tally
    }

    /// Everything: agent, identity, and what is known.
    pub fn all(&self) -> Vec<(String, SpiffeId, HandshakeTally)> {
        let table = self.lock();
        let of = |(agent, of): (&String, &BTreeMap<SpiffeId, Kept>)| {
            let one = |(identity, kept): (&SpiffeId, &Kept)| {
                Some((agent.clone(), identity.clone(), kept.tally?))
            };
            of.iter().filter_map(one).collect::<Vec<_>>()
        };
        table.of.iter().flat_map(of).collect()
    }

    /// Forgets an agent that is no longer registered.
    pub fn forget(&self, agent: &str) {
        let mut table = self.lock();
        let gone = table.of.remove(agent).map_or(0, |of| of.len());
        table.count = table.count.saturating_sub(gone);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn place(&mut self, agent: &str, identity: &SpiffeId) -> &mut Kept {
        let is_known = self.of.get(agent).is_some_and(|of| of.contains_key(identity));
        if !is_known {
            if self.count >= TALLIES_MAX {
                self.make_room();
            }
            self.count += 1;
        }
        self.of.entry(agent.to_owned()).or_default().entry(identity.clone()).or_default()
    }

    fn make_room(&mut self) {
        let seen = |(agent, of): (&String, &BTreeMap<SpiffeId, Kept>)| {
            let seen = |kept: &Kept| kept.tally.map(|tally| tally.seen);
            let (identity, kept) = of.iter().min_by_key(|(_, kept)| seen(kept))?;
            Some((seen(kept), agent.clone(), identity.clone()))
        };
        let Some((_, agent, identity)) = self.of.iter().filter_map(seen).min() else { return };
        let Some(of) = self.of.get_mut(&agent) else { return };
        of.remove(&identity);
        if of.is_empty() {
            self.of.remove(&agent);
        }
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn id(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://example.org/{name}")).unwrap()
    }

    fn report(since: i64, handshakes: u64, refused_peers: u64) -> HandshakeReport {
        HandshakeReport {
            since: Timestamp::from_secs(since),
            counts: HandshakeCounts { handshakes, connection_errors: 0, refused_peers },
            endpoints: 2,
            silent: 1,
        }
    }

    #[test]
    fn sums_grow_and_do_not_go_back_when_an_agent_begins_anew() {
        let (all, web) = (Handshakes::default(), id("web"));
        let sums = || {
            let counts = all.find("node-1", &web).unwrap().counts;
            (counts.handshakes, counts.failed())
        };
        all.heard("node-1", &web, report(900, 10, 1), NOW);
        assert_eq!(sums(), (10, 1));
        all.heard("node-1", &web, report(900, 10, 1), NOW.plus(std::time::Duration::from_secs(5)));
        assert_eq!(sums(), (10, 1), "said again on another stream");
        all.heard("node-1", &web, report(900, 15, 1), NOW);
        assert_eq!(sums(), (15, 1));
        all.heard("node-1", &web, report(990, 4, 2), NOW);
        assert_eq!(sums(), (19, 3), "the agent was restarted");
        all.heard("node-1", &web, report(990, 3, 2), NOW);
        assert_eq!(sums(), (22, 5), "numbers that go back began again at zero");
        let tally = all.find("node-1", &web).unwrap();
        assert_eq!((tally.since.as_secs(), tally.seen.as_secs()), (900, 1_005));
        assert_eq!((tally.endpoints, tally.silent), (2, 1));
        assert_eq!(all.find("node-2", &web), None, "each agent speaks for itself");
    }

    #[test]
    fn a_time_of_tomorrow_is_not_believed_and_no_sum_overflows() {
        let (all, web) = (Handshakes::default(), id("web"));
        let far = report(i64::MAX, u64::MAX, u64::MAX);
        all.heard("node-1", &web, far, NOW);
        all.heard("node-1", &web, HandshakeReport { since: NOW, ..far }, NOW);
        let tally = all.find("node-1", &web).unwrap();
        assert_eq!(
            (tally.since, tally.counts.handshakes, tally.counts.failed()),
            (NOW, u64::MAX, u64::MAX)
        );
    }

    #[test]
    fn the_one_that_was_not_heard_of_for_longest_makes_room() {
        let all = Handshakes::default();
        for number in 0..TALLIES_MAX {
            let at = if number == 70_000 { 10 } else { 20 };
            let agent = format!("node-{}", number / 10);
            all.heard(
                &agent,
                &id(&format!("w{number}")),
                report(1, 1, 0),
                Timestamp::from_secs(at),
            );
        }
        all.heard("late", &id("web"), report(1, 1, 0), NOW);
        assert_eq!(all.all().len(), TALLIES_MAX);
        assert!(all.find("late", &id("web")).is_some());
        assert_eq!(all.find("node-7000", &id("w70000")), None);
        all.forget("late");
        assert!(all.of_agent("late").is_empty() && all.of_agent("node-1").len() == 10);
    }
}
