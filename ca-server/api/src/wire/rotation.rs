//! Where a rotation stands, and what one would come to, as messages.

use std::time::Duration;

use ledger::EvidenceClass;
use proto::banyan::admin::v1::{
    CohortStanding, Gate as GateMessage, Holder as HolderMessage, LiveLeaves as LiveLeavesMessage,
    Outlook as OutlookMessage, Progress, Rotation as RotationMessage,
};
use rotation::{Ending, Phase, State, Verb};
use trust::{RootId, Timestamp};

use control::canary::CohortView;
use control::causes::Cause;
use control::explain::{
    Ends, Explanation, GateView, Has, Holder, Needs, Who, class_name, kind_name, mode_name,
};
use control::forecast::{LiveLeaves, Outlook};

/// Where it stands.
pub(crate) fn rotation(explained: Explanation) -> RotationMessage {
    let Explanation { state, trust, leaves, troubles, legal, gate, .. } = explained;
    let Explanation { rehearsed, second_net, cohort, .. } = explained;
    RotationMessage {
        trust: Some(Progress { done: trust.done, total: trust.total }),
        leaves: Some(Progress { done: leaves.done, total: leaves.total }),
        troubles,
        rehearsed,
        second_net,
        legal: legal.iter().map(Verb::name).map(str::to_owned).collect(),
        gate: gate.map(gate_message),
        cohort: cohort.map(cohort_message),
        ..standing(&state)
    }
}

fn cohort_message(standing: CohortView) -> CohortStanding {
    let CohortView { cohort, seen, held_for, observed_for, observe } = standing;
    CohortStanding {
        cohort: cohort.to_string(),
        taken: seen.taken,
        silent: seen.silent,
        waiting: seen.waiting,
        trouble: seen.trouble.in_words(),
        held_for: held_for.map(|trouble| trouble.in_words()).unwrap_or_default(),
        observed_for: observed_for.as_secs(),
        observe: observe.as_secs(),
    }
}

fn standing(state: &State) -> RotationMessage {
    let mut message = RotationMessage {
        phase: state.phase.name().to_owned(),
        generation: state.generation.0,
        sequence: state.sequence.0,
        phase_since: seconds(state.phase.since()),
        done: state.done.iter().map(ToString::to_string).collect(),
        ending: ending(&state.phase).to_owned(),
        ..RotationMessage::default()
    };
    if let Some(ended) = state.phase.ended() {
        message.last_request_id = ended.request_id.to_string();
        message.last_ending = ending_name(ended.ending).to_owned();
    }
    if let Some(rotation) = state.phase.rotation() {
        message.request_id = rotation.request_id.to_string();
        message.authority = rotation.authority.to_string();
        message.mode = mode_name(rotation.mode).to_owned();
        message.requested_at = rotation.requested_at.as_secs();
        message.held_since = seconds(rotation.held_since);
    }
    let asked = state.phase.rotation().map(|rotation| &rotation.request_id);
    let last = state.phase.ended().map(|ended| &ended.request_id);
    message.cause = asked.or(last).map_or("", |id| Cause::of(id).name()).to_owned();
    let staged = || state.phase.staging().and_then(|staging| staging.step.root());
    let (from, to) = match state.phase.changes() {
        Some((from, to)) => (Some(from), Some(to)),
        None => (state.signing_root(), staged()),
    };
    (message.from_root, message.to_root) =
        (from.map(bytes).unwrap_or_default(), to.map(bytes).unwrap_or_default());
    message.rolled_back = state.phase.is_rolled_back();
    message
}

/// What the rotation that is under way is certain to come to, if it is not what was asked for.
pub(crate) fn ending(phase: &Phase) -> &'static str {
    match phase.given_up() {
        None | Some(Ending::Completed) => "",
        Some(ending) => ending_name(ending),
    }
}

const fn ending_name(ending: Ending) -> &'static str {
    match ending {
        Ending::Completed => "completed",
        Ending::Aborted => "aborted",
        Ending::RolledBack => "rolled back",
    }
}

fn gate_message(gate: GateView) -> GateMessage {
    GateMessage {
        name: gate.name.to_string(),
        open: gate.is_open(),
        summary: gate.summary,
        holds: gate.holds,
        opens_at_latest: seconds(gate.opening.at_latest()),
        waits_for: gate.opening.waits_for().to_owned(),
        holders: gate.holders.iter().map(holder).collect(),
        holders_total: gate.total,
        at: gate.at.as_secs(),
        rests_on: gate.rests_on,
        ways: gate.ways,
    }
}

fn holder(holder: &Holder) -> HolderMessage {
    let (serial, own_trust) = match &holder.who {
        Who::Leaf { serial, own_trust, .. } => (serial.as_bytes().to_vec(), *own_trust),
        Who::RelyingParty { .. } | Who::Downstream { .. } | Who::Others { .. } => {
            (Vec::new(), false)
        }
    };
    let agent = holder.agent.as_ref();
    let reported = match holder.has {
        Has::Reported { at, .. } => at,
        _ => Timestamp::default(),
    };
    HolderMessage {
        kind: holder.kind().to_owned(),
        identity: holder.name(),
        agent: agent.map(|agent| agent.name.clone()).unwrap_or_default(),
        serial,
        until: match holder.ends {
            Ends::At(end) => end.as_secs(),
            Ends::ByWord => 0,
        },
        born: holder.has.born().0,
        applied: holder.has.sequence().0,
        wanted: holder.needs.sequence().0,
        evidence: match holder.has {
            Has::Bundle { class, .. } => class_name(class).to_owned(),
            _ => String::new(),
        },
        evidence_wanted: match holder.needs {
            Needs::Bundle { class, .. } => class_name(class).to_owned(),
            Needs::Verifies { .. } => class_name(EvidenceClass::HandshakeObserved).to_owned(),
            _ => String::new(),
        },
        agent_connected: agent.is_some_and(|agent| agent.connected),
        agent_last_seen: agent.map_or(reported, |agent| agent.last_seen).as_secs(),
        last_nack: holder.refuses.clone().unwrap_or_default(),
        text: holder.sentence(),
        own_trust,
        has: holder.has.in_words(),
        needs: holder.needs.in_words(),
        unable: holder.unable,
    }
}

/// What a rotation would come to.
pub(crate) fn outlook(outlook: &Outlook) -> OutlookMessage {
    let leaves = |leaves: &LiveLeaves| LiveLeavesMessage {
        kind: kind_name(leaves.kind).to_owned(),
        count: leaves.count,
        last_ends: leaves.last_ends.as_secs(),
    };
    OutlookMessage {
        signs_within_seconds: outlook.signs_within.map(length),
        ends_within_seconds: outlook.ends_within.map(length),
        leaves: outlook.leaves.iter().map(leaves).collect(),
        behind: outlook.behind.iter().map(holder).collect(),
        exclusive: outlook.exclusive,
        unknown: outlook.unknown.clone(),
    }
}

fn length(length: Duration) -> i64 {
    i64::try_from(length.as_secs()).unwrap_or(i64::MAX)
}

fn bytes(root: RootId) -> Vec<u8> {
    root.as_bytes().to_vec()
}

fn seconds(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::as_secs)
}
