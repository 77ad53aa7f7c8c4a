//! Where a rotation stands, and for the gate that it waits at: what holds it, who, and when it opens at the latest.
//!
//! The judgement is the machine's own ([`rotation::evidence::gate`]), and which verbs are legal is asked of
//! [`rotation::step`]; here it is only put into words and names.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger::{Aggregates, EvidenceClass, LiveRow, RowFilter, RowKind};
use proto::banyan::admin::v1::{Gate as GateMessage, Holder, Progress, Rotation as RotationMessage};
use rotation::evidence::{Gate, GateName, gate};
use rotation::{Cause, Event, Evidence, Phase, RequestId, Rotation, State, step};
use rotation_driver::{EffectError, EvidenceSource as _};
use trust::{RootId, Sequence, Serial, Timestamp};

use crate::ca::Ca;
use crate::own_trust;
use crate::seen;
use crate::tier::below::Tier;

/// Holders that are named; the others are counted.
const HOLDERS_MAX: usize = 32;
/// Holders that a refused activation names.
const NAMED_IN_REFUSAL: usize = 5;
/// How long an authority may take before it is said that it has not answered.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Kind of a holder that stands for others who issue under a root.
pub(crate) const SHARED_ROOT: &str = "shared-root";
/// Pages of the ledger that are looked through for holders of one kind.
const PAGES_MAX: usize = 10;

/// Where the rotation stands now.
pub(crate) async fn rotation(ca: &Ca) -> RotationMessage {
    let state = ca.driver.state();
    let evidence = ca.evidence.read(&state).await;
    let rows = ca.ledger.aggregates();
    let mut message = standing(&state);
    message.troubles = troubles(ca);
    message.troubles.extend(unanswered(ca, &state));
    message.troubles.extend(state.phase.rotation().and_then(|_| seen::sentence(&state)));
    message.legal = legal(ca, &state, evidence.as_ref().ok());
    let total = rows.all().rows;
    let unproven = ca.evidence.unproven(state.sequence, None).rows();
    message.trust = Some(Progress { done: total.saturating_sub(unproven), total });
    let stays = state.signer().map(|signer| rows.under(&signer.root).rows);
    let stays = roots(&state.phase).map_or(stays, |(_, to)| Some(rows.under(&to).rows));
    message.leaves = Some(Progress { done: stays.unwrap_or_default(), total });
    match &evidence {
        Ok(evidence) => {
            message.gate = gate(&state, evidence, &ca.policy)
                .map(|gate| gate_message(ca, &state, (&gate, evidence), &rows));
        }
        Err(error) => message.troubles.push(error.to_string()),
    }
    message
}

/// What a refused activation says beyond the machine's words: who holds the gate.
pub(crate) async fn named_holders(ca: &Ca) -> String {
    let holders = rotation(ca).await.gate.map(|gate| gate.holders).unwrap_or_default();
    let named: Vec<_> = holders.into_iter().take(NAMED_IN_REFUSAL).map(own_trust::in_short).collect();
    if named.is_empty() { String::new() } else { format!("; held by {}", named.join("; ")) }
}

/// The words for a gate, the same that a refused activation says.
pub(crate) fn summary(gate: &Gate, rotation: &Rotation) -> String {
    if gate.is_open() {
        let name = gate.name;
        return match (rotation.held_since, gate.name, rotation.mode) {
            (Some(_), ..) => format!("the {name} gate is open; the rotation is held: resume it"),
            (None, GateName::Trust, rotation::Mode::Manual) => {
                format!("the {name} gate is open; activate the new root")
            }
            _ => format!("the {name} gate is open"),
        };
    }
    let (name, holds, opens_at_latest) = (gate.name, gate.holds.clone(), gate.opens_at_latest);
    let closed = Cause::GateClosed { gate: name, holds, opens_at_latest };
    format!("{closed}; {}", closed.legal())
}

/// The name of a kind of rows, as operators read it.
pub(crate) const fn kind_name(kind: RowKind) -> &'static str {
    match kind {
        RowKind::AgentHeld => "agent-held",
        RowKind::CsrOnly => "csr-only",
        RowKind::ChannelTrusted => "channel-trusted",
        RowKind::Own => "own",
        RowKind::AgentIdentity => "agent-identity",
    }
}

/// All kinds of rows.
pub(crate) const KINDS: [RowKind; 5] =
    [RowKind::AgentHeld, RowKind::CsrOnly, RowKind::ChannelTrusted, RowKind::Own, RowKind::AgentIdentity];

pub(crate) const fn class_name(class: EvidenceClass) -> &'static str {
    match class {
        EvidenceClass::Assumed => "assumed",
        EvidenceClass::Sent => "sent",
        EvidenceClass::Delivered => "delivered",
        EvidenceClass::Applied => "applied",
        EvidenceClass::HandshakeObserved => "handshake-observed",
    }
}

fn standing(state: &State) -> RotationMessage {
    let mut message = RotationMessage {
        phase: state.phase.name().to_owned(),
        generation: state.generation.0,
        sequence: state.sequence.0,
        phase_since: seconds(state.phase.since()),
        done: state.done.iter().map(ToString::to_string).collect(),
        ..RotationMessage::default()
    };
    if let Some(rotation) = state.phase.rotation() {
        message.request_id = rotation.request_id.to_string();
        message.authority = rotation.authority.to_string();
        message.mode = mode_name(rotation.mode).to_owned();
        message.requested_at = rotation.requested_at.as_secs();
        message.held_since = seconds(rotation.held_since);
    }
    let signing = state.signer().map(|signer| signer.root.as_bytes().to_vec()).unwrap_or_default();
    (message.from_root, message.to_root) = match &state.phase {
        Phase::Staging(staging) => {
            (signing, staging.step.root().map(|root| root.as_bytes().to_vec()).unwrap_or_default())
        }
        phase => match roots(phase) {
            Some((from, to)) => (from.as_bytes().to_vec(), to.as_bytes().to_vec()),
            None => (signing, Vec::new()),
        },
    };
    message.rolled_back = matches!(&state.phase, Phase::Draining(phase) if phase.rolled_back);
    message
}

/// The root that goes and the one that stays, in phases that have both.
const fn roots(phase: &Phase) -> Option<(RootId, RootId)> {
    match phase {
        Phase::Distributing(phase) => Some((phase.from, phase.to)),
        Phase::Draining(phase) => Some((phase.from, phase.to)),
        Phase::Withdrawing(phase) => Some((phase.from, phase.to)),
        _ => None,
    }
}

pub(crate) const fn mode_name(mode: rotation::Mode) -> &'static str {
    match mode {
        rotation::Mode::Auto => "auto",
        rotation::Mode::Manual => "manual",
    }
}

fn troubles(ca: &Ca) -> Vec<String> {
    let troubles = ca.driver.troubles().borrow().clone();
    let said = troubles.iter().map(|trouble| {
        let (effect, attempts) = (trouble.pending.effect.name(), trouble.attempts);
        match &trouble.last {
            EffectError::NotYet { reason, .. } => format!("{effect} waits: {reason}"),
            last => format!("{effect} was tried {attempts} times: {last}; it is tried again"),
        }
    });
    said.collect()
}

/// What an authority was asked for and neither gave nor refused: an attempt fails only when its deadline is over.
pub(crate) fn unanswered(ca: &Ca, state: &State) -> Option<String> {
    let Phase::Staging(_) = &state.phase else { return None };
    let (rotation, since) = (state.phase.rotation()?, state.phase.since()?);
    let late = ca.clock.now().since(since) > ANSWERS_WITHIN;
    if !late || !ca.driver.troubles().borrow().is_empty() {
        return None;
    }
    let owed = state.pending.first()?.effect.name();
    let name = &rotation.authority;
    Some(format!(
        "{owed} was asked of authority {name}, staging since {since}, and has no answer yet: `banyan authority check \
         {name}` says how it is; leaves are issued on, and the rotation goes on by itself"
    ))
}

/// The verbs that would change something now.
fn legal(ca: &Ca, state: &State, evidence: Option<&Evidence>) -> Vec<String> {
    let Ok(request_id) = RequestId::parse("would-this-be-legal") else { return Vec::new() };
    let id = || request_id.clone();
    let mut verbs = vec![
        ("hold", Event::HoldRequested { request_id: id() }),
        ("resume", Event::ResumeRequested { request_id: id() }),
        ("abort", Event::AbortRequested { request_id: id() }),
        ("rollback", Event::RollbackRequested { request_id: id() }),
    ];
    if let Some(evidence) = evidence.cloned() {
        verbs.insert(0, ("activate", Event::ActivateRequested { request_id: id(), evidence }));
    }
    let now = ca.clock.now();
    let moves =
        |event: &Event| step(state, event, now, &ca.policy).is_ok_and(|transition| transition.changes(state));
    let start = matches!(state.phase, Phase::Steady(_)).then(|| "start".to_owned());
    let legal = verbs.iter().filter(|(_, event)| moves(event)).map(|(verb, _)| (*verb).to_owned());
    start.into_iter().chain(legal).collect()
}

fn gate_message(
    ca: &Ca,
    state: &State,
    (gate, evidence): (&Gate, &Evidence),
    rows: &Aggregates,
) -> GateMessage {
    let mut holders = Vec::new();
    let mut total = 0;
    match gate.name {
        GateName::Leaves => {
            if let Some((from, _)) = roots(&state.phase) {
                let filter = RowFilter { root: Some(from), ..RowFilter::default() };
                total = rows.under(&from).rows;
                holders = named(ca, &filter, state.sequence);
                let tiers: Vec<_> = tiers_under(ca, &from, state, evidence.at).collect();
                total += tiers.len() as u64;
                holders.extend(tiers);
                let shared = shared(ca, state, &from);
                total += u64::from(shared.is_some());
                holders.extend(shared);
            }
        }
        GateName::Trust | GateName::Converged => {
            for kind in KINDS {
                let unproven = Some((state.sequence, ca.evidence.required(kind)));
                let own_trust = Some(false);
                let filter = RowFilter { kind: Some(kind), own_trust, unproven, ..RowFilter::default() };
                holders.extend(named(ca, &filter, state.sequence));
            }
            holders.extend(own_trust::holders(ca, state.sequence, evidence.own_trust.latest, HOLDERS_MAX));
            total = evidence.unproven.count
                + evidence.own_trust.count
                + evidence.subscribers.bounded.count
                + evidence.subscribers.unbounded;
            holders.extend(subscribers(ca, state, evidence.at));
            holders.extend(tiers_without(ca, state.sequence, evidence.at));
        }
    }
    // Without an end first: they hold the gate longest.
    holders.sort_by_key(|holder| std::cmp::Reverse(if holder.until == 0 { i64::MAX } else { holder.until }));
    holders.truncate(HOLDERS_MAX);
    let rotation = state.phase.rotation();
    GateMessage {
        name: gate.name.to_string(),
        open: gate.is_open(),
        summary: rotation.map(|rotation| summary(gate, rotation)).unwrap_or_default(),
        holds: gate.holds.iter().map(ToString::to_string).collect(),
        opens_at_latest: seconds(gate.opens_at_latest),
        holders,
        holders_total: total,
        at: evidence.at.as_secs(),
        rests_on: rests_on(ca, state, evidence, rows),
    }
}

/// The rows that match, as holders; those that end last first.
fn named(ca: &Ca, filter: &RowFilter, wanted: Sequence) -> Vec<Holder> {
    let mut holders = Vec::new();
    let mut after = None;
    for _ in 0..PAGES_MAX {
        let page = ca.ledger.rows(filter, after, HOLDERS_MAX - holders.len());
        holders.extend(page.rows.iter().map(|live| holder(ca, live, wanted)));
        after = page.next;
        if after.is_none() || holders.len() >= HOLDERS_MAX {
            break;
        }
    }
    holders
}

fn holder(ca: &Ca, live: &LiveRow, wanted: Sequence) -> Holder {
    let row = &live.row;
    let session = row.agent.as_deref().and_then(|agent| ca.sessions.find(agent)).unwrap_or_default();
    let newest = live.evidence.applied.newest();
    let about = |serial: Option<Serial>| serial.is_none_or(|serial| serial == row.serial);
    let refused = session.refusing.into_iter().find(|(serial, _)| about(*serial)).map(|(_, reason)| reason);
    let mut holder = Holder {
        kind: kind_name(row.kind).to_owned(),
        identity: row.identity.to_string(),
        agent: row.agent.clone().unwrap_or_default(),
        serial: row.serial.as_bytes().to_vec(),
        until: row.not_after.as_secs(),
        born: row.born.0,
        applied: newest.map_or(0, |(sequence, _)| sequence.0),
        wanted: wanted.0,
        evidence: newest.map(|(_, class)| class_name(class)).unwrap_or_default().to_owned(),
        evidence_wanted: class_name(ca.evidence.required(row.kind)).to_owned(),
        agent_connected: session.streams > 0,
        agent_last_seen: session.last_seen.as_secs(),
        last_nack: refused.unwrap_or_default(),
        text: String::new(),
        own_trust: false,
    };
    holder.text = in_words(&holder, row.not_after);
    holder
}

fn in_words(holder: &Holder, not_after: Timestamp) -> String {
    let proven = match holder.evidence.as_str() {
        "" => format!("nothing is known but that it was issued at bundle {}", holder.born),
        class => format!("has bundle {} ({class})", holder.applied),
    };
    let agent = match (holder.agent.as_str(), holder.agent_connected) {
        ("", _) => String::new(),
        (agent, true) => format!(", agent {agent} is connected"),
        (agent, false) => format!(", agent {agent} is away"),
    };
    let refused = match holder.last_nack.as_str() {
        "" => String::new(),
        nack => format!(", refuses it: {nack}"),
    };
    let (identity, kind) = (&holder.identity, &holder.kind);
    let (wanted, class) = (holder.wanted, &holder.evidence_wanted);
    format!("{identity} ({kind}): {proven}, wanted {wanted} ({class}), until {not_after}{agent}{refused}")
}

/// Tiers below that are not known to have a bundle.
fn tiers_without(ca: &Ca, wanted: Sequence, now: Timestamp) -> impl Iterator<Item = Holder> {
    let tiers = ca.below.tiers().into_iter().filter(move |tier| tier.lacks(wanted));
    tiers.filter_map(move |tier| {
        let until = tier.until(&ca.policy, now)?;
        Some(Holder { wanted: wanted.0, ..tier_holder(&tier, until) })
    })
}

/// Tiers below that may use a root.
fn tiers_under(ca: &Ca, root: &RootId, state: &State, now: Timestamp) -> impl Iterator<Item = Holder> {
    let tiers = ca.below.tiers().into_iter();
    tiers.filter_map(move |tier| Some(tier_holder(&tier, tier.under(root, state, (&ca.policy, now))?)))
}

fn tier_holder(tier: &Tier, until: Timestamp) -> Holder {
    let name = &tier.name;
    let said = match &tier.told {
        None => "has reported nothing to this process".to_owned(),
        Some(told) if told.report.waits_for.is_empty() => {
            format!("reported at {}, and is not there yet", told.at)
        }
        Some(told) => format!("waits for {}", told.report.waits_for.join("; ")),
    };
    Holder {
        kind: "tier".to_owned(),
        identity: name.clone(),
        until: until.as_secs(),
        applied: tier.told.as_ref().map_or(0, |told| told.report.applied_sequence),
        agent_last_seen: tier.told.as_ref().map_or(0, |told| told.at.as_secs()),
        text: format!("tier {name}: {said}; its last issuer ends at {until}"),
        ..Holder::default()
    }
}

/// Others who issue under a root, as one holder of its leaf gate.
fn shared(ca: &Ca, state: &State, root: &RootId) -> Option<Holder> {
    let entry = state.roots.get(root).filter(|entry| !entry.exclusive)?;
    let (id, authority) = (root.short(), entry.authority.as_str());
    if ca.above.has(authority) {
        if ca.above.let_go(state).contains(root) {
            return None;
        }
        let text = format!(
            "root {id} is still in the bundle of the tier above: it leaves here when nobody there or at other tiers needs it"
        );
        let (kind, identity) = (SHARED_ROOT.to_owned(), root.to_string());
        return Some(Holder { kind, identity, text, ..Holder::default() });
    }
    let (until, text) = match (ca.evidence.foreign(root, entry), ca.evidence.foreign_leaf_max(authority)) {
        (Some((word, until)), _) => {
            let text = format!(
                "others issued under root {id} until {}, as {} vouched; their last leaf ends at {until}",
                word.since, word.by
            );
            (until.as_secs(), text)
        }
        (None, Some(_)) => {
            let text = format!(
                "others issue under root {id} too: turn them off, then say so with `banyan root vouch {id} --by NAME`"
            );
            (0, text)
        }
        (None, None) => {
            let text = format!(
                "others issue under root {id} too: write the longest life of their leaves as foreign_leaf_max into \
                 section [authority.{authority}] and restart this server, turn them off, then say so with \
                 `banyan root vouch {id} --by NAME`"
            );
            (0, text)
        }
    };
    let (kind, identity) = (SHARED_ROOT.to_owned(), root.to_string());
    Some(Holder { kind, identity, until, text, ..Holder::default() })
}

fn subscribers(ca: &Ca, state: &State, now: Timestamp) -> impl Iterator<Item = Holder> {
    let wanted = state.sequence;
    let since = ca.evidence.in_force_since(state).unwrap_or(now);
    let missing = ca.registry.subscribers().into_iter().filter(move |(_, row)| !row.has(wanted));
    missing.take(HOLDERS_MAX).map(move |(name, row)| {
        let confirmed = row.confirmed.as_ref().map_or(0, |word| word.sequence.0);
        let until = row.until(since);
        let text = match until {
            Some(until) => format!(
                "subscriber {name}: confirmed bundle {confirmed}, wanted {wanted}, until {until} by its staleness bound"
            ),
            None => format!("subscriber {name}: confirmed bundle {confirmed}, wanted {wanted}, by its word only"),
        };
        Holder {
            kind: "subscriber".to_owned(),
            identity: name,
            until: seconds(until),
            applied: confirmed,
            wanted: wanted.0,
            text,
            ..Holder::default()
        }
    })
}

/// How many live rows trust the bundle, by what proves it.
fn rests_on(ca: &Ca, state: &State, evidence: &Evidence, rows: &Aggregates) -> Vec<String> {
    let wanted = state.sequence;
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (standing, tally) in rows.groups() {
        let ground = match standing.applied.newest() {
            _ if standing.is_unproven(wanted, ca.evidence.required(standing.kind)) => "not proven",
            Some((sequence, class)) if sequence >= wanted => class_name(class),
            _ => "born with the bundle",
        };
        *counts.entry(ground).or_default() += tally.rows;
    }
    let own = evidence.own_trust;
    let is_assumed = own.latest.is_some_and(|at| ca.policy.has_passed(at, evidence.at));
    let assumed = if is_assumed { own.count } else { 0 };
    let vouched = ca.evidence.unproven(wanted, None).vouched;
    for (ground, count) in [("a subscriber's word", vouched), ("own trust, assumed", assumed)] {
        if count > 0 {
            _ = counts.insert(ground, count);
            counts.entry("not proven").and_modify(|rows| *rows = rows.saturating_sub(count));
        }
    }
    counts.retain(|_, count| *count > 0);
    counts.into_iter().map(|(ground, count)| format!("{ground}: {count}")).collect()
}

fn seconds(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::as_secs)
}
