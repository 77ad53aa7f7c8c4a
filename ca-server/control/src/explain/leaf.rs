//! What is known of a leaf and of who holds it.

use ledger::{LiveRow, Standing};
use trust::Serial;

use super::holder::{AgentSeen, Leaf};
use super::listening::Listening;
use crate::bans;
use crate::ca::Ca;

/// What is known of a leaf and its holder.
pub fn leaf(ca: &Ca, live: &LiveRow) -> Leaf {
    let row = &live.row;
    let session =
        row.agent.as_deref().and_then(|agent| ca.sessions.find(agent)).unwrap_or_default();
    let about = |serial: Option<Serial>| serial.is_none_or(|serial| serial == row.serial);
    let refuses =
        session.refusing.into_iter().find(|(serial, _)| about(*serial)).map(|(_, reason)| reason);
    let said = session.probing.get(&row.serial).cloned();
    let listening = live.is_listening().then(|| Listening { standing: Standing::of(live), said });
    let (connected, last_seen) = (session.streams > 0, session.last_seen);
    Leaf {
        kind: row.kind,
        identity: row.identity.to_string(),
        serial: row.serial,
        agent: row.agent.clone().map(|name| AgentSeen { name, connected, last_seen }),
        born: row.born,
        newest: live.evidence.applied.newest(),
        not_after: row.not_after,
        refuses,
        listening,
        banned: bans::of_row(ca, row),
    }
}
