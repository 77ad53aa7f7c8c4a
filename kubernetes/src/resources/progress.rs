//! Where a rotation stands, as the status of its object: pure.

use proto::banyan::admin::v1::{Gate, Progress, Rotation};
use trust::Timestamp;

use super::types::{Condition, GateStatus, PassedPhase, RootRotationStatus, RotationAction};
use crate::ca::{PHASES_SEEN_MAX, SeenPhase};

/// Most sentences of one list: a status is for people, and an object has a size.
const SENTENCES_MAX: usize = 16;

/// What a rotation of a certain request id is to the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was not asked for, or is forgotten.
    Unknown,
    /// It is under way.
    UnderWay,
    /// It came to this: "completed", "aborted" or "rolled back"; empty if that is no longer known.
    Over(String),
}

/// What is said about one object.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) generation: i64,
    pub(super) now: String,
}

/// Finds it among what the CA says.
pub(super) fn standing(rotation: &Rotation, request_id: &str) -> Standing {
    if rotation.request_id == request_id {
        return Standing::UnderWay;
    }
    if rotation.last_request_id == request_id {
        return Standing::Over(rotation.last_ending.clone());
    }
    match rotation.done.iter().any(|done| done == request_id) {
        true => Standing::Over(String::new()),
        false => Standing::Unknown,
    }
}

/// Whether nothing follows any more.
pub(super) fn is_final(status: &RootRotationStatus) -> bool {
    matches!(status.phase.as_str(), "Completed" | "Aborted" | "RolledBack" | "Refused" | "Over")
}

/// The phases that it went through: those that were written before, those that were seen meanwhile, whoever worked then, and
/// what it came to.
pub(super) fn passed(
    written: &[PassedPhase],
    seen: &[SeenPhase],
    status: &RootRotationStatus,
    now: &str,
) -> Vec<PassedPhase> {
    let mut all = written.to_vec();
    for SeenPhase { phase, since } in seen {
        let since = time(*since).unwrap_or_else(|| now.to_owned());
        let one = PassedPhase { phase: capitalized(phase), since };
        if !all.contains(&one) {
            all.push(one);
        }
    }
    // What was written by one who saw less comes between what others saw; within a second it stays in the order of the phases.
    all.sort_by(|one, other| one.since.cmp(&other.since));
    if is_final(status) && all.last().is_none_or(|last| last.phase != status.phase) {
        all.push(PassedPhase { phase: status.phase.clone(), since: now.to_owned() });
    }
    let too_many = all.len().saturating_sub(PHASES_SEEN_MAX);
    all.split_off(too_many)
}

impl Told {
    /// Puts a condition: type, status, reason, message. It keeps its time while its status stays.
    pub(super) fn condition(&self, status: &mut RootRotationStatus, words: [&str; 4]) {
        put(&mut status.conditions, self, words);
    }

    /// The CA knows it, and it is not over.
    pub(super) fn under_way(
        &self,
        before: &RootRotationStatus,
        rotation: &Rotation,
    ) -> RootRotationStatus {
        let mut status = RootRotationStatus {
            phase: capitalized(&rotation.phase),
            message: sentence(rotation),
            request_id: rotation.request_id.clone(),
            from_root: fingerprint(&rotation.from_root),
            to_root: fingerprint(&rotation.to_root),
            sequence: number(rotation.sequence),
            trust: share(rotation.trust),
            leaves: share(rotation.leaves),
            gate: rotation.gate.as_ref().map(gate),
            troubles: rotation.troubles.iter().take(SENTENCES_MAX).cloned().collect(),
            legal: rotation.legal.clone(),
            ..before.clone()
        };
        let message = status.message.clone();
        self.condition(&mut status, ["Accepted", "True", "Accepted", "the CA took the request"]);
        self.condition(&mut status, ["Complete", "False", "UnderWay", &message]);
        let (is, reason) = match (rotation.held_since, rotation.troubles.is_empty()) {
            (0, true) => match rotation.gate.as_ref().map(|gate| gate.waits_for.as_str()) {
                Some(word @ ("activate" | "confirm" | "state")) => ("False", waits(word)),
                _ => ("True", "UnderWay"),
            },
            (0, false) => ("False", "Trouble"),
            (_, _) => ("False", "Held"),
        };
        self.condition(&mut status, ["Progressing", is, reason, &message]);
        status
    }

    /// It is over.
    pub(super) fn over(
        &self,
        before: &RootRotationStatus,
        rotation: &Rotation,
        ending: &str,
    ) -> RootRotationStatus {
        let (phase, is, message) = match ending {
            "completed" => {
                ("Completed", "True", "the new root signs, and the former one is no longer trusted")
            }
            "aborted" => (
                "Aborted",
                "False",
                "the rotation was given up before the new root signed: the former root still signs",
            ),
            "rolled back" => {
                ("RolledBack", "False", "the rotation was taken back: the former root signs again")
            }
            _ => (
                "Over",
                "Unknown",
                "the rotation is over, and the CA no longer says how it ended: `banyan journal show` does",
            ),
        };
        let mut status = RootRotationStatus {
            phase: phase.to_owned(),
            message: message.to_owned(),
            sequence: number(rotation.sequence),
            gate: None,
            troubles: Vec::new(),
            legal: Vec::new(),
            observed_generation: self.generation,
            ..before.clone()
        };
        self.condition(&mut status, ["Accepted", "True", "Accepted", "the CA took the request"]);
        self.condition(&mut status, ["Complete", is, phase, message]);
        self.condition(&mut status, ["Progressing", "False", "Over", message]);
        status
    }

    /// It is not under way yet, or never will be.
    pub(super) fn waits(
        &self,
        before: &RootRotationStatus,
        phase: &str,
        message: &str,
    ) -> RootRotationStatus {
        let mut status = RootRotationStatus {
            phase: phase.to_owned(),
            message: message.to_owned(),
            ..before.clone()
        };
        self.condition(&mut status, ["Accepted", "False", phase, message]);
        self.condition(&mut status, ["Complete", "False", phase, message]);
        self.condition(&mut status, ["Progressing", "False", phase, message]);
        status
    }

    /// It was given up before the CA had taken it, which so never hears of it.
    pub(super) fn given_up(&self, before: &RootRotationStatus) -> RootRotationStatus {
        let message = "the rotation was given up before the CA took it: nothing was started";
        let mut status = self.waits(before, "Aborted", message);
        status.observed_generation = self.generation;
        status.last_action = Some(RotationAction::Abort);
        self.condition(&mut status, ["ActionTaken", "True", "Taken", message]);
        status
    }

    /// Nobody can say how it is.
    pub(super) fn unknown(
        &self,
        before: &RootRotationStatus,
        reason: &str,
        message: &str,
    ) -> RootRotationStatus {
        let mut status = RootRotationStatus { message: message.to_owned(), ..before.clone() };
        if status.phase.is_empty() {
            status.phase = "Pending".to_owned();
        }
        self.condition(&mut status, ["Progressing", "Unknown", reason, message]);
        self.condition(&mut status, ["Complete", "Unknown", reason, message]);
        status
    }
}

/// Puts a condition: type, status, reason, message.
pub(super) fn put(
    conditions: &mut Vec<Condition>,
    told: &Told,
    [type_, is, reason, message]: [&str; 4],
) {
    let before = conditions.iter().position(|condition| condition.type_ == type_);
    let since = before
        .and_then(|place| conditions.get(place))
        .filter(|condition| condition.status == is)
        .map_or(told.now.as_str(), |condition| &condition.last_transition_time);
    let condition = Condition {
        type_: type_.to_owned(),
        status: is.to_owned(),
        last_transition_time: since.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: told.generation,
    };
    match before.and_then(|place| conditions.get_mut(place)) {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

const fn waits(word: &str) -> &'static str {
    match word.as_bytes() {
        b"activate" => "WaitsForActivate",
        b"confirm" => "WaitsForConfirm",
        _ => "WaitsForDecision",
    }
}

fn sentence(rotation: &Rotation) -> String {
    let ending = match rotation.ending.as_str() {
        "" => String::new(),
        ending => format!("it will be {ending}; "),
    };
    if rotation.held_since != 0 {
        return format!("{ending}on hold: set spec.action to resume to let it go on");
    }
    if let Some(troubles) = first_of(&rotation.troubles) {
        return format!("{ending}{troubles}");
    }
    match &rotation.gate {
        Some(gate) if gate.open && gate.waits_for == "activate" => {
            format!(
                "{ending}the trust gate is open: set spec.action to activate to let the new root sign"
            )
        }
        Some(gate) if gate.open => format!("{ending}the {} gate is open", gate.name),
        Some(gate) => match first_of(&gate.holds) {
            Some(holds) => format!("{ending}the {} gate waits: {holds}", gate.name),
            None => format!("{ending}the {} gate waits", gate.name),
        },
        None => format!("{ending}{}", rotation.phase),
    }
}

/// The first of some sentences, and how many more there are: one line has place for one.
fn first_of(sentences: &[String]) -> Option<String> {
    let (first, more) = sentences.split_first()?;
    Some(match more.len() {
        0 => first.clone(),
        more => format!("{first}; and {more} more"),
    })
}

fn gate(gate: &Gate) -> GateStatus {
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    GateStatus {
        name: gate.name.clone(),
        open: gate.open,
        holds: gate.holds.iter().take(SENTENCES_MAX).cloned().collect(),
        opens_at_latest: time(gate.opens_at_latest),
        waits_for: some(&gate.waits_for),
        ways: gate.ways.iter().take(SENTENCES_MAX).cloned().collect(),
    }
}

/// A time, if there is one.
pub(super) fn time(secs: i64) -> Option<String> {
    (secs != 0).then(|| Timestamp::from_secs(secs).to_string())
}

/// A fingerprint, if there is one.
pub(super) fn fingerprint(id: &[u8]) -> Option<String> {
    (!id.is_empty()).then(|| id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A number as the API server takes it.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn share(progress: Option<Progress>) -> String {
    progress.map_or(String::new(), |progress| format!("{}/{}", progress.done, progress.total))
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or(String::new(), |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(now: &str) -> Told {
        Told { generation: 3, now: now.to_owned() }
    }

    fn is<'a>(status: &'a RootRotationStatus, type_: &str) -> &'a Condition {
        status.conditions.iter().find(|condition| condition.type_ == type_).unwrap()
    }

    #[test]
    fn an_aborted_rotation_is_never_complete_and_a_held_one_makes_no_progress() {
        let rotation = Rotation {
            phase: "distributing".to_owned(),
            request_id: "u".to_owned(),
            held_since: 5,
            ..Rotation::default()
        };
        assert_eq!(standing(&rotation, "u"), Standing::UnderWay);
        let held = told("t1").under_way(&RootRotationStatus::default(), &rotation);
        assert_eq!(
            (held.phase.as_str(), is(&held, "Progressing").status.as_str()),
            ("Distributing", "False")
        );
        assert_eq!(is(&held, "Progressing").reason, "Held");
        let rotation = Rotation {
            last_request_id: "u".to_owned(),
            last_ending: "aborted".to_owned(),
            ..Rotation::default()
        };
        assert_eq!(standing(&rotation, "u"), Standing::Over("aborted".to_owned()));
        let over = told("t2").over(&held, &rotation, "aborted");
        assert_eq!(
            (over.phase.as_str(), is(&over, "Complete").status.as_str()),
            ("Aborted", "False")
        );
        assert!(is_final(&over));
    }

    #[test]
    fn phases_are_told_also_of_the_time_when_nobody_wrote_them() {
        let phase = |phase: &str, since| SeenPhase { phase: phase.to_owned(), since };
        let shown = |all: &[PassedPhase]| -> Vec<String> {
            all.iter().map(|one| format!("{} {}", one.phase, one.since.len())).collect()
        };
        let distributing = RootRotationStatus {
            phase: "Distributing".to_owned(),
            ..RootRotationStatus::default()
        };
        let first = [phase("staging", 10), phase("distributing", 20)];
        let written = passed(&[], &first, &distributing, "now");
        assert_eq!(shown(&written), ["Staging 20", "Distributing 20"]);
        assert_eq!(passed(&written, &first, &distributing, "later"), written, "nothing is new");
        // Another process saw the rest, and not the beginning.
        let rest = [phase("distributing", 20), phase("draining", 30), phase("withdrawing", 30)];
        let over =
            RootRotationStatus { phase: "Completed".to_owned(), ..RootRotationStatus::default() };
        let all = passed(&written, &rest, &over, "2030-01-01T00:00:00Z");
        let names: Vec<_> = all.iter().map(|one| one.phase.as_str()).collect();
        assert_eq!(names, ["Staging", "Distributing", "Draining", "Withdrawing", "Completed"]);
        assert_eq!(passed(&all, &rest, &over, "2031-01-01T00:00:00Z"), all, "it ended once");
        let many: Vec<_> = (0..50).map(|since| phase("draining", since + 1)).collect();
        assert_eq!(passed(&[], &many, &over, "3").len(), PHASES_SEEN_MAX);
    }

    #[test]
    fn of_several_holds_one_is_told_and_how_many_there_are_beside_it() {
        let waits = |holds: &[&str]| {
            let holds = holds.iter().map(ToString::to_string).collect();
            let gate = Gate { name: "trust".to_owned(), holds, ..Gate::default() };
            let rotation = Rotation { gate: Some(gate), ..Rotation::default() };
            told("t").under_way(&RootRotationStatus::default(), &rotation).message
        };
        assert_eq!(waits(&["a is late"]), "the trust gate waits: a is late");
        assert_eq!(waits(&["a is late", "b", "c"]), "the trust gate waits: a is late; and 2 more");
        let troubles = vec!["no store".to_owned(), "no key".to_owned()];
        let rotation = Rotation { troubles, ..Rotation::default() };
        let told = told("t").under_way(&RootRotationStatus::default(), &rotation);
        assert_eq!(told.message, "no store; and 1 more");
    }

    #[test]
    fn what_the_ca_no_longer_tells_is_not_told_as_done() {
        let rotation = Rotation { done: vec!["u".to_owned()], ..Rotation::default() };
        assert_eq!(standing(&rotation, "u"), Standing::Over(String::new()));
        assert_eq!(standing(&rotation, "v"), Standing::Unknown);
        let over = told("t").over(&RootRotationStatus::default(), &rotation, "");
        assert_eq!(is(&over, "Complete").status, "Unknown");
        let away = told("t").unknown(&RootRotationStatus::default(), "CAAway", "no answer");
        assert_eq!(is(&away, "Progressing").status, "Unknown");
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let before =
            told("t1").waits(&RootRotationStatus::default(), "Pending", "another is under way");
        let same = told("t2").waits(&before, "Pending", "another is still under way");
        assert_eq!(is(&same, "Accepted").last_transition_time, "t1");
        let rotation = Rotation { phase: "staging".to_owned(), ..Rotation::default() };
        let other = told("t3").under_way(&same, &rotation);
        assert_eq!(is(&other, "Accepted").last_transition_time, "t3");
    }
}
