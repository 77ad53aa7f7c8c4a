//! Holders that take their leaves from an agent or a signer and their trust from elsewhere: who they are, what is missing, and what can be
//! done about it. No time proves anything of them: their next leaf says as little as this one.

use std::collections::BTreeMap;

use ledger::{LiveRow, RowKind};
use registry::RelyingPartyRow;
use trust::{Sequence, SpiffeId};

use crate::ca::Ca;
use crate::explain::{self, Ends, Has, Holder, Leaf, Needs, Who, kind_name};
use trust::plain::about;

/// Rows that are looked through for those to be named.
const LOOKED_THROUGH_MAX: usize = 4_096;

type Covered = BTreeMap<SpiffeId, Vec<(String, RelyingPartyRow)>>;

/// Those that keep the gate of a bundle closed, as holders of it; at most `limit`. `ends` is when the gate goes on without
/// them.
pub(crate) fn holders(ca: &Ca, wanted: Sequence, ends: Ends, limit: usize) -> Vec<Holder> {
    let covered = ca.registry.covered();
    let holds = |live: &LiveRow| {
        let unproven = live.evidence.applied.by(ca.evidence.required(live.row.kind)) < wanted;
        unproven && !is_confirmed(&covered, &live.row.identity, wanted)
    };
    let rows = ca.ledger.own_trust(LOOKED_THROUGH_MAX);
    rows.iter()
        .filter(|live| holds(live))
        .take(limit)
        .map(|live| holder(ca, live, wanted, ends, &covered))
        .collect()
}

/// What a rotation that starts now would wait for, one sentence for each identity; at most `limit` are named.
pub(crate) fn forecast(ca: &Ca, limit: usize) -> Forecast {
    let covered = ca.registry.covered();
    let mut held: BTreeMap<SpiffeId, (RowKind, String)> = BTreeMap::new();
    for live in ca.ledger.own_trust(LOOKED_THROUGH_MAX) {
        let agent = live.row.agent.clone().unwrap_or_default();
        held.insert(live.row.identity.clone(), (live.row.kind, agent));
    }
    let identities = held.len();
    let open = held.keys().any(|identity| !covered.contains_key(identity));
    let never = open && ca.evidence.own_trust_after().is_none();
    let named = held.iter().take(limit).map(|(identity, (kind, agent))| {
        let missing = match kind {
            RowKind::ChannelTrusted => {
                format!("{identity} ({}) has its roots from a channel", kind_name(*kind))
            }
            _ => format!(
                "{identity} (agent-held, agent {agent}) takes no validation secret from its agent"
            ),
        };
        match covered.get(identity) {
            Some(by) => format!("{missing}: {} must confirm for it", names(by)),
            None => {
                format!(
                    "{missing}, and no time opens the trust gate over it: {}",
                    advice(*kind, identity)
                )
            }
        }
    });
    let more = identities.saturating_sub(limit);
    let rest = (more > 0)
        .then(|| format!("{more} more identities are held with trust of their holders' own"));
    let assumed = ca.evidence.own_trust_after().filter(|_| identities > 0).map(|after| {
        format!(
            "holders with trust of their own that nobody covers are assumed to trust the new root after {} \
             (rotation.own_trust_after)",
            about(after)
        )
    });
    Forecast { said: named.chain(rest).chain(assumed).collect(), never }
}

/// What is known before a rotation starts.
#[derive(Debug)]
pub(crate) struct Forecast {
    pub(crate) said: Vec<String>,
    /// Whether the trust gate opens by no time of its own.
    pub(crate) never: bool,
}

pub(crate) fn is_confirmed(covered: &Covered, identity: &SpiffeId, wanted: Sequence) -> bool {
    covered.get(identity).is_some_and(|by| by.iter().all(|(_, row)| row.has(wanted)))
}

fn holder(ca: &Ca, live: &LiveRow, wanted: Sequence, ends: Ends, covered: &Covered) -> Holder {
    let row = &live.row;
    let Leaf { kind, identity, serial, agent, born, refuses, .. } = explain::leaf(ca, live);
    let way = match covered.get(&row.identity) {
        Some(by) => {
            let names = names(by);
            format!(
                "{names} must confirm for it: once its file holds what `banyan root list --pem` prints, \
                 `banyan relying-party confirm {}`",
                by.first().map(|(name, _)| name.as_str()).unwrap_or_default()
            )
        }
        None => advice(kind, &row.identity),
    };
    let goes_on = match ends {
        Ends::At(at) => format!("the gate goes on without it at {at}"),
        Ends::ByWord => "no time opens the gate over it".to_owned(),
    };
    let named = agent.as_ref().map(|agent| agent.name.clone()).unwrap_or_default();
    let who = match kind {
        RowKind::ChannelTrusted => {
            format!("{identity} ({}): has its roots from a channel", kind_name(kind))
        }
        _ => format!(
            "{identity} ({}, agent {named}): takes its certificate from its agent and no validation secret, or one that it took \
             stays away",
            kind_name(kind)
        ),
    };
    let text =
        format!("{who}, so nothing tells whether it trusts bundle {wanted}; {goes_on}: {way}");
    Holder {
        who: Who::Leaf { kind, identity, serial, own_trust: true },
        agent,
        has: Has::OwnTrust { born },
        needs: Needs::WordFor { sequence: wanted },
        ends,
        refuses,
        more: Some(text),
    }
}

/// What can be done: two ways, and both can be followed.
fn advice(kind: RowKind, identity: &SpiffeId) -> String {
    let first = match kind {
        RowKind::ChannelTrusted => format!(
            "write {identity} into `covers` of the channel of kubernetes.toml that it has its roots from"
        ),
        _ => "let it take its roots from the agent (SDS secret ROOTCA)".to_owned(),
    };
    format!(
        "{first}, or name who answers for its roots with `banyan relying-party add NAME --covers {identity}`, and once they hold \
         what `banyan root list --pem` prints, `banyan relying-party confirm NAME`"
    )
}

fn names(by: &[(String, RelyingPartyRow)]) -> String {
    let names: Vec<_> = by.iter().map(|(name, _)| name.as_str()).collect();
    format!("relying party {}", names.join(" and "))
}
