//! What a rotation that starts now would wait for, said before anybody asks for one.

use std::time::Duration;

use ledger::RowKind;
use rotation::State;
use trust::Timestamp;

use crate::ca::Ca;
use crate::explain::{KINDS, kind_name};
use crate::own_trust;

/// Holders with trust of their own that are named.
const NAMED_MAX: usize = 16;

/// One sentence for each thing.
pub(crate) fn of(ca: &Ca, state: &State) -> Vec<String> {
    let (rows, now) = (ca.ledger.aggregates(), ca.clock.now());
    let mut said = Vec::new();
    for kind in KINDS {
        let tally = rows.tally(|standing| standing.kind == kind && !standing.own_trust);
        let Some(last) = tally.latest_not_after else { continue };
        said.push(format!(
            "{} {} leaves live, the last until {last}: {}",
            tally.rows,
            kind_name(kind),
            waited(kind)
        ));
    }
    let own_trust = own_trust::forecast(ca, NAMED_MAX);
    said.extend(own_trust.said);
    for (name, row) in ca.registry.subscribers() {
        said.push(match row.staleness {
            Some(bound) => format!("subscriber {name} must confirm, or is waited for {} s", bound.as_secs()),
            None => format!("subscriber {name} must confirm by its word: `banyan subscriber confirm {name}`"),
        });
    }
    let mut last_issuer = None;
    for tier in ca.below.tiers() {
        let Some(until) = tier.until(&ca.policy, now) else { continue };
        last_issuer = last_issuer.max(Some(until));
        let name = &tier.name;
        said.push(format!(
            "tier {name} must report each step, or is waited for until its last issuer ends at {until}"
        ));
    }
    if let Some(entry) = state.signer().and_then(|signer| state.roots.get(&signer.root)) {
        said.push(format!("the root that signs ends at {}", entry.not_after));
        if ca.above.has(entry.authority.as_str()) {
            said.push(
                "it is a root of the tier above, whose rotations are followed here: start them there"
                    .to_owned(),
            );
        } else if !entry.exclusive {
            said.push(
                "others issue under the root that signs: leaves of theirs are not counted, so whoever holds one should \
                 be a subscriber (`banyan subscriber add`), and the root goes only when somebody vouches that they have \
                 stopped (`banyan root vouch`)"
                    .to_owned(),
            );
        }
    }
    let mut unbounded = ca.registry.subscribers().into_iter().filter(|(_, row)| row.staleness.is_none());
    let gate = trust_at_most(ca, rows.all().latest_not_after.max(last_issuer), now);
    let first = unbounded.next();
    let never = first.is_some() || own_trust.never;
    said.push(match first {
        Some((name, _)) => format!(
            "the new root never signs by itself: the trust gate stays closed until {name}{} confirms",
            match unbounded.count() {
                0 => String::new(),
                more => format!(", and {more} more without staleness bound,"),
            }
        ),
        None if own_trust.never => {
            "the new root never signs by itself: the trust gate stays closed until a subscriber's word covers those that take \
             no validation secret from their agents"
                .to_owned()
        }
        None => {
            format!("if nobody confirms anything, the new root signs in {} s at the latest", gate.as_secs())
        }
    });
    if is_unvouched(ca, state) {
        said.push(
            "the former root never leaves by itself: the leaf gate stays closed until somebody vouches for it"
                .to_owned(),
        );
        return said;
    }
    let tiers = last_issuer.map_or(Duration::ZERO, |last| trust_at_most(ca, Some(last), now));
    let most = ca.policy.rotation_at_most().max(tiers.saturating_mul(2));
    said.push(match never {
        true => "the former root's last leaf ends only after that".to_owned(),
        false => format!("and the former root's last leaf ends {} s from now at the latest", most.as_secs()),
    });
    said
}

/// Whether others issue under the root that signs, and nobody has vouched that they stopped.
fn is_unvouched(ca: &Ca, state: &State) -> bool {
    let Some(root) = state.signer().map(|signer| signer.root) else { return false };
    state.roots.get(&root).is_some_and(|entry| {
        let is_above = ca.above.has(entry.authority.as_str());
        !entry.exclusive && !is_above && ca.evidence.foreign(&root, entry).is_none()
    })
}

const fn waited(kind: RowKind) -> &'static str {
    match kind {
        RowKind::AgentHeld | RowKind::AgentIdentity => {
            "their agents confirm the bundle and renew, or they are waited for"
        }
        RowKind::CsrOnly => "each gate waits until the last of them has ended or asked again",
        RowKind::ChannelTrusted => "they are waited for to their end",
        RowKind::Own => "this server renews them itself",
    }
}

fn trust_at_most(ca: &Ca, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let left = last.map_or(Duration::ZERO, |last| last.since(now));
    left + ca.policy.skew * 2 + ca.policy.settle
}
