//! What this server sees of the cohort of a canary: who has a leaf of the new root and is there, and what goes wrong with such
//! leaves. The machine judges the sum of what all servers see.
//!
//! Counted since the canary began or this server started, whichever is later; in memory alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger::{Ledger, LiveRow, Row, RowKind};
use registry::sessions::Sessions;
use rotation::{Canary, CohortSeen, Policy, RequestId, Share, State, Trouble};
use trust::plain::counted;
use trust::{Cohort, SpiffeId, Timestamp};

use crate::handshakes::{HandshakeCounts, Handshakes};

/// Holders that refused a leaf and are remembered; more than that hold any canary.
const REFUSED_MAX: usize = 10_000;
/// Members that are named.
const NAMED_MAX: usize = 5;
/// A look may take this part of the time.
const PART_OF_TIME: u32 = 20;

/// What is seen. Nothing is counted while there is no canary.
#[derive(Debug, Default)]
pub struct CanaryWatch(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The canary that all of this is about.
    of: Option<(RequestId, Timestamp)>,
    issued: u64,
    failed: u64,
    last_failure: String,
    /// Who refused a leaf, by agent and identity, and what they said.
    refused: BTreeMap<Member, String>,
    /// What their proxies had counted of handshakes when it was looked at them first.
    before: BTreeMap<Member, HandshakeCounts>,
    seen: Option<CohortSeen>,
    silent: Vec<String>,
    /// Uptime from which on it is looked again.
    next_look: Duration,
}

/// Where a look is taken.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// Rows of this server.
    pub ledger: &'a Ledger,
    /// Agents that are connected to it.
    pub sessions: &'a Sessions,
    /// What proxies count.
    pub handshakes: &'a Handshakes,
    /// A client that asks for its own leaves and has none that lives longer than this is taken to be gone.
    pub renewed_by: Timestamp,
}

impl CanaryWatch {
    /// A leaf was issued to a member of the cohort, or not.
    pub fn issued(&self, failure: Option<&dyn std::fmt::Display>) {
        let mut known = self.lock();
        if known.of.is_none() {
            return;
        }
        match failure {
            None => known.issued = known.issued.saturating_add(1),
            Some(why) => {
                known.failed = known.failed.saturating_add(1);
                known.last_failure = why.to_string();
            }
        }
    }

    /// A holder behind an agent refused what this row is about.
    pub fn refused(&self, state: &State, row: &Row, said: &str) {
        let Some(canary) = state.phase.canary() else { return };
        let Some(agent) = &row.agent else { return };
        let mut known = self.lock();
        known.begin(canary);
        if row.root == canary.to && known.refused.len() < REFUSED_MAX {
            known.refused.insert((agent.clone(), row.identity.clone()), said.to_owned());
        }
    }

    /// What was seen last; `None` while there is no canary, or nobody has looked yet.
    pub fn seen(&self) -> Option<CohortSeen> {
        self.lock().seen
    }

    /// Looks at every row, unless that was done a moment ago.
    pub fn look(&self, state: &State, at: Look<'_>, uptime: impl Fn() -> Duration) {
        let Some(canary) = state.phase.canary() else {
            return *self.lock() = Known::default();
        };
        let began = uptime();
        let mut known = self.lock();
        known.begin(canary);
        if began < known.next_look {
            return;
        }
        let refused = known.refused.clone();
        drop(known);
        let found = found(canary, at, &refused);
        let mut known = self.lock();
        known.next_look = began.saturating_add(uptime().saturating_sub(began) * PART_OF_TIME);
        known.silent = found.silent;
        let handshakes = known.handshakes(&found.members, at.handshakes);
        let trouble = Trouble { handshakes, ..known.trouble(&found.seen) };
        known.seen = Some(CohortSeen { trouble, ..found.seen });
    }

    /// What goes wrong here, by name, one sentence each.
    pub fn sentences(&self) -> Vec<String> {
        let known = self.lock();
        let failed = (known.failed > 0).then(|| {
            let times = counted(known.failed, "leaf", "leaves");
            format!(
                "{times} of the cohort could not be issued, the last one since {}",
                known.last_failure
            )
        });
        let refused = known.refused.iter().take(NAMED_MAX).map(|((agent, identity), said)| {
            format!("a holder of {identity} behind agent {agent} refused its leaf of the new root: {said}")
        });
        let silent = known.silent.iter().cloned();
        failed.into_iter().chain(refused).chain(silent).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What was counted for another canary counts for nothing.
    fn begin(&mut self, canary: &Canary) {
        let of = Some((canary.rotation.request_id.clone(), canary.since));
        if self.of != of {
            *self = Self { of, ..Self::default() };
        }
    }

    fn trouble(&self, seen: &CohortSeen) -> Trouble {
        let refused = u64::try_from(self.refused.len()).unwrap_or(u64::MAX);
        Trouble {
            issue_errors: Share { bad: self.failed, of: self.issued.saturating_add(self.failed) },
            refused: Share { bad: refused, of: seen.taken.saturating_add(refused) },
            ..Trouble::default()
        }
    }
}

impl Known {
    /// Handshakes since it was looked at a member first, and how many of them failed beyond what failed before: a proxy that
    /// strangers knock at counts failures under any root.
    fn handshakes(&mut self, members: &BTreeSet<Member>, counted: &Handshakes) -> Share {
        let mut all = Share::default();
        for member in members {
            let Some(tally) = counted.find(&member.0, &member.1) else { continue };
            let before = *self.before.entry(member.clone()).or_insert(tally.counts);
            let Some(since) = tally.counts.since(&before) else { continue };
            let total =
                |counts: &HandshakeCounts| counts.handshakes.saturating_add(counts.failed());
            let usual = u128::from(total(&since)) * u128::from(before.failed())
                / u128::from(total(&before).max(1));
            let usual = u64::try_from(usual).unwrap_or(u64::MAX);
            all.bad = all.bad.saturating_add(since.failed().saturating_sub(usual));
            all.of = all.of.saturating_add(total(&since));
        }
        all
    }
}

/// Who holds a leaf: below which agent, and as whom.
type Member = (String, SpiffeId);

struct Found {
    seen: CohortSeen,
    silent: Vec<String>,
    /// Who holds a leaf of the new root.
    members: BTreeSet<Member>,
}

fn found(canary: &Canary, at: Look<'_>, refused: &BTreeMap<Member, String>) -> Found {
    let of_cohort = |row: &Row| {
        row.root == canary.to && !row.identity.is_reserved()
            || row.root == canary.from && canary.cohort.has(&row.identity)
    };
    let rows: Vec<LiveRow> =
        at.ledger.rows_where(of_cohort).into_iter().filter(LiveRow::counts).collect();
    // Who asks for its own leaves keeps the former one to its end, so the last of each tells.
    let mut last: BTreeMap<&SpiffeId, Timestamp> = BTreeMap::new();
    for row in rows.iter().map(|live| &live.row).filter(|row| row.agent.is_none()) {
        let known = last.entry(&row.identity).or_default();
        *known = row.not_after.max(*known);
    }
    let (mut seen, mut silent) = (CohortSeen::default(), Vec::new());
    let mut members = BTreeSet::new();
    for row in rows.iter().map(|live| &live.row) {
        if row.root == canary.from {
            seen.waiting += 1;
            continue;
        }
        let (is_there, why) = match (row.kind, &row.agent) {
            (RowKind::AgentHeld | RowKind::AgentIdentity, Some(agent)) => {
                let refuses = refused.contains_key(&(agent.clone(), row.identity.clone()));
                if refuses {
                    continue;
                }
                members.insert((agent.clone(), row.identity.clone()));
                (
                    at.sessions.is_connected(agent),
                    format!("behind agent {agent}, which is not connected"),
                )
            }
            (RowKind::Own | RowKind::Probe, _) => continue,
            _ => {
                let renews = last.get(&row.identity).is_some_and(|last| *last > at.renewed_by);
                (renews, "that asks for its own leaves, and has not for long".to_owned())
            }
        };
        match is_there {
            true => seen.taken += 1,
            false => {
                seen.silent += 1;
                if silent.len() < NAMED_MAX {
                    silent.push(format!(
                        "a member of the cohort is not there: {}, {why}",
                        row.identity
                    ));
                }
            }
        }
    }
    Found { seen, silent, members }
}

/// A canary as people are told of it.
#[derive(Clone, Debug)]
pub struct CohortView {
    /// For whom the new root signs, or will.
    pub cohort: Cohort,
    /// What is seen of them.
    pub seen: CohortSeen,
    /// What holds it, which nobody asked for.
    pub held_for: Option<Trouble>,
    /// How long it was seen to be well.
    pub observed_for: Duration,
    /// How long that must be.
    pub observe: Duration,
}

/// The canary of the rotation that is under way, if it has one, with what was seen of it at an uptime.
pub fn view(
    state: &State,
    seen: Option<(CohortSeen, Duration)>,
    policy: &Policy,
) -> Option<CohortView> {
    let observe = policy.canary_observe;
    let Some(canary) = state.phase.canary() else {
        let cohort = state.phase.rotation()?.canary.clone()?;
        let (seen, observed_for) = (CohortSeen::default(), Duration::ZERO);
        return Some(CohortView { cohort, seen, held_for: None, observed_for, observe });
    };
    let (seen, uptime) = seen.unwrap_or_default();
    // Of several servers the one that watches counts it on its own clock.
    let observed_for = canary.observing.map(|began| uptime.saturating_sub(began));
    Some(CohortView {
        cohort: canary.cohort.clone(),
        seen,
        held_for: canary.trouble,
        observed_for: observed_for.unwrap_or_default().min(observe),
        observe,
    })
}

/// What is wrong with a canary that is under way, one sentence each, with what to do.
pub fn conditions(state: &State, seen: Option<&CohortSeen>) -> Vec<String> {
    let Some(canary) = state.phase.canary() else { return Vec::new() };
    if let Some(trouble) = &canary.trouble {
        return vec![format!(
            "the canary is held since {} of the leaves of the new root: `banyan rotate explain` names them; take them back with \
             `banyan rotate rollback`, or mend what is wrong and go on with `banyan rotate resume --by NAME --reason TEXT`",
            trouble.in_words()
        )];
    }
    let Some(seen) = seen.filter(|seen| seen.silent > seen.taken) else { return Vec::new() };
    let (silent, all) = (seen.silent, seen.all());
    vec![format!(
        "{silent} of {all} leaves of the canary's cohort are of members that are not there, so nothing is known of the new root: \
         `banyan rotate explain` names some; look at them, or take it back with `banyan rotate rollback`, or let the new root \
         sign for more with `banyan rotate widen`"
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshakes::HandshakeReport;

    fn counts(handshakes: u64, connection_errors: u64) -> HandshakeCounts {
        HandshakeCounts { handshakes, connection_errors, refused_peers: 0 }
    }

    #[test]
    fn only_handshakes_that_fail_more_often_than_before_are_trouble() {
        let (heard, web) =
            (Handshakes::default(), SpiffeId::parse("spiffe://example.org/web").unwrap());
        let say = |counts| {
            let report = HandshakeReport { counts, ..HandshakeReport::default() };
            heard.heard("node-1", &web, report, Timestamp::from_secs(9));
        };
        let members = [("node-1".to_owned(), web.clone()), ("node-2".to_owned(), web.clone())];
        let (members, mut known) = (BTreeSet::from(members), Known::default());
        let mut seen = || {
            let share = known.handshakes(&members, &heard);
            (share.bad, share.of)
        };
        say(counts(900, 100));
        assert_eq!(seen(), (0, 0), "what was before says nothing of the new root");
        say(counts(990, 110));
        assert_eq!(seen(), (0, 100), "one in ten fails as before");
        say(counts(990, 150));
        assert_eq!(seen(), (36, 140));
    }
}
