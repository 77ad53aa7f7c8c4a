//! Looks at a plan while it runs: phases, who holds the gate, trust and leaves over time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use control::explain::kind_name;
use ledger::{Aggregates, RowKind, Standing};
use rotation::State;
use rotation::evidence::{Gate, GateName, Hold};
use rotation_driver::DriverHandle;
use serde::Serialize;
use trust::{RootId, Sequence, Timestamp};

use crate::clock::PlanClock;
use crate::server::Server;

/// Kinds of leaves, in the order in which they are told.
pub(crate) const KINDS: [RowKind; 5] = [
    RowKind::AgentHeld,
    RowKind::AgentIdentity,
    RowKind::CsrOnly,
    RowKind::ChannelTrusted,
    RowKind::Own,
];

/// One moment of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct Moment {
    /// Seconds since the rotation was asked for; less than 0 before.
    pub seconds: i64,
    /// The phase.
    pub phase: &'static str,
    /// Leaves that live.
    pub leaves: u64,
    /// Leaves under the root that goes.
    pub old: u64,
    /// Leaves under the new root.
    pub new: u64,
    /// Leaves whose holders are known to trust the new root; 0 before it is published.
    pub trusting: u64,
    /// Leaves that hold the gate of the phase, by kind.
    pub holding: BTreeMap<&'static str, u64>,
    /// Requests for leaves a second, over the time since the moment before.
    pub csr_per_second: f64,
}

/// What a gate waited for.
#[derive(Debug, Clone)]
pub(crate) struct Waited {
    pub(crate) gate: GateName,
    /// For each kind: how many held it when it was looked at first, and the last second at which one did.
    pub(crate) kinds: BTreeMap<&'static str, Kind>,
    /// What was seen last of it before it opened, other than handshakes in flight.
    pub(crate) last: Option<(i64, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) at_most: u64,
    pub(crate) until: i64,
}

/// When phases began, in milliseconds since the plan did.
#[derive(Debug, Default)]
pub(crate) struct Phases(Mutex<Vec<(u64, &'static str)>>);

impl Phases {
    /// Notes each until the driver has stopped.
    pub(crate) async fn note(self: Arc<Self>, driver: DriverHandle, clock: Arc<PlanClock>) {
        let mut changes = driver.changes();
        loop {
            let phase = changes.borrow_and_update().phase.name();
            self.add(clock.elapsed_millis(), phase);
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn add(&self, millis: u64, phase: &'static str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.last().is_none_or(|(_, last)| *last != phase) {
            all.push((millis, phase));
        }
    }

    pub(crate) fn all(&self) -> Vec<(u64, &'static str)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What was seen so far.
pub(crate) struct Watcher {
    /// The root that signs when the plan begins.
    old: RootId,
    /// The bundle that there is then.
    first: Sequence,
    /// When the rotation was asked for, in milliseconds since the plan began.
    begin: u64,
    pub(crate) moments: Vec<Moment>,
    pub(crate) waited: Vec<Waited>,
    /// The last end of any leaf under the old root, as far as it was seen.
    pub(crate) last_old: Option<Timestamp>,
    issued_until: u64,
    pub(crate) stuck: Vec<String>,
}

impl Watcher {
    pub(crate) const fn new(old: RootId, first: Sequence, begin: u64) -> Self {
        Self {
            old,
            first,
            begin,
            moments: Vec::new(),
            waited: Vec::new(),
            last_old: None,
            issued_until: 0,
            stuck: Vec::new(),
        }
    }

    /// Looks now.
    pub(crate) async fn look(&mut self, server: &Server, traffic: &crate::traffic::Traffic) {
        let now = server.clock.elapsed_millis();
        let seconds = self.seconds(now);
        let state = server.driver.state();
        let rows = server.ledger.aggregates();
        let old = rows.under(&self.old);
        self.last_old = self.last_old.max(old.latest_not_after);
        let all = rows.all().rows;
        // The bundle after the first is the one with both roots.
        let both = Sequence(self.first.0 + 1);
        let trusting = match state.sequence >= both {
            true => all - lacking(&rows, both, server, |_| true),
            false => 0,
        };
        let holding = holding(&state, &rows, server);
        let from = self.issued_until;
        let to = (now / 1_000).max(from);
        self.issued_until = to;
        let issued = traffic.issued(from, to);
        let csr_per_second = if to > from { per_second(issued, to - from) } else { 0.0 };
        self.moments.push(Moment {
            seconds,
            phase: state.phase.name(),
            leaves: all,
            old: old.rows,
            new: all - old.rows,
            trusting,
            holding,
            csr_per_second,
        });
    }

    /// Looks at the gate of the present phase, if it ends at one.
    pub(crate) async fn look_at_gate(&mut self, server: &Server) {
        let state = server.driver.state();
        let Some(gate) = server.gate(&state).await else { return };
        let seconds = self.seconds(server.clock.elapsed_millis());
        let holding = holding(&state, &server.ledger.aggregates(), server);
        self.note_gate(&gate, &holding, seconds);
    }

    /// Since the rotation was asked for.
    fn seconds(&self, millis: u64) -> i64 {
        signed(millis) / 1_000 - signed(self.begin) / 1_000
    }

    /// A hold, without what has a meaning in the plan alone: its dates, and the root's digits.
    fn said(&self, hold: &Hold) -> String {
        let said = hold.to_string();
        let said = said.split(", until ").next().unwrap_or_default();
        said.replace(&format!("root {}", self.old.short()), "the old root")
    }

    fn note_gate(&mut self, gate: &Gate, holding: &BTreeMap<&'static str, u64>, seconds: i64) {
        let holds: Vec<&Hold> =
            gate.holds.iter().filter(|hold| !matches!(hold, Hold::Settling { .. })).collect();
        let said: Vec<_> = holds.iter().map(|hold| self.said(hold)).collect();
        if self.waited.last().is_none_or(|waited| waited.gate != gate.name) {
            let (kinds, last) = (BTreeMap::new(), None);
            self.waited.push(Waited { gate: gate.name, kinds, last });
        }
        if let (Some(first), Some(waited)) = (said.first(), self.waited.last_mut()) {
            waited.last = Some((seconds, first.clone()));
            for (kind, count) in holding {
                let kind = waited.kinds.entry(kind).or_insert(Kind { at_most: 0, until: seconds });
                kind.at_most = kind.at_most.max(*count);
                kind.until = seconds;
            }
        }
        self.stuck = said;
        if gate.opens_at_latest.is_none() {
            self.stuck.extend(holds.iter().filter_map(|hold| hold.way()));
        }
    }
}

/// Who holds the gate of the present phase, by kind.
fn holding(state: &State, rows: &Aggregates, server: &Server) -> BTreeMap<&'static str, u64> {
    let counted = |kind: RowKind| match (state.phase.gate_name(), state.phase.draining()) {
        (Some(GateName::Leaves), Some(draining)) => {
            rows.tally(|row| row.kind == kind && row.root == draining.from).rows
        }
        (Some(_), _) => lacking(rows, state.sequence, server, |row| row.kind == kind),
        (None, _) => 0,
    };
    let counted = KINDS.into_iter().map(|kind| (kind_name(kind), counted(kind)));
    counted.filter(|(_, count)| *count > 0).collect()
}

/// Leaves whose holders are not known to have a bundle, by the evidence that a gate asks for.
fn lacking(
    rows: &Aggregates,
    sequence: Sequence,
    server: &Server,
    of: impl Fn(&Standing) -> bool,
) -> u64 {
    let lacks =
        |row: &Standing| of(row) && row.is_unproven(sequence, server.evidence.required(row.kind));
    rows.tally(lacks).rows
}

pub(crate) fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// To a tenth.
pub(crate) fn per_second(count: u64, seconds: u64) -> f64 {
    if seconds == 0 {
        return 0.0;
    }
    (count as f64 * 10.0 / seconds as f64).round() / 10.0
}
