//! A running CA in one look.

use std::sync::Arc;

use rotation::State;
use trust::{BundleDigest, RootId, Sequence, SpiffeId, Timestamp};

use crate::ca::Ca;
use crate::conditions;
use crate::roster::{self, AgentView, Roster};

/// All of it, at one moment.
#[derive(Debug)]
pub struct Status {
    /// The record.
    pub state: Arc<State>,
    /// The id of this replica.
    pub id: SpiffeId,
    /// The name of this replica.
    pub replica: String,
    /// When this process started.
    pub started_at: Timestamp,
    /// The bundle in force.
    pub sequence: Sequence,
    /// Its digest.
    pub digest: BundleDigest,
    /// The root that signs, and the end of the chain below it.
    pub active_root: RootId,
    /// The end of the chain below it.
    pub issuer_not_after: Timestamp,
    /// The ledger in a few numbers.
    pub ledger: LedgerFigures,
    /// All agents in a few numbers.
    pub roster: Roster,
    /// Those of them that are worth a look.
    pub agents: Vec<AgentView>,
    /// Leaves that were issued, and requests that were refused, since the start.
    pub issued_total: u64,
    /// Requests that were refused since the start.
    pub refused_total: u64,
    /// What is wrong, one sentence each; empty while the server is well.
    pub conditions: Vec<String>,
    /// What waits for a person and is not wrong.
    pub waiting: Vec<String>,
}

/// The ledger in a few numbers.
#[derive(Debug)]
pub struct LedgerFigures {
    /// The segment that is written.
    pub segment: String,
    /// Rows of leaves that may live.
    pub live_rows: u64,
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Rows whose holders are not known to trust the bundle in force.
    pub unproven_rows: u64,
}

/// The whole state in one look.
pub fn of(ca: &Ca) -> Status {
    let (state, snapshot) = (ca.driver.state(), ca.cell.load());
    let (issued_total, refused_total) = ca.metrics.totals();
    let conditions = conditions::conditions(ca, &state);
    let (roster, ledger) = (roster::roster(ca), ledger(ca, &state));
    let agents = ca.registry.agents_named(&roster.excerpt).into_iter();
    Status {
        agents: agents.map(|agent| AgentView::of(ca, agent)).collect(),
        state,
        id: ca.id.clone(),
        replica: ca.replica.to_string(),
        started_at: ca.started_at,
        sequence: snapshot.bundle().sequence(),
        digest: snapshot.bundle().digest(),
        active_root: snapshot.signer().root(),
        issuer_not_after: snapshot.signer().validity().not_after(),
        ledger,
        roster,
        issued_total,
        refused_total,
        conditions,
        waiting: conditions::persons(ca),
    }
}

fn ledger(ca: &Ca, state: &State) -> LedgerFigures {
    let (stats, rows) = (ca.ledger.stats(), ca.ledger.aggregates());
    LedgerFigures {
        segment: ca.ledger.segment().as_str().to_owned(),
        live_rows: rows.all().rows,
        files: stats.files.try_into().unwrap_or(u64::MAX),
        bytes: stats.bytes,
        unproven_rows: ca.evidence.unproven(state, None).rows(),
    }
}
