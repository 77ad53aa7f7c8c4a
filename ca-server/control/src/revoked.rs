//! Leaves that were revoked: what that does, and until when it does not.

use ledger::{LiveRow, RowKind};
use registry::Ban;
use rotation::evidence::GateName;

use crate::bans;
use crate::ca::Ca;
use crate::crl;
use crate::leaves::Gate;

/// What comes of revoking a leaf, in one sentence.
pub fn said(ca: &Ca, live: &LiveRow) -> String {
    let row = &live.row;
    let until = row.not_after;
    let banned = bans::of_row(ca, row).is_some();
    let next = match banned {
        true => {
            "it is banned, so it gets no other: a certificate that nobody believes takes its place"
        }
        false => "it gets another one, for it is not banned (`banyan ban add`)",
    };
    let at_holder = match (row.kind, row.agent.as_deref()) {
        (RowKind::AgentHeld, Some(agent)) if ca.sessions.is_connected(agent) => {
            format!("agent {agent} is connected and takes it from its holders at once; {next}")
        }
        (RowKind::AgentHeld, Some(agent)) => {
            let away = match ca.replication.others_serve() {
                true => {
                    "is not connected to this server: another one tells it at once if it is there, else it is told when it is back"
                }
                false => {
                    "is not connected: it is told when it is back, and its holders keep the leaf until then"
                }
            };
            format!("agent {agent} {away}; {next}")
        }
        _ => "nobody can take it from its holder; it asks here with another credential".to_owned(),
    };
    let gate = {
        let state = ca.driver.state();
        let gate = Gate::of(ca, &state);
        gate.name().filter(|name| *name != GateName::Converged && gate.is_held_by(live))
    };
    let waits =
        gate.map(|gate| format!("; the {gate} gate waits for it as before")).unwrap_or_default();
    let copies = match crl::holders::refusing(ca) {
        Some(lists) => format!(
            "{lists} refuse whoever kept a copy of it and its key within seconds; everybody else believes them until {until}"
        ),
        None => format!(
            "peers do not ask this CA, so whoever kept a copy of it and its key is believed until {until}, and only the end of its root \
             (`banyan root distrust`) ends that sooner"
        ),
    };
    format!("{}: {at_holder}; {copies}{waits}", row.identity)
}

/// As it was said before, of one that was revoked already.
pub fn again(live: &LiveRow, former: &Ban) -> String {
    let (by, at, until) = (&former.word.by, former.word.at, live.row.not_after);
    format!(
        "{}: revoked before, by {by} at {at}; nothing changes, and it ends at {until}",
        live.row.identity
    )
}
