//! Who has the lists, as agents say.

use std::sync::Arc;

use ledger::{LiveRow, RowKind};
use trust::Timestamp;
use trust::plain::counted;

use super::{CrlSettings, Lists};
use crate::ca::Ca;

/// Leaves that are named.
const NAMED_MAX: usize = 100;

/// What operators see of the lists.
#[derive(Clone, Debug)]
pub struct CrlView {
    /// How they are kept, if they are.
    pub settings: Option<CrlSettings>,
    /// The lists.
    pub lists: Arc<Lists>,
    /// Leaves behind agents.
    pub holders: usize,
    /// Those of them whose holders have the newest entries.
    pub with: usize,
    /// Some of the others.
    pub lacking: Vec<Lacking>,
    /// Leaves whose holders have no agent.
    pub beyond_agents: usize,
}

/// A leaf whose holders do not all have the newest entries.
#[derive(Clone, Debug)]
pub struct Lacking {
    /// Its row.
    pub live: LiveRow,
    /// Whether its agent is connected.
    pub agent_connected: bool,
    /// The number that its holders have; 0 for none.
    pub has: u64,
    /// When that was said; the epoch if it never was.
    pub since: Timestamp,
}

/// The lists, and who has them.
pub fn view(ca: &Ca) -> CrlView {
    let lists = ca.crl.lists();
    let rows = ca.ledger.rows_where(|row| {
        matches!(row.kind, RowKind::AgentHeld | RowKind::CsrOnly | RowKind::ChannelTrusted)
    });
    let (held, beyond): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|live| live.row.kind == RowKind::AgentHeld);
    let holders = held.len();
    let wanted = lists.changed_number.max(1);
    let lacks = |live: LiveRow| {
        let applied = ca.crl.applied(&live.row.serial);
        let has = applied.map_or(0, |applied| applied.number);
        let agent = live.row.agent.as_deref().unwrap_or_default();
        let agent_connected = ca.sessions.is_connected(agent);
        (has < wanted).then_some(Lacking {
            agent_connected,
            has,
            since: applied.map(|applied| applied.at).unwrap_or_default(),
            live,
        })
    };
    let mut lacking: Vec<_> = held.into_iter().filter_map(lacks).collect();
    let with = holders - lacking.len();
    lacking.sort_by(|a, b| a.live.row.identity.cmp(&b.live.row.identity));
    lacking.truncate(NAMED_MAX);
    CrlView {
        settings: ca.crl.settings(),
        lists,
        holders,
        with,
        lacking,
        beyond_agents: beyond.len(),
    }
}

/// Who refuses a leaf soon after it was put on a list; `None` where agents have no lists.
pub fn refusing(ca: &Ca) -> Option<String> {
    ca.crl.settings()?;
    let CrlView { lists, holders, with, .. } = view(ca);
    lists.without.is_none().then(|| {
        format!(
            "peers that have the revocation lists ({with} of {} behind agents by now; `banyan crl show` names the others)",
            counted(holders, "leaf", "leaves")
        )
    })
}

/// What is wrong with the lists that the configuration asks for, one sentence.
pub fn condition(ca: &Ca) -> Option<String> {
    ca.crl.settings()?;
    let lists = ca.crl.lists();
    let why = lists.without.as_ref()?;
    Some(format!(
        "crl.enabled is set and agents do without revocation lists, so peers believe a revoked leaf until its end: {why}"
    ))
}
