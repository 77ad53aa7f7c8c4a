//! A rotation in words, and as JSON.

use proto::banyan::admin::v1::{Gate, Holder, Outlook, Rotation};
use serde_json::{Value, json};

use crate::cohort::{self, CANARY};
pub use crate::cohort::{STEADY, phases};
use crate::output::{self, hex, time};

/// Kind of the holder that stands for others who issue under a root.
const SHARED_ROOT: &str = "shared-root";

/// Where it stands, in a few lines.
pub fn status(rotation: &Rotation) -> String {
    if rotation.request_id.is_empty() {
        return format!(
            "no rotation is under way since {}; root {} signs, bundle {}{}",
            time(rotation.phase_since),
            root(&rotation.from_root),
            rotation.sequence,
            last(rotation)
        );
    }
    let mut text = format!(
        "{} since {} (request {}, authority {}, mode {}{})\n{}, bundle {}, generation {}",
        phase(rotation),
        time(rotation.phase_since),
        rotation.request_id,
        rotation.authority,
        rotation.mode,
        cause(rotation),
        roots(rotation),
        rotation.sequence,
        rotation.generation,
    );
    if rotation.held_since != 0 {
        text.push_str(&format!("\non hold since {}", time(rotation.held_since)));
    }
    let (trust, leaves) = (rotation.trust.unwrap_or_default(), rotation.leaves.unwrap_or_default());
    text.push_str(&format!(
        "\ntrust {}/{} leaves, new leaves {}/{}",
        trust.done, trust.total, leaves.done, leaves.total
    ));
    if let Some(standing) = &rotation.cohort {
        text.push_str(&format!("\n{}", cohort::words(standing, &rotation.phase)));
    }
    if let Some(gate) = &rotation.gate {
        text.push_str(&format!("\n{}", gate.summary));
    }
    for trouble in &rotation.troubles {
        text.push_str(&format!("\n! {trouble}"));
    }
    text.push_str(&format!("\nlegal now: {}", rotation.legal.join(", ")));
    text
}

/// Why it began, where the server says so.
fn cause(rotation: &Rotation) -> String {
    match rotation.cause.as_str() {
        "" => String::new(),
        cause => format!(", cause {cause}"),
    }
}

/// What the last rotation came to, as the end of a sentence.
fn last(rotation: &Rotation) -> String {
    match (rotation.last_ending.as_str(), rotation.last_request_id.as_str()) {
        ("", _) => String::new(),
        ("completed", id) => format!("; the last rotation, {id}, was completed"),
        (ending, id) => {
            format!("; the last rotation, {id}, was {ending}, and this root still signs")
        }
    }
}

/// The phase, with what the rotation is certain to come to if that is not what was asked for.
pub fn phase(rotation: &Rotation) -> String {
    match rotation.ending.as_str() {
        "" => rotation.phase.clone(),
        ending => format!("{} ({ending})", rotation.phase),
    }
}

/// Which root goes, and which stays.
fn roots(rotation: &Rotation) -> String {
    let (from, to) = (root(&rotation.from_root), root(&rotation.to_root));
    match (rotation.ending.as_str(), rotation.phase.as_str()) {
        ("aborted", _) => {
            format!(
                "aborted: root {from}, which never signed, has left the bundle; root {to} signs"
            )
        }
        ("rolled back", "draining") => {
            format!(
                "rolled back: root {to} signs again, root {from} leaves when its last leaf has ended"
            )
        }
        ("rolled back", _) => {
            format!("rolled back: root {from} has left the bundle; root {to} signs")
        }
        _ => format!("from root {from} to root {to}"),
    }
}

/// What the present gate waits for, whom, and when it opens.
pub fn explain(rotation: &Rotation) -> String {
    let Some(gate) = &rotation.gate else {
        let why = match rotation.phase.as_str() {
            "distributing" | CANARY | "draining" | "withdrawing" => {
                "what its gate waits for cannot be told now, since this server cannot read it: `banyan status` says why"
            }
            _ => "this phase ends at no gate",
        };
        return format!("{}\n{why}", status(rotation));
    };
    let mut text = status(rotation);
    for hold in &gate.holds {
        text.push_str(&format!("\n  waits for: {hold}"));
    }
    let held_for = rotation.cohort.as_ref().is_some_and(|cohort| !cohort.held_for.is_empty());
    // The summary says what to do then.
    if let Some(opening) = opening(gate).filter(|_| !held_for) {
        text.push_str(&format!("\n  {opening}"));
    }
    if !gate.rests_on.is_empty() {
        text.push_str(&format!("\n  live leaves by evidence: {}", gate.rests_on.join(", ")));
    }
    text.push_str(&crate::told::of_new_root(rotation));
    // What a table has no columns for, in the server's words.
    let in_full = |holder: &&Holder| holder.kind == SHARED_ROOT || holder.own_trust;
    for holder in gate.holders.iter().filter(in_full) {
        text.push_str(&format!("\n  {}", holder.text));
    }
    if !gate.holders.is_empty() {
        text.push_str(&format!("\n{}", holders(gate)));
    }
    text
}

/// When a gate opens at the latest, as a time and from now, or what it waits for instead; nothing of one that is open.
pub fn opening(gate: &Gate) -> Option<String> {
    Some(match (gate.waits_for.as_str(), gate.opens_at_latest) {
        ("resume", _) => {
            "does not open while the rotation is on hold: `banyan rotate resume`".to_owned()
        }
        ("state", _) => "does not open until an operator decides: `banyan state show`".to_owned(),
        ("activate", _) => "is open: `banyan rotate activate` lets the new root sign".to_owned(),
        ("confirm", _) | ("", 0) if !gate.open => {
            format!("does not open by itself: {}", gate.ways.join("; "))
        }
        (_, 0) => return None,
        (_, at) => {
            format!(
                "opens by itself: at {} at the latest, in {} s",
                time(at),
                at.saturating_sub(gate.at).max(0)
            )
        }
    })
}

fn holders(gate: &Gate) -> String {
    let mut table = output::table(&[
        "WAITS FOR",
        "KIND",
        "AGENT",
        "HAS",
        "NEEDS",
        "UNTIL",
        "AGENT LAST SEEN",
        "REFUSES",
    ]);
    for holder in &gate.holders {
        table.add_row([
            holder.identity.clone(),
            holder.kind.clone(),
            if holder.agent.is_empty() { "-".to_owned() } else { holder.agent.clone() },
            holder.has.clone(),
            holder.needs.clone(),
            match holder.until {
                0 => "no time ends it".to_owned(),
                until => time(until),
            },
            seen(holder),
            holder.last_nack.clone(),
        ]);
    }
    let named = gate.holders.len() as u64;
    let more = gate.holders_total.saturating_sub(named);
    if more == 0 { table.to_string() } else { format!("{table}\nand {more} more") }
}

fn seen(holder: &Holder) -> String {
    match (holder.agent_connected, holder.agent_last_seen) {
        (true, _) => "connected".to_owned(),
        (false, 0) => "-".to_owned(),
        (false, at) => time(at),
    }
}

/// The first digits of a root's fingerprint.
pub fn root(id: &[u8]) -> String {
    if id.is_empty() { "(being made)".to_owned() } else { hex(id.get(..4).unwrap_or(id)) }
}

/// All of it for programs.
pub fn json(rotation: &Rotation) -> Value {
    let progress = |progress: Option<proto::banyan::admin::v1::Progress>| {
        let progress = progress.unwrap_or_default();
        json!({ "done": progress.done, "total": progress.total })
    };
    json!({
        "phase": rotation.phase,
        "generation": rotation.generation,
        "sequence": rotation.sequence,
        "request_id": rotation.request_id,
        "authority": rotation.authority,
        "mode": rotation.mode,
        "requested_at": time(rotation.requested_at),
        "phase_since": time(rotation.phase_since),
        "held_since": time(rotation.held_since),
        "from_root": hex(&rotation.from_root),
        "to_root": hex(&rotation.to_root),
        "rolled_back": rotation.rolled_back,
        "ending": rotation.ending,
        "last_request_id": rotation.last_request_id,
        "cause": (!rotation.cause.is_empty()).then_some(&rotation.cause),
        "last_ending": rotation.last_ending,
        "trust": progress(rotation.trust),
        "leaves": progress(rotation.leaves),
        "gate": rotation.gate.as_ref().map(gate_json),
        "troubles": rotation.troubles,
        "rehearsed": rotation.rehearsed,
        "second_net": rotation.second_net,
        "legal": rotation.legal,
        "canary": rotation.cohort.as_ref().map(cohort::json),
        "done": rotation.done,
    })
}

/// What a rotation would come to, for programs: lengths in seconds, `null` where only a word ends the wait.
pub fn outlook_json(outlook: &Outlook) -> Value {
    let leaves = outlook.leaves.iter().map(
        |live| json!({ "kind": live.kind, "count": live.count, "last_ends": time(live.last_ends) }),
    );
    json!({
        "signs_within_seconds": outlook.signs_within_seconds,
        "ends_within_seconds": outlook.ends_within_seconds,
        "leaves": leaves.collect::<Vec<_>>(),
        "behind": outlook.behind.iter().map(holder_json).collect::<Vec<_>>(),
        "exclusive": outlook.exclusive,
        "unknown": outlook.unknown,
    })
}

fn holder_json(holder: &Holder) -> Value {
    json!({
        "kind": holder.kind,
        "identity": holder.identity,
        "agent": holder.agent,
        "serial": hex(&holder.serial),
        "until": time(holder.until),
        "born": output::json_count(holder.born),
        "applied": output::json_count(holder.applied),
        "wanted": output::json_count(holder.wanted),
        "evidence": holder.evidence,
        "evidence_wanted": holder.evidence_wanted,
        "agent_connected": holder.agent_connected,
        "agent_last_seen": time(holder.agent_last_seen),
        "last_nack": holder.last_nack,
        "own_trust": holder.own_trust,
        "has": holder.has,
        "needs": holder.needs,
        "text": holder.text,
    })
}

fn gate_json(gate: &Gate) -> Value {
    json!({
        "name": gate.name,
        "open": gate.open,
        "summary": gate.summary,
        "closed_by": gate.holds,
        "ways": gate.ways,
        "opens_at_latest": time(gate.opens_at_latest),
        "waits_for": gate.waits_for,
        "at": time(gate.at),
        "holders": gate.holders.iter().map(holder_json).collect::<Vec<_>>(),
        "holders_total": gate.holders_total,
        "rests_on": gate.rests_on,
    })
}

#[cfg(test)]
mod tests {
    use proto::banyan::admin::v1::Progress;

    use super::*;

    fn waiting() -> Rotation {
        let holder = Holder {
            kind: "agent-held".to_owned(),
            identity: "spiffe://example.org/web".to_owned(),
            agent: "node-1".to_owned(),
            until: 1_800_000_060,
            has: "nothing known since its issue at bundle 1".to_owned(),
            needs: "bundle 2 (applied)".to_owned(),
            agent_last_seen: 1_800_000_000,
            ..Holder::default()
        };
        let gate = Gate {
            name: "trust".to_owned(),
            summary: "the trust gate is closed: 1 leaf".to_owned(),
            holds: vec!["1 leaves".to_owned()],
            opens_at_latest: 1_800_000_070,
            at: 1_800_000_058,
            holders: vec![holder],
            holders_total: 3,
            ..Gate::default()
        };
        Rotation {
            phase: "distributing".to_owned(),
            request_id: "r".to_owned(),
            from_root: vec![0xaa; 32],
            to_root: vec![0xbb; 32],
            gate: Some(gate),
            trust: Some(Progress { done: 2, total: 3 }),
            leaves: Some(Progress { done: 0, total: 3 }),
            legal: vec!["hold".to_owned(), "abort".to_owned()],
            ..Rotation::default()
        }
    }

    #[test]
    fn an_explanation_names_who_holds_the_gate_and_when_it_opens() {
        let text = explain(&waiting());
        for part in [
            "from root aaaaaaaa to root bbbbbbbb",
            "trust 2/3 leaves",
            "spiffe://example.org/web",
            "nothing known since its issue at bundle 1",
            "bundle 2 (applied)",
            "at 2027-01-15T08:01:10Z at the latest, in 12 s",
            "and 2 more",
            "legal now: hold, abort",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_gate_without_an_end_says_what_somebody_can_do_in_the_server_s_words() {
        let mut rotation = waiting();
        let gate = rotation.gate.as_mut().unwrap();
        gate.opens_at_latest = 0;
        gate.ways = vec!["say so with `banyan root attest aaaaaaaa --by NAME`".to_owned()];
        let text = explain(&rotation);
        assert!(
            text.contains(
                "does not open by itself: say so with `banyan root attest aaaaaaaa --by NAME`"
            ),
            "{text}"
        );
        assert!(!text.contains("confirm, cover or remove"), "{text}");
    }

    #[test]
    fn a_rotation_that_was_aborted_or_is_held_says_so_and_nothing_against_it() {
        let aborted =
            Rotation { phase: "withdrawing".to_owned(), ending: "aborted".to_owned(), ..waiting() };
        let text = status(&aborted);
        assert!(text.starts_with("withdrawing (aborted) since"), "{text}");
        assert!(
            text.contains(
                "root aaaaaaaa, which never signed, has left the bundle; root bbbbbbbb signs"
            ),
            "{text}"
        );
        let mut held = waiting();
        held.held_since = 1_800_000_000;
        let gate = held.gate.as_mut().unwrap();
        (gate.opens_at_latest, gate.waits_for) = (0, "resume".to_owned());
        let text = explain(&held);
        assert!(text.contains("does not open while the rotation is on hold"), "{text}");
        assert!(!text.contains("opens by itself"), "{text}");
    }

    #[test]
    fn a_holder_with_trust_of_its_own_is_named_with_what_to_do_and_without_an_end() {
        let mut rotation = waiting();
        let holder = rotation.gate.as_mut().unwrap().holders.first_mut().unwrap();
        (holder.own_trust, holder.until, holder.text) =
            (true, 0, "takes no validation secret: do this".to_owned());
        let text = explain(&rotation);
        for part in ["no time ends it", "takes no validation secret: do this"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_steady_state_says_who_signs_and_what_was_done_last() {
        let steady = Rotation {
            phase: "steady".to_owned(),
            from_root: vec![0xaa; 32],
            sequence: 3,
            done: vec!["one".to_owned(), "an-abort".to_owned()],
            ..Rotation::default()
        };
        let came_to = |ending: &str| {
            let (last_request_id, last_ending) = ("one".to_owned(), ending.to_owned());
            status(&Rotation { last_request_id, last_ending, ..steady.clone() })
        };
        for (ending, wanted) in [
            ("", "root aaaaaaaa signs, bundle 3"),
            ("completed", "root aaaaaaaa signs, bundle 3; the last rotation, one, was completed"),
            (
                "aborted",
                "root aaaaaaaa signs, bundle 3; the last rotation, one, was aborted, and this root still signs",
            ),
        ] {
            assert!(came_to(ending).ends_with(wanted), "{}", came_to(ending));
        }
    }

    #[test]
    fn hold_is_said_of_a_rotation_that_an_operator_paused_and_of_nothing_else() {
        let text = explain(&waiting());
        for word in ["held by", "HOLDS", "holds the gate", "is held"] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        assert!(text.contains("  waits for: 1 leaves") && text.contains("WAITS FOR"), "{text}");
        let held = Rotation { held_since: 1_800_000_000, ..waiting() };
        assert!(
            status(&held).contains("\non hold since 2027-01-15T08:00:00Z"),
            "{}",
            status(&held)
        );
    }
}
