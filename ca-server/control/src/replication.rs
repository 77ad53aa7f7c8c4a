//! This server among the replicas of its CA: what it may release, what it knows of the others, and what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use auth::refusal::{Reason, Refusal};
use replicas::{Drain, Lease, Peer, Roster, Standing};
use rotation::{ReplicaName, SegmentId, State};
use stores::SharedStore;
use tokio::sync::watch;
use trust::plain::span;
use trust::{Clock, Timestamp};

use crate::reports::{Reports, Seen};

/// This server among the others. Of a server that is alone there are none, and its lease is held for ever.
#[derive(Debug)]
pub struct Replication {
    /// Its name.
    pub name: ReplicaName,
    /// Where the others reach it.
    pub address: Option<String>,
    /// Without it nothing is released.
    pub lease: Lease,
    /// The others.
    pub roster: watch::Receiver<Arc<Roster>>,
    /// What their rows say.
    pub reports: watch::Receiver<Arc<Reports>>,
    /// The word by which it lets everybody go elsewhere, if there is one.
    pub drain: watch::Receiver<Option<Drain>>,
    /// Where all servers read and write; none where there is only one.
    pub store: Option<Arc<dyn SharedStore>>,
    /// How far wall clocks may be apart.
    pub skew: Duration,
    /// Length of a lease.
    pub lease_length: Duration,
    /// Boot clock and wall clock.
    pub clock: Arc<dyn Clock>,
}

impl Replication {
    /// Of a server that is the only one.
    pub fn alone(name: ReplicaName, clock: Arc<dyn Clock>, skew: Duration) -> Self {
        Self {
            name,
            address: None,
            lease: Lease::unbounded(),
            roster: watch::channel(Arc::default()).1,
            reports: watch::channel(Arc::default()).1,
            drain: watch::channel(None).1,
            store: None,
            skew,
            lease_length: Duration::ZERO,
            clock,
        }
    }

    /// Whether other servers may be there.
    pub fn is_alone(&self) -> bool {
        self.lease_length.is_zero()
    }

    /// Whether the lease of this other server may still be held.
    pub fn holds_lease(&self, name: &ReplicaName) -> bool {
        let uptime = self.clock.uptime();
        self.roster.borrow().peers.get(name).is_some_and(|peer| peer.may_hold(uptime))
    }

    /// Whether another server may serve agents now.
    pub fn others_serve(&self) -> bool {
        let uptime = self.clock.uptime();
        self.roster.borrow().peers.values().any(|peer| peer.may_hold(uptime))
    }

    /// Whether a leaf or a bundle may leave this server now. Asked again after the work, just before the answer.
    ///
    /// # Errors
    /// [`Reason::LeaseLapsed`], [`Reason::NotReady`]: another replica can answer.
    pub fn may_release(&self) -> Result<(), Refusal> {
        if !self.lease.is_held(self.clock.uptime()) {
            let text = "this server has not reached the store that the CA's servers share for too long; ask another one, or \
                        again";
            return Err(Refusal::new(Reason::LeaseLapsed, text));
        }
        if self.is_fenced() {
            let text =
                "this server's wall clock disagrees with those of the others; ask another one";
            return Err(Refusal::new(Reason::ClockDiverged, text));
        }
        Ok(())
    }

    /// As [`may_release`](Self::may_release), for a new leaf: a server that drains issues none.
    ///
    /// # Errors
    /// As [`may_release`](Self::may_release).
    pub fn may_issue(&self) -> Result<(), Refusal> {
        if self.drains() {
            let text = "this server is being drained; ask another one";
            return Err(Refusal::new(Reason::NotReady, text));
        }
        self.may_release()
    }

    /// Whether it lets everybody go elsewhere.
    pub fn drains(&self) -> bool {
        self.drain.borrow().is_some()
    }

    /// Replicas that release no new leaf any more, and go or are gone.
    pub fn going(&self) -> BTreeSet<ReplicaName> {
        let goes = |peer: &Peer| matches!(peer.row.standing, Standing::Drains | Standing::Stopped);
        let roster = self.roster.borrow().clone();
        let others = roster.peers.iter().filter(|(_, peer)| goes(peer));
        let own = self.drains().then(|| self.name.clone());
        others.map(|(name, _)| name.clone()).chain(own).collect()
    }

    /// Whether this server's wall clock is further from the others' than they may be apart.
    pub fn is_fenced(&self) -> bool {
        self.away().is_some_and(|away| Duration::from_millis(away.unsigned_abs()) > self.skew)
    }

    fn away(&self) -> Option<i64> {
        self.roster.borrow().away_millis(self.clock.uptime())
    }

    /// How far the wall clocks of replicas that may be alive are behind this one's: what ends by the clock has ended by all of
    /// them. One that is alone with its time among three and more is fenced, and no matter.
    pub fn furthest_behind(&self) -> Duration {
        let (roster, uptime) = (self.roster.borrow().clone(), self.clock.uptime());
        let judged = roster.away_millis(uptime).is_some();
        let behind = |peer: &Peer| {
            let behind = Duration::from_millis(peer.ahead_millis?.min(0).unsigned_abs());
            (!judged || behind <= self.skew).then_some(behind)
        };
        let live = roster.peers.values().filter(|peer| peer.may_hold(uptime));
        live.filter_map(behind).max().unwrap_or_default()
    }

    /// The reports that count now: fresh, and of replicas whose clocks agree with this one's.
    pub fn reports_that_count(&self) -> BTreeMap<SegmentId, Seen> {
        let (reports, roster) = (self.reports.borrow().clone(), self.roster.borrow().clone());
        let uptime = self.clock.uptime();
        let clock_disagrees = |segment: &SegmentId| {
            let mut peers = roster.peers.values();
            let whose = peers.find(|peer| peer.row.segment.as_deref() == Some(segment.as_str()));
            let ahead = whose.and_then(|peer| peer.ahead_millis).unwrap_or_default();
            Duration::from_millis(ahead.unsigned_abs()) > self.skew
        };
        let counts = |(segment, seen): &(&SegmentId, &Seen)| {
            seen.counts(uptime) && (seen.report.is_last || !clock_disagrees(segment))
        };
        let counted = reports.seen.iter().filter(counts);
        counted.map(|(segment, seen)| (segment.clone(), seen.clone())).collect()
    }

    /// What keeps this server from issuing, with what to do.
    pub fn obstacles(&self) -> Vec<String> {
        let mut said = Vec::new();
        let uptime = self.clock.uptime();
        if !self.lease.is_held(uptime) {
            let since = span(uptime.saturating_sub(self.lease.until()));
            let why = self.lease.trouble();
            let why = why.as_deref().unwrap_or("no answer of the store came in time");
            said.push(format!(
                "the lease of this replica lapsed {since} ago, so it releases nothing: {why}; it goes on by itself once its \
                 lease is renewed"
            ));
        }
        if let Some(away) = self.away().filter(|_| self.is_fenced()) {
            let (by, which) = (
                span(Duration::from_millis(away.unsigned_abs())),
                if away < 0 { "behind" } else { "ahead of" },
            );
            said.push(format!(
                "the wall clock of this replica is {by} {which} those of the others, so it issues nothing: set the clock right, say \
                 so with `banyan clock accept --by NAME --reason TEXT`, then restart it"
            ));
        }
        if self.drains() {
            said.push(format!(
                "this replica is being drained and issues nothing: `banyan replica undrain {} --reason TEXT` takes that back",
                self.name
            ));
        }
        said
    }

    /// What is wrong with the others, one sentence each, with what to do.
    pub fn conditions(&self, state: &State) -> Vec<String> {
        let (roster, uptime) = (self.roster.borrow().clone(), self.clock.uptime());
        let mut said = roster.unreadable.clone();
        said.extend(self.reports.borrow().unreadable.iter().cloned());
        // Of a time in which the store did not answer nothing is known.
        let looked_at = roster.read_at.min(uptime);
        for (name, peer) in &roster.peers {
            if peer.row.standing != Standing::Stopped && !peer.may_hold(looked_at) {
                said.push(self.away_since(name, peer, state));
            }
            let apart = peer.ahead_millis.filter(|_| peer.may_hold(uptime));
            if let Some(ahead) = apart
                && Duration::from_millis(ahead.unsigned_abs()) > self.skew
            {
                let by = span(Duration::from_millis(ahead.unsigned_abs()));
                let which = if ahead > 0 { "ahead of" } else { "behind" };
                said.push(format!(
                    "the wall clock of replica {name} is {by} {which} this one's: look at both with `date`; what its rows say \
                     does not count until they agree"
                ));
            }
        }
        said
    }

    /// What is known of another server that does not do its part; `None` of one that lives, and of this one.
    pub fn what_became_of(&self, name: &ReplicaName) -> Option<String> {
        if self.is_alone() || *name == self.name {
            return None;
        }
        let (roster, uptime) = (self.roster.borrow().clone(), self.clock.uptime());
        let Some(peer) = roster.peers.get(name) else {
            return Some(format!("replica {name} was removed, or never wrote its row"));
        };
        if peer.may_hold(uptime) {
            return None;
        }
        let at = peer.row.address.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
        Some(match peer.row.standing {
            Standing::Stopped => format!("replica {name}{at} stopped: start it again"),
            _ => {
                let silent = span(uptime.saturating_sub(peer.seen_at));
                format!(
                    "replica {name}{at} is silent for {silent}: start it again, or `banyan replica remove {name} --reason TEXT` if it is gone \
                     for good"
                )
            }
        })
    }

    fn away_since(&self, name: &ReplicaName, peer: &Peer, state: &State) -> String {
        let silent = span(self.clock.uptime().saturating_sub(peer.seen_at));
        let at = peer.row.address.as_ref().map(|at| format!(" ({at})")).unwrap_or_default();
        let holds = match last_bound(state, name) {
            Some(until) => format!("its leaves may live until {until}, and hold gates until then"),
            None => "no gate waits for it".to_owned(),
        };
        format!(
            "replica {name}{at} has not renewed its lease for {silent}; {holds}: start it again, or `banyan replica remove {name} --reason TEXT` \
             if it is gone for good"
        )
    }
}

/// Until when segments of a replica that are not known to be read count as full.
pub fn last_bound(state: &State, name: &ReplicaName) -> Option<Timestamp> {
    state.segments_of(name).filter_map(|(_, segment)| segment.last_bound()).max()
}

#[cfg(test)]
mod tests {
    use ledger::{Aggregates, Applied, EvidenceClass, RowKind, Standing as Stands, Tally};
    use replicas::ReplicaRow;
    use trust::{Generation, ManualClock, RootId, Sequence};

    use super::*;
    use crate::counts::Counts;
    use crate::reports::{FRESH, Report};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const SKEW: Duration = Duration::from_secs(60);

    fn peer(segment: &str, ahead_secs: i64, seen_at: Duration) -> Peer {
        let row = ReplicaRow {
            holder: segment.to_owned(),
            place: segment.to_owned(),
            address: Some("ca.example.org:15012".to_owned()),
            version: "0.1.0".to_owned(),
            reads: 1,
            lease_millis: 30_000,
            beat: 3,
            wall_millis: 0,
            standing: Standing::Serves,
            segment: Some(segment.to_owned()),
        };
        Peer { row, seen_at, ahead_millis: Some(ahead_secs * 1_000) }
    }

    fn report(is_last: bool) -> Report {
        let standing = Stands {
            root: RootId::of(b"root"),
            kind: RowKind::AgentHeld,
            born: Sequence(1),
            applied: Applied::from_sequences([Sequence(0); EvidenceClass::ALL.len()]),
            own_trust: false,
            waived: false,
            listening: None,
        };
        let mut rows = Aggregates::default();
        rows.add(standing, Tally { rows: 7, latest_not_after: Some(NOW) });
        let read = BTreeMap::from([("b-1".parse().unwrap(), Generation(4))]);
        Report { number: 1, read, counts: Counts { rows, ..Counts::default() }, is_last }
    }

    struct World {
        clock: Arc<ManualClock>,
        roster: watch::Sender<Arc<Roster>>,
        reports: watch::Sender<Arc<Reports>>,
        drain: watch::Sender<Option<Drain>>,
        replication: Replication,
    }

    fn world() -> World {
        let clock = Arc::new(ManualClock::at(NOW));
        let (roster, of_roster) = watch::channel(Arc::default());
        let (reports, of_reports) = watch::channel(Arc::default());
        let (drain, of_drain) = watch::channel(None);
        let alone =
            Replication::alone("a".parse().unwrap(), Arc::<ManualClock>::clone(&clock), SKEW);
        let replication = Replication {
            roster: of_roster,
            reports: of_reports,
            drain: of_drain,
            lease_length: Duration::from_secs(30),
            ..alone
        };
        World { clock, roster, reports, drain, replication }
    }

    impl World {
        fn peers(&self, ahead_secs: &[i64]) {
            let named = ["b", "c", "d"].into_iter().zip(ahead_secs);
            let peer = |(name, ahead): (&str, &i64)| {
                (name.parse().unwrap(), peer(&format!("{name}-1"), *ahead, self.clock.uptime()))
            };
            let peers = named.map(peer).collect();
            let read_at = self.clock.uptime();
            self.roster.send_replace(Arc::new(Roster { peers, read_at, ..Roster::default() }));
        }

        fn report(&self, is_last: bool) {
            let seen = Seen { report: report(is_last), seen_at: self.clock.uptime() };
            let seen = BTreeMap::from([("b-1".parse().unwrap(), seen)]);
            self.reports.send_replace(Arc::new(Reports { seen, unreadable: Vec::new() }));
        }

        fn counted(&self) -> usize {
            self.replication.reports_that_count().len()
        }
    }

    #[test]
    fn a_report_that_is_not_renewed_counts_as_none_unless_it_is_the_last() {
        let world = world();
        world.peers(&[0]);
        world.report(false);
        assert_eq!(world.counted(), 1);
        world.clock.advance(FRESH + Duration::from_secs(1));
        assert_eq!(world.counted(), 0);
        world.report(true);
        world.clock.advance(FRESH * 100);
        assert_eq!(world.counted(), 1);
    }

    #[test]
    fn what_a_replica_says_whose_clock_disagrees_does_not_count_and_the_latest_clock_ends_rows() {
        let world = world();
        world.peers(&[-61]);
        world.report(false);
        assert_eq!(world.counted(), 0);
        assert!(world.replication.may_release().is_ok(), "of two nobody knows which is right");
        assert_eq!(world.replication.furthest_behind(), Duration::from_secs(61));
        let said = world
            .replication
            .conditions(&State::uninitialised(trust::TrustDomain::parse("example.org").unwrap()));
        assert!(said.iter().any(|said| said.contains("replica b is 61s behind")), "{said:?}");
        // Of three the one that is alone with its time is passed over.
        world.peers(&[-3_600, 5]);
        assert_eq!(world.replication.furthest_behind(), Duration::ZERO);
        assert!(world.replication.may_release().is_ok());
        // And when it is this one, it releases nothing.
        world.peers(&[-3_600, -3_605]);
        let refused = world.replication.may_release().unwrap_err();
        assert_eq!(refused.reason(), Reason::ClockDiverged);
        assert!(world.replication.obstacles()[0].contains("60m ahead of"));
    }

    impl World {
        /// The store answers, and has nothing new.
        fn looked(&self) {
            let (roster, read_at) = (self.roster.borrow().clone(), self.clock.uptime());
            self.roster.send_replace(Arc::new(Roster { read_at, ..Roster::clone(&roster) }));
        }
    }

    #[test]
    fn a_replica_that_is_silent_is_named_and_one_that_drains_issues_nothing() {
        let world = world();
        let state = State::uninitialised(trust::TrustDomain::parse("example.org").unwrap());
        world.peers(&[0]);
        assert_eq!(world.replication.conditions(&state), Vec::<String>::new());
        let became = |name: &str| world.replication.what_became_of(&name.parse().unwrap());
        assert_eq!((became("b"), became("a")), (None, None), "both live");
        assert!(became("c").unwrap().contains("replica c was removed"));
        world.clock.advance(Duration::from_secs(31));
        let silent = became("b").unwrap();
        for named in
            ["replica b at ca.example.org:15012 is silent for 31s", "banyan replica remove b"]
        {
            assert!(silent.contains(named), "{silent}");
        }
        // Whoever does not reach the store has not seen that another is silent.
        assert_eq!(world.replication.conditions(&state), Vec::<String>::new());
        world.looked();
        let said = world.replication.conditions(&state);
        let named = "replica b (ca.example.org:15012) has not renewed its lease for 31s";
        assert!(said[0].contains(named), "{said:?}");
        assert!(world.replication.obstacles().is_empty());
        assert!(world.replication.going().is_empty());
        world.drain.send_replace(Some(Drain::default()));
        assert!(world.replication.going().contains(&"a".parse().unwrap()), "no gate waits for it");
        assert!(world.replication.may_release().is_ok());
        assert_eq!(world.replication.may_issue().unwrap_err().reason(), Reason::NotReady);
        assert!(world.replication.obstacles()[0].contains("banyan replica undrain a"));
    }
}
