//! A running CA in one look.

use std::sync::Arc;

use rotation::State;
use trust::{BundleDigest, RootId, Sequence, SpiffeId, Timestamp};

use crate::ca::Ca;
use crate::conditions;
use crate::roster::{self, AgentView, Roster};

/// All of it, at one moment.
#[derive(Debug)]
pub(crate) struct Status {
    /// The record.
    pub(crate) state: Arc<State>,
    /// The id of this replica.
    pub(crate) id: SpiffeId,
    pub(crate) replica: String,
    pub(crate) started_at: Timestamp,
    /// The bundle in force.
    pub(crate) sequence: Sequence,
    pub(crate) digest: BundleDigest,
    /// The root that signs, and the end of the chain below it.
    pub(crate) active_root: RootId,
    pub(crate) issuer_not_after: Timestamp,
    pub(crate) ledger: LedgerFigures,
    /// All agents in a few numbers.
    pub(crate) roster: Roster,
    /// Those of them that are worth a look.
    pub(crate) agents: Vec<AgentView>,
    /// Leaves that were issued, and requests that were refused, since the start.
    pub(crate) issued_total: u64,
    pub(crate) refused_total: u64,
    /// What is wrong, one sentence each; empty while the server is well.
    pub(crate) conditions: Vec<String>,
    /// What waits for a person and is not wrong.
    pub(crate) waiting: Vec<String>,
}

/// The ledger in a few numbers.
#[derive(Debug)]
pub(crate) struct LedgerFigures {
    /// The segment that is written.
    pub(crate) segment: String,
    pub(crate) live_rows: u64,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Rows whose holders are not known to trust the bundle in force.
    pub(crate) unproven_rows: u64,
}

/// The whole state in one look.
pub(crate) fn of(ca: &Ca) -> Status {
    let (state, snapshot) = (ca.driver.state(), ca.cell.load());
    let (issued_total, refused_total) = ca.metrics.totals();
    let conditions = conditions::conditions(ca, &state);
    let roster = roster::roster(ca);
    let agents = ca.registry.agents_named(&roster.excerpt).into_iter();
    Status {
        agents: agents.map(|agent| AgentView::of(ca, agent)).collect(),
        state,
        id: ca.id.clone(),
        replica: ca.replica.clone(),
        started_at: ca.started_at,
        sequence: snapshot.bundle().sequence(),
        digest: snapshot.bundle().digest(),
        active_root: snapshot.signer().root(),
        issuer_not_after: snapshot.signer().validity().not_after(),
        ledger: ledger(ca, snapshot.bundle().sequence()),
        roster,
        issued_total,
        refused_total,
        conditions,
        waiting: conditions::persons(ca),
    }
}

fn ledger(ca: &Ca, sequence: Sequence) -> LedgerFigures {
    let (stats, rows) = (ca.ledger.stats(), ca.ledger.aggregates());
    LedgerFigures {
        segment: ca.ledger.segment().as_str().to_owned(),
        live_rows: rows.all().rows,
        files: stats.files.try_into().unwrap_or(u64::MAX),
        bytes: stats.bytes,
        unproven_rows: ca.evidence.unproven(sequence, None).rows(),
    }
}
