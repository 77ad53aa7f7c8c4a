//! Holders that take their leaves from an agent or a signer and their trust from elsewhere: who they are, what is missing, and what can be
//! done about it. No time proves anything of them: their next leaf says as little as this one.

use std::collections::BTreeMap;

use ledger::{LiveRow, RowKind};
use registry::{Coverage, RelyingPartyRow};
use trust::{Cover, Sequence, SpiffeId};

use crate::ca::Ca;
use crate::explain::{self, Ends, Has, Holder, Leaf, Needs, Who, kind_name};
use trust::plain::about;

/// Rows that are looked through for those to be named.
const LOOKED_THROUGH_MAX: usize = 4_096;
/// How the names of relying parties begin that are channels of a cluster: each confirms by itself.
const CHANNEL_PARTY: &str = "kubernetes/";

/// Those that keep the gate of a bundle closed, as holders of it; at most `limit`. `ends` is when the gate goes on without
/// them.
pub(crate) fn holders(ca: &Ca, wanted: Sequence, ends: Ends, limit: usize) -> Vec<Holder> {
    let coverage = ca.registry.coverage();
    let holds =
        |live: &LiveRow| live.evidence.applied.by(ca.evidence.required(live.row.kind)) < wanted;
    let waived = ca.registry.waived(ca.clock.now());
    let open = |identity: &SpiffeId| {
        !coverage.has(identity, wanted) && !waived.iter().any(|cover| cover.has(identity))
    };
    let rows = ca.ledger.own_trust(LOOKED_THROUGH_MAX, open);
    rows.iter()
        .filter(|live| holds(live))
        .take(limit)
        .map(|live| holder(ca, live, wanted, ends, &coverage))
        .collect()
}

/// What a rotation that starts now would wait for, one sentence for each identity; at most `limit` are named.
pub(crate) fn forecast(ca: &Ca, limit: usize) -> Forecast {
    let coverage = ca.registry.coverage();
    let mut held: BTreeMap<SpiffeId, (RowKind, String)> = BTreeMap::new();
    for live in ca.ledger.own_trust_of_each() {
        let agent = live.row.agent.clone().unwrap_or_default();
        held.insert(live.row.identity.clone(), (live.row.kind, agent));
    }
    let identities = held.len();
    let open = held.keys().any(|identity| coverage.covers(identity).is_empty());
    let never = open && ca.evidence.own_trust_after().is_none();
    // Those first over whom no time opens the gate.
    let mut ordered: Vec<_> = held.iter().collect();
    ordered.sort_by_key(|(identity, _)| !coverage.covers(identity).is_empty());
    let named = ordered.into_iter().take(limit).map(|(identity, (kind, agent))| {
        let missing = match kind {
            RowKind::ChannelTrusted => {
                format!("{identity} ({}) has its roots from a channel", kind_name(*kind))
            }
            _ => format!(
                "{identity} (agent-held, agent {agent}) takes no validation secret from its agent"
            ),
        };
        let by = coverage.by(identity);
        if by.is_empty() {
            let way = advice(*kind, identity);
            format!("{missing}, and no time opens the trust gate over it: {way}")
        } else {
            format!("{missing}: {} must confirm for it", names(&by))
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

fn holder(ca: &Ca, live: &LiveRow, wanted: Sequence, ends: Ends, coverage: &Coverage) -> Holder {
    let row = &live.row;
    let Leaf { kind, identity, serial, agent, born, refuses, .. } = explain::leaf(ca, live);
    let by = coverage.by(&row.identity);
    let way = match by.first() {
        Some((first, _)) if first.starts_with(CHANNEL_PARTY) => format!(
            "{} must confirm for it, which it does by itself: /readyz of `banyan kubernetes` says what it waits for",
            names(&by)
        ),
        Some((first, _)) => {
            let names = names(&by);
            format!(
                "{names} must confirm for it: once its file holds what `banyan root list --pem` prints, \
                 `banyan relying-party confirm {first}`"
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
        unable: false,
    }
}

/// What can be done: two ways, and both can be followed.
fn advice(kind: RowKind, identity: &SpiffeId) -> String {
    let first = match kind {
        RowKind::ChannelTrusted => format!(
            "write {identity}, or all of its namespace as {}, into `covers` of the channel of kubernetes.toml that it has its roots \
             from",
            beside(identity)
        ),
        _ => "let it take its roots from the agent (SDS secret ROOTCA)".to_owned(),
    };
    format!(
        "{first}, or name who answers for its roots with `banyan relying-party add NAME --covers {identity}`, and once they hold \
         what `banyan root list --pem` prints, `banyan relying-party confirm NAME`"
    )
}

/// Everything beside an identity and below: of a service account, its namespace.
fn beside(identity: &SpiffeId) -> String {
    let above: Vec<_> = Cover::of(identity).filter(|cover| cover.one().is_none()).collect();
    let namespace = above.iter().rev().nth(1).or_else(|| above.last());
    namespace.map_or_else(|| identity.to_string(), ToString::to_string)
}

fn names(by: &[&(String, RelyingPartyRow)]) -> String {
    let names: Vec<_> = by.iter().map(|(name, _)| name.as_str()).collect();
    format!("relying party {}", names.join(" and "))
}
