//! Leaves that may live, as operators see them: which gate each holds, and what it would mean to let one go.

use std::collections::BTreeSet;

use ledger::{LiveRow, RowKind, Standing};
use registry::Coverage;
use rotation::State;
use rotation::evidence::GateName;
use trust::{Cover, RootId, SpiffeId, Timestamp};

use crate::ca::Ca;

/// Leaves that are named in a status.
const NAMED_MAX: usize = 8;

/// A leaf that may live.
#[derive(Clone, Debug)]
pub struct LeafView {
    /// Its row.
    pub live: LiveRow,
    /// The gate that it holds.
    pub holds: Option<GateName>,
    /// Whether the agent that reports about it is connected, and when that was heard of last; the epoch if never.
    pub agent_connected: bool,
    /// When that was heard of last; the epoch if never.
    pub agent_last_seen: Timestamp,
    /// Whether that may be connected to another server, of which this one does not know.
    pub agent_may_be_elsewhere: bool,
    /// Whether an operator revoked it.
    pub revoked: bool,
}

/// What it would mean to let a leaf go.
#[derive(Clone, Debug)]
pub struct Letting {
    /// The leaf.
    pub leaf: LeafView,
    /// Who would break if it is held after all.
    pub risk: String,
}

/// The gate of the rotation under way, and what a row must be to hold it.
pub struct Gate<'a> {
    ca: &'a Ca,
    state: &'a State,
    coverage: Coverage,
    waived: BTreeSet<Cover>,
}

impl<'a> Gate<'a> {
    /// Of this state.
    pub fn of(ca: &'a Ca, state: &'a State) -> Self {
        let waived = ca.registry.waived(ca.clock.now());
        Self { ca, state, coverage: ca.registry.coverage(), waived }
    }

    /// Its name, if the rotation is at one.
    pub fn name(&self) -> Option<GateName> {
        self.state.phase.gate_name()
    }

    /// The root whose leaves the leaf gate waits for.
    pub fn draining(&self) -> Option<RootId> {
        self.state.phase.draining().map(|phase| phase.from)
    }

    /// Whether this row keeps it closed.
    pub fn is_held_by(&self, live: &LiveRow) -> bool {
        live.counts()
            && match self.name() {
                None => false,
                Some(GateName::Leaves) => self.draining() == Some(live.row.root),
                Some(GateName::Trust | GateName::Canary | GateName::Converged) => {
                    self.lacks_trust(live)
                }
            }
    }

    /// How many leaves keep it closed.
    pub fn holders(&self) -> u64 {
        match self.name() {
            None => 0,
            Some(GateName::Leaves) => {
                self.draining().map_or(0, |root| self.ca.ledger.aggregates().under(&root).rows)
            }
            Some(GateName::Trust | GateName::Canary | GateName::Converged) => {
                self.ca.evidence.unproven(self.state, None).rows()
            }
        }
    }

    fn lacks_trust(&self, live: &LiveRow) -> bool {
        let required = self.ca.evidence.asked(self.state, live.row.kind);
        let (row, sequence) = (&live.row, self.state.sequence);
        let unproven = Standing::of(live).is_unproven(sequence, required);
        let confirmed = live.is_own_trust() && self.coverage.has(&row.identity, sequence);
        unproven && !confirmed && !self.waived.iter().any(|cover| cover.has(&row.identity))
    }

    /// What it would mean to wait no longer until the holders that somebody speaks for trust the bundle: of each leaf of theirs
    /// that a gate would wait for now.
    pub fn waiving(&self, covers: &BTreeSet<Cover>) -> Vec<Letting> {
        let covered = |identity: &SpiffeId| covers.iter().any(|cover| cover.has(identity));
        let rows = self.ca.ledger.rows_of(covered);
        let lacking = rows.iter().filter(|live| self.lacks_trust(live));
        lacking.map(|live| self.preview(live)).collect()
    }

    /// A row, with what it means now.
    pub fn leaf(&self, live: &LiveRow) -> LeafView {
        let agent = live.row.agent.as_deref();
        let session = agent.and_then(|agent| self.ca.sessions.find(agent)).unwrap_or_default();
        LeafView {
            holds: self.name().filter(|_| self.is_held_by(live)),
            agent_connected: session.streams > 0,
            agent_last_seen: session.last_seen,
            agent_may_be_elsewhere: session.streams == 0 && self.ca.replication.others_serve(),
            revoked: self.ca.registry.revoked(&live.row.serial).is_some(),
            live: live.clone(),
        }
    }

    /// What it would mean to let a row go.
    pub fn preview(&self, live: &LiveRow) -> Letting {
        let leaf = self.leaf(live);
        Letting { risk: risk(&leaf), leaf }
    }
}

impl LeafView {
    /// What an operator said of it, and what came of that, in a word.
    pub const fn said(&self) -> &'static str {
        match (self.live.forgotten.stands(), self.live.forgotten.was_wrong()) {
            (true, _) => "forgotten",
            (_, true) => "held after all",
            _ if self.revoked => "revoked",
            _ => "",
        }
    }
}

/// Who would break if nobody waits for a leaf that is held after all, and until when.
fn risk(leaf: &LeafView) -> String {
    let row = &leaf.live.row;
    let (identity, until) = (&row.identity, row.not_after);
    let whose = match (row.kind, row.agent.as_deref()) {
        (RowKind::AgentIdentity, agent) => {
            format!("this is the own certificate of agent {}", agent.unwrap_or_default())
        }
        (_, None) => {
            format!(
                "no agent reports about {identity}, so only its holder knows whether it is in use"
            )
        }
        (_, Some(agent)) => format!("{identity} is held behind agent {agent}"),
    };
    let seen = match (row.agent.is_some(), leaf.agent_connected, leaf.agent_last_seen) {
        (false, ..) => String::new(),
        (_, true, _) => ", which is connected and has not given the leaf up".to_owned(),
        (_, false, _) if leaf.agent_may_be_elsewhere => {
            ", which is not connected to this server and may be to another (`banyan agent list` there)"
                .to_owned()
        }
        (_, false, seen) if seen == Timestamp::default() => {
            ", which has not been connected since this server started".to_owned()
        }
        (_, false, seen) => format!(", which is not connected (last heard of at {seen})"),
    };
    let breaks = match leaf.holds {
        None => "no gate waits for it now, and none of a later rotation would",
        Some(GateName::Leaves) => {
            "if it is in use, its connections fail once its root is withdrawn"
        }
        Some(GateName::Trust | GateName::Canary) => {
            "if it is in use, it may refuse everybody whose certificate is under the new root"
        }
        // The new root signs by then, or never will.
        Some(GateName::Converged) => {
            "if it is in use, its holder may go on trusting a root that has left the bundle"
        }
    };
    format!("{whose}{seen}; {breaks}; the leaf lives until {until}")
}

/// Leaves that an operator called gone and that are held after all, one sentence each.
pub fn held_after_all(ca: &Ca) -> Vec<String> {
    let rows = ca.ledger.forgotten();
    let wrong = rows.iter().filter(|live| live.forgotten.was_wrong() && live.counts());
    let said = |live: &LiveRow| {
        let row = &live.row;
        let by = match &row.agent {
            Some(agent) => format!("agent {agent} reports it"),
            None => "its holder used it here".to_owned(),
        };
        format!(
            "forgotten leaf still held: {} of {} was forgotten by an operator's word, and {by}: gates wait for it again until {}; stop its holder if it shall be gone, or leave it alone until it has a newer certificate",
            row.serial, row.identity, row.not_after
        )
    };
    wrong.take(NAMED_MAX).map(said).collect()
}
