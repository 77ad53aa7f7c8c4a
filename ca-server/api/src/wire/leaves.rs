//! Leaves as messages.

use proto::banyan::admin::v1::{ForgottenLeaf as ForgottenLeafMessage, Leaf as LeafMessage};

use control::explain::{class_name, kind_name};
use control::leaves::{LeafView, Letting};

/// A leaf that may live.
pub(crate) fn leaf(leaf: &LeafView) -> LeafMessage {
    let row = &leaf.live.row;
    let newest = leaf.live.evidence.applied.newest();
    LeafMessage {
        serial: row.serial.as_bytes().to_vec(),
        identity: row.identity.to_string(),
        kind: kind_name(row.kind).to_owned(),
        agent: row.agent.clone().unwrap_or_default(),
        root: row.root.as_bytes().to_vec(),
        issuer: row.issuer.as_bytes().to_vec(),
        not_after: row.not_after.as_secs(),
        born: row.born.0,
        applied: newest.map_or(0, |(sequence, _)| sequence.0),
        evidence: newest.map(|(_, class)| class_name(class)).unwrap_or_default().to_owned(),
        holds: leaf.holds.map(|gate| gate.to_string()).unwrap_or_default(),
        agent_connected: leaf.agent_connected,
        agent_last_seen: leaf.agent_last_seen.as_secs(),
        forgotten: leaf.said().to_owned(),
        own_trust: leaf.live.is_own_trust(),
    }
}

/// What it would mean to let a leaf go.
pub(crate) fn letting(letting: &Letting) -> ForgottenLeafMessage {
    ForgottenLeafMessage {
        held: letting.leaf.agent_connected,
        risk: letting.risk.clone(),
        leaf: Some(leaf(&letting.leaf)),
    }
}
