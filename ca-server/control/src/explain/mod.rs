//! Where a rotation stands, and for the gate that it waits at: what holds it, who, and when it opens at the latest.
//!
//! The judgement is the machine's own ([`rotation::evidence::gate`]), and which verbs are legal is asked of
//! [`rotation::legal`]; here it is only put into words and names. `gate` and `holder` are what is said, pure.

mod explanation;
mod gate;
mod holder;
mod leaf;
mod listening;
mod lost;
mod names;
mod troubles;

use std::collections::BTreeMap;
use std::time::Duration;

use ledger::{Aggregates, EvidenceClass, Required, RowFilter, RowKind};
use rotation::evidence::{Gate, GateName, Hold};
use rotation::{Evidence, RootEntry, State};
use rotation_driver::EvidenceSource as _;
use trust::{RootId, Sequence, Timestamp};

use crate::ca::Ca;
use crate::canary;
use crate::exposure;
use crate::hierarchy::downstream::{Downstream, Told};
use crate::own_trust;
use crate::rehearsing;
use crate::seen;

pub use explanation::{Done, Explanation};
pub use gate::{GateView, Opening};
pub use holder::{Asked, Ends, Has, Holder, Leaf, Needs, Party, Round, Who};
pub use leaf::leaf;
pub use listening::Listening;
pub use names::{KINDS, class_name, kind_name, mode_name};

/// Holders that are named; the others are counted.
const HOLDERS_MAX: usize = 32;
/// Holders that a refused activation names, and the most bytes that it takes for that.
const NAMED_IN_REFUSAL: usize = 5;
const NAMES_LEN_MAX: usize = 512;
/// How long an authority may take before it is said that it has not answered.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Pages of the ledger that are looked through for holders of one kind.
const PAGES_MAX: usize = 10;

/// Where the rotation stands now.
pub async fn look(ca: &Ca) -> Explanation {
    let state = ca.driver.state();
    let evidence = ca.evidence.read(&state).await;
    let rows = ca.evidence.rows();
    let mut troubles = troubles::of_effects(ca);
    troubles.extend(unanswered(ca, &state));
    troubles.extend(exposure::conditions(&state));
    troubles.extend(troubles::of_cohort(ca, &state));
    troubles.extend(state.phase.rotation().and_then(|_| seen::sentence(&state)));
    let legal = rotation::legal(&state, evidence.as_ref().ok(), ca.clock.now(), &ca.policy);
    let total = rows.all().rows;
    let unproven = ca.evidence.unproven(&state, None).rows();
    let stays = state.phase.changes().map(|(_, to)| to).or(state.signing_root());
    let stays = stays.map(|root| rows.under(&root).rows).unwrap_or_default();
    let gate = match &evidence {
        Ok(evidence) => view(ca, &state, evidence, &rows),
        Err(error) => {
            troubles.push(error.to_string());
            None
        }
    };
    let (trust, leaves) =
        (Done { done: total.saturating_sub(unproven), total }, Done { done: stays, total });
    let rehearsed = rehearsing::of_next(&state);
    let seen = evidence.ok().and_then(|evidence| Some((evidence.cohort?, evidence.uptime)));
    let cohort = canary::view(&state, seen, &ca.policy);
    let second_net = ca.cross.said(&state, ca.clock.now(), ca.cell.load().sent_cross());
    Explanation { state, trust, leaves, troubles, legal, gate, rehearsed, second_net, cohort }
}

/// What a refused activation says beyond the machine's words: whom the gate waits for. As many are named as fit, each in full.
pub async fn named_holders(ca: &Ca) -> String {
    let Some(gate) = look(ca).await.gate else { return String::new() };
    holder::named(&gate.holders, gate.total, NAMED_IN_REFUSAL, NAMES_LEN_MAX)
}

/// What an authority was asked for and neither gave nor refused: an attempt fails only when its deadline is over.
pub fn unanswered(ca: &Ca, state: &State) -> Option<String> {
    state.phase.staging()?;
    let (rotation, since) = (state.phase.rotation()?, state.phase.since()?);
    let late = ca.clock.now().since(since) > ANSWERS_WITHIN;
    if !late || !ca.driver.troubles().borrow().is_empty() {
        return None;
    }
    let owed = state.pending.first()?.effect.doing();
    let name = &rotation.authority;
    Some(format!(
        "{owed}, asked of authority {name} and staging since {since}, has no answer yet: `banyan authority check \
         {name}` says how it is; leaves are still issued, and the rotation goes on by itself"
    ))
}

/// The gate of the present phase, with those who hold it.
fn view(ca: &Ca, state: &State, evidence: &Evidence, rows: &Aggregates) -> Option<GateView> {
    let gate = rotation::evidence::gate(state, evidence, &ca.policy)?;
    let rotation = state.phase.rotation()?;
    let (mut holders, total) = held_by(ca, state, &gate, evidence, rows);
    // Without an end first: they hold the gate longest.
    holders.sort_by_key(|holder| match holder.ends {
        Ends::ByWord => (0, std::cmp::Reverse(Timestamp::default())),
        Ends::At(end) => (1, std::cmp::Reverse(end)),
    });
    holders.truncate(HOLDERS_MAX);
    let opening = Opening::of(&gate, rotation, state);
    let ways: Vec<_> = gate.holds.iter().filter_map(|hold| way(ca, state, hold)).collect();
    let (kept, lost) = lost::apart(state, &gate.holds);
    let kept = kept.into_iter().map(|hold| in_words(ca, state, hold));
    let holds: Vec<_> = kept.chain(lost.map(lost::in_words)).collect();
    Some(GateView {
        name: gate.name,
        summary: gate::summary(
            &gate,
            opening,
            rotation,
            gate::Words {
                holds: &holds,
                ways: &ways,
                is_troubled: state.phase.canary().is_some_and(|canary| canary.trouble.is_some()),
            },
        ),
        holds,
        opening,
        ways,
        holders,
        total,
        at: evidence.at,
        rests_on: rests_on(ca, state, evidence, rows),
    })
}

/// One thing that keeps the gate closed. Whose a segment is tells what to do about it.
fn in_words(ca: &Ca, state: &State, hold: &Hold) -> String {
    let whose = match hold {
        Hold::Segment { segment, .. } => state.segments.get(segment).map(|own| &own.replica),
        Hold::Issuer { replica, .. } => Some(replica),
        _ => None,
    };
    match whose.and_then(|replica| ca.replication.what_became_of(replica)) {
        Some(became) => format!("{hold} ({became})"),
        None => hold.to_string(),
    }
}

/// What somebody can do about what no time ends.
fn way(ca: &Ca, state: &State, hold: &Hold) -> Option<String> {
    match hold {
        Hold::Shared { root, until: None } => Some(way_off(ca, root, state.roots.get(root)?)),
        hold => hold.way(),
    }
}

/// Those who hold a gate closed, some by name, and how many they are.
fn held_by(
    ca: &Ca,
    state: &State,
    gate: &Gate,
    evidence: &Evidence,
    rows: &Aggregates,
) -> (Vec<Holder>, u64) {
    let at = evidence.at;
    let mut holders = Vec::new();
    match (gate.name, state.phase.changes()) {
        (_, None) => (holders, 0),
        (GateName::Leaves, Some((from, to))) => {
            let filter = RowFilter { root: Some(from), ..RowFilter::default() };
            holders = named(ca, &filter, Asked::Gone { from, to }, at);
            let others: Vec<_> = downstreams_under(ca, &from, state, at)
                .chain(shared(ca, state, &from, at))
                .collect();
            let total = rows.under(&from).rows + others.len() as u64;
            holders.extend(others);
            (holders, total)
        }
        (GateName::Trust | GateName::Canary | GateName::Converged, Some(_)) => {
            let deadline = state.phase.gives_up_at(&ca.policy);
            for kind in KINDS {
                let required = ca.evidence.asked(state, kind);
                let unproven = Some((state.sequence, required));
                let filter = RowFilter {
                    kind: Some(kind),
                    own_trust: Some(false),
                    waived: Some(false),
                    unproven,
                    ..RowFilter::default()
                };
                holders.extend(named(
                    ca,
                    &filter,
                    Asked::Bundle { sequence: state.sequence, required },
                    at,
                ));
            }
            let assumed = evidence.own_trust.latest.map(|latest| ca.policy.over_at(latest));
            let ends = Ends::first(assumed, deadline);
            holders.extend(own_trust::holders(ca, state.sequence, ends, HOLDERS_MAX));
            let total = evidence.unproven.count
                + evidence.own_trust.count
                + evidence.unable
                + evidence.relying_parties.bounded.count
                + evidence.relying_parties.unbounded;
            holders.extend(relying_parties(
                ca,
                state,
                Round::of(gate.name, state.phase.given_up().is_some()),
                at,
            ));
            holders.extend(downstreams_without(ca, state.sequence, deadline, at));
            (
                holders.into_iter().filter_map(|holder| holder.given_up_at(deadline, at)).collect(),
                total,
            )
        }
    }
}

/// Who would hold the trust gate of the bundle in force: their word about it is missing already.
pub fn behind(ca: &Ca, state: &State, at: Timestamp) -> Vec<Holder> {
    let sequence = state.sequence;
    let lacking = KINDS.into_iter().flat_map(|kind| {
        let required = ca.evidence.asked(state, kind);
        let (kind, unproven) = (Some(kind), Some((sequence, required)));
        let (own_trust, waived) = (Some(false), Some(false));
        let filter = RowFilter { kind, own_trust, waived, unproven, ..RowFilter::default() };
        named(ca, &filter, Asked::Bundle { sequence, required }, at)
    });
    lacking.chain(downstreams_without(ca, sequence, None, at)).take(HOLDERS_MAX).collect()
}

/// Proxies that acknowledged the bundle and cannot verify the root that shall sign, one sentence each.
pub fn unable(ca: &Ca, state: &State) -> Vec<String> {
    if !ca.evidence.asks_probe(state) {
        return Vec::new();
    }
    let (sequence, kind) = (state.sequence, RowKind::AgentHeld);
    let required = ca.evidence.asked(state, kind);
    let filter = RowFilter {
        kind: Some(kind),
        waived: Some(false),
        unproven: Some((sequence, required)),
        ..RowFilter::default()
    };
    let holders = named(ca, &filter, Asked::Bundle { sequence, required }, ca.clock.now());
    holders.iter().filter(|holder| holder.unable).map(Holder::sentence).collect()
}

/// The rows that match, as holders; those that end last first.
fn named(ca: &Ca, filter: &RowFilter, asked: Asked, at: Timestamp) -> Vec<Holder> {
    let mut holders = Vec::new();
    let mut after = None;
    for _ in 0..PAGES_MAX {
        let page = ca.ledger.rows(filter, after, HOLDERS_MAX - holders.len());
        let found = page
            .rows
            .iter()
            .filter_map(|live| Holder::of_leaf(leaf(ca, live), asked, at, &ca.policy));
        holders.extend(found);
        after = page.next;
        if after.is_none() || holders.len() >= HOLDERS_MAX {
            break;
        }
    }
    holders
}

/// Downstream CAs that are not known to have a bundle.
fn downstreams_without(
    ca: &Ca,
    wanted: Sequence,
    deadline: Option<Timestamp>,
    now: Timestamp,
) -> impl Iterator<Item = Holder> {
    let downstreams =
        ca.downstreams.downstreams().into_iter().filter(move |downstream| downstream.lacks(wanted));
    downstreams.filter_map(move |downstream| {
        let until = ca.policy.over_at(downstream.until(&ca.policy, now)?);
        Some(downstream_holder(&downstream, deadline.map_or(until, |deadline| deadline.min(until))))
    })
}

/// Downstream CAs that may use a root.
fn downstreams_under(
    ca: &Ca,
    root: &RootId,
    state: &State,
    now: Timestamp,
) -> impl Iterator<Item = Holder> {
    let downstreams = ca.downstreams.downstreams().into_iter();
    downstreams.filter_map(move |downstream| {
        let last_issuer = downstream.under(root, state, &ca.policy, now)?;
        Some(downstream_holder(&downstream, ca.policy.over_at(last_issuer)))
    })
}

fn downstream_holder(downstream: &Downstream, until: Timestamp) -> Holder {
    let name = &downstream.name;
    let said = match &downstream.told {
        None => "has reported nothing to this process".to_owned(),
        Some(told) if told.report.waits_for.is_empty() => {
            format!("reported at {}, and is not there yet", told.at)
        }
        Some(told) => format!("waits for {}", told.report.waits_for.join("; ")),
    };
    let reported = |told: &Told| Has::Reported {
        sequence: Sequence(told.report.applied_sequence),
        at: told.at,
    };
    Holder {
        who: Who::Downstream { name: name.clone() },
        agent: None,
        has: downstream.told.as_ref().map_or(Has::Nothing, reported),
        needs: Needs::Report,
        ends: Ends::At(until),
        refuses: None,
        more: Some(format!("downstream CA {name}: {said}; it is waited for until {until}")),
        unable: false,
    }
}

/// Others who issue under a root, as one holder of its leaf gate.
fn shared(ca: &Ca, state: &State, root: &RootId, at: Timestamp) -> Option<Holder> {
    let entry = state.roots.get(root).filter(|entry| !entry.exclusive)?;
    let id = root.short();
    if ca.upstreams.has(entry.authority.as_str()) && ca.upstreams.let_go(state).contains(root) {
        return None;
    }
    let Some((word, until)) = ca.evidence.foreign(root, entry) else {
        return Some(others(
            root,
            Ends::ByWord,
            format!("root {id}: {}", way_off(ca, root, entry)),
        ));
    };
    let until = ca.policy.over_at(until);
    let text = format!(
        "others issued under root {id} until {}, as {} attested; their last leaf is waited for until {until}",
        word.since, word.by
    );
    others(root, Ends::At(until), text).while_it_holds(at)
}

/// What must come before a root that others share can go.
fn way_off(ca: &Ca, root: &RootId, entry: &RootEntry) -> String {
    let (id, authority) = (root.short(), entry.authority.as_str());
    if ca.upstreams.has(authority) {
        return "it is still in the bundle of the upstream CA, and leaves here when nobody there or at its other downstream CAs \
                needs it: `banyan rotate explain` there says whom it waits for"
            .to_owned();
    }
    let attest = format!(
        "turn off whoever else issues under it, then say so with `banyan root attest {id} --by NAME`"
    );
    match ca.evidence.foreign_leaf_max(authority) {
        Some(_) => attest,
        None => format!(
            "write the longest life of others' leaves as foreign_leaf_max into section [authority.{authority}] and restart this \
             server; {attest}"
        ),
    }
}

fn others(root: &RootId, ends: Ends, text: String) -> Holder {
    Holder {
        who: Who::Others { root: *root },
        agent: None,
        has: Has::Nothing,
        needs: Needs::OthersEnd,
        ends,
        refuses: None,
        more: Some(text),
        unable: false,
    }
}

fn relying_parties(
    ca: &Ca,
    state: &State,
    round: Round,
    at: Timestamp,
) -> impl Iterator<Item = Holder> {
    let since = ca.evidence.in_force_since(state).unwrap_or(at);
    let wanted = state.sequence;
    let missing =
        ca.registry.relying_parties().into_iter().filter(move |(_, row)| !row.has(wanted));
    missing.take(HOLDERS_MAX).filter_map(move |(name, row)| {
        let confirmed = row.confirmed.as_ref().map_or(Sequence(0), |word| word.sequence);
        let party = Party { name, confirmed, until: row.until(since) };
        Holder::of_relying_party(party, wanted, round, at, &ca.policy)
    })
}

/// How many live rows trust the bundle, by what proves it.
fn rests_on(ca: &Ca, state: &State, evidence: &Evidence, rows: &Aggregates) -> Vec<String> {
    let (wanted, probe) = (state.sequence, ca.evidence.asks_probe(state));
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (standing, tally) in rows.groups() {
        let required = Required { class: ca.evidence.required(standing.kind), probe };
        let unproven = standing.is_unproven(wanted, required);
        let observed = standing.applied.by(EvidenceClass::HandshakeObserved) >= wanted;
        let ground = match standing.applied.newest() {
            _ if unproven && standing.waived => "waived",
            _ if unproven => "not proven",
            Some((sequence, _))
                if probe
                    && !observed
                    && sequence >= wanted
                    && standing.kind == RowKind::AgentHeld =>
            {
                match standing.listening {
                    Some(_) => "applied (its listener cannot be probed)",
                    None => "applied (no listener to be probed)",
                }
            }
            Some((sequence, class)) if sequence >= wanted => class_name(class),
            _ => "born with the bundle",
        };
        *counts.entry(ground).or_default() += tally.rows;
    }
    let own = evidence.own_trust;
    let is_assumed = own.latest.is_some_and(|at| ca.policy.has_passed(at, evidence.at));
    let assumed = if is_assumed { own.count } else { 0 };
    let confirmed = ca.evidence.unproven(state, None).confirmed;
    for (ground, count) in [("a relying party's word", confirmed), ("own trust, assumed", assumed)]
    {
        if count > 0 {
            _ = counts.insert(ground, count);
            counts.entry("not proven").and_modify(|rows| *rows = rows.saturating_sub(count));
        }
    }
    counts.retain(|_, count| *count > 0);
    counts.into_iter().map(|(ground, count)| format!("{ground}: {count}")).collect()
}
