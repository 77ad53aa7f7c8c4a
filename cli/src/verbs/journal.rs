//! `banyan journal show|verify`: what happened to the roots, and the proof that it went by the rules.

use console::exit::Failure;
use console::journal::{Journal, read, verified};
use console::output;
use rotation::Event;
use rotation_driver::{JournalEntry, Outcome, Replayed, is_routine};
use serde_json::{Value, json};
use trust::plain::counted;

use crate::admin_client;
use crate::args::{JournalAction, JournalOptions};

/// Runs the verb.
///
/// # Errors
/// [`Failure::Failed`] if the journal does not hold, with the entry; others if the server is away or refuses.
pub async fn run(options: &JournalOptions) -> Result<(), Failure> {
    let mut client = admin_client::rotations(&options.target).await?;
    match options.action {
        JournalAction::Show { from, all } => {
            let journal = read(&mut client, from).await?;
            show(&journal, all, options.json)
        }
        JournalAction::Verify => {
            let replayed = verified(&mut client).await?;
            let Replayed { transitions, refusals, unchanged, rotations, .. } = &replayed;
            match options.json {
                true => output::json(&json!({
                    "verified": true,
                    "transitions": transitions,
                    "refusals": refusals,
                    "unchanged": unchanged,
                    "rotations": rotations,
                })),
                false => output::line(&format!(
                    "{}, {}, {}, {}\nthe journal leads to the record, generation {}: verified",
                    counted(*transitions, "transition", "transitions"),
                    counted(*refusals, "refusal", "refusals"),
                    counted(*unchanged, "repetition", "repetitions"),
                    counted(*rotations, "rotation", "rotations"),
                    replayed.state.generation
                )),
            }
        }
    }
}

fn show(journal: &Journal, all: bool, json: bool) -> Result<(), Failure> {
    let mut table =
        output::table(&["ENTRY", "AT", "GENERATION", "EVENT", "ABOUT", "BY", "OUTCOME"]);
    for (index, bytes) in &journal.entries {
        let entry = JournalEntry::decode(bytes).map_err(anyhow::Error::from)?;
        if !all && is_routine(&entry.event) {
            continue;
        }
        if json {
            output::json(&as_json(*index, &entry))?;
            continue;
        }
        table.add_row([
            index.to_string(),
            output::time(entry.at_secs),
            entry.generation.to_string(),
            event_name(&entry),
            about(&entry),
            if entry.by.is_empty() { "the server".to_owned() } else { entry.by.clone() },
            in_words(&entry),
        ]);
    }
    if json { Ok(()) } else { output::line(&table.to_string()) }
}

/// An entry for programs. The journal leaves out what is absent; here it is `null`.
fn as_json(index: u64, entry: &JournalEntry) -> Value {
    let mut value = json!({ "index": index, "entry": entry });
    for (within, name) in
        [("/entry", "by"), ("/entry", "reason"), ("/entry/outcome/refused", "advice")]
    {
        if let Some(members) = value.pointer_mut(within).and_then(Value::as_object_mut) {
            members.entry(name).or_insert(Value::Null);
        }
    }
    value
}

/// The event, or what an operator did in the words of the command line.
fn event_name(entry: &JournalEntry) -> String {
    match &entry.event {
        Event::OperatorActed { verb, .. } => command(verb),
        other => other.name().to_owned(),
    }
}

/// The present name of a command, which the journal has by its first one.
fn command(verb: &str) -> String {
    match verb.split_once(' ') {
        Some(("subscriber", rest)) => format!("relying-party {rest}"),
        Some(("tier", rest)) => format!("downstream {rest}"),
        Some(("root", "vouch")) => "root attest".to_owned(),
        _ => verb.to_owned(),
    }
}

/// The root, the authority and the request that an entry names; of what an operator did, whom it is about.
fn about(entry: &JournalEntry) -> String {
    if let Event::OperatorActed { about, .. } = &entry.event {
        return about.clone();
    }
    let mut about = entry.event.about();
    if let Outcome::Changed { effects } = &entry.outcome {
        about = effects.iter().fold(about, |about, effect| about.or_of(effect));
    }
    let agent = match &entry.event {
        Event::SightingHeeded { agent, .. } | Event::SightingDismissed { agent, .. } => {
            Some(format!("agent {agent}"))
        }
        _ => None,
    };
    let root = about.root.map(|root| format!("root {}", root.short()));
    let authority = about.authority.map(|authority| format!("authority {authority}"));
    let request = about.request_id.map(|request| format!("request {request}"));
    let named: Vec<_> = [root, agent, authority, request].into_iter().flatten().collect();
    named.join("\n")
}

fn in_words(entry: &JournalEntry) -> String {
    match entry.reason.as_str() {
        "" => outcome(entry),
        reason => format!("{}\nbecause: {reason}", outcome(entry)),
    }
}

fn outcome(entry: &JournalEntry) -> String {
    if let Event::OperatorActed { detail, .. } = &entry.event {
        return if detail.is_empty() { "noted".to_owned() } else { detail.clone() };
    }
    if let Event::ClockAccepted { by, reason, wall, expected } = &entry.event {
        return format!(
            "the wall clock is right at {wall}, and not {expected}, says {by}: {reason}"
        );
    }
    match &entry.outcome {
        Outcome::Changed { effects } if effects.is_empty() => "taken".to_owned(),
        Outcome::Changed { effects } => {
            let effects: Vec<_> = effects.iter().map(|effect| effect.name()).collect();
            format!("taken: {}", effects.join(", "))
        }
        Outcome::Unchanged => "done before".to_owned(),
        Outcome::Refused(refusal) => format!("refused: {}; {}", refusal.cause, refusal.legal()),
    }
}

#[cfg(test)]
mod tests {
    use rotation::{Effect, Policy};
    use trust::{CertificateId, RootId};

    use super::*;

    fn entry(event: Event, effects: Vec<Effect>) -> JournalEntry {
        JournalEntry {
            at_secs: 1_800_000_000,
            generation: 3,
            policy: Policy::default(),
            event,
            outcome: Outcome::Changed { effects },
            by: "ann (uid 0)".to_owned(),
            reason: String::new(),
        }
    }

    #[test]
    fn an_entry_shows_its_root_its_authority_and_its_request() {
        let root = RootId::of(b"root");
        let wanted = Event::RotationRequested {
            request_id: "one".parse().unwrap(),
            authority: "main".parse().unwrap(),
            mode: rotation::Mode::Auto,
            stage_again: None,
            canary: None,
        };
        assert_eq!(about(&entry(wanted, Vec::new())), "authority main\nrequest one");
        let switch = Effect::SwitchSigner { root, issuer: Some(CertificateId::of(b"issuer")) };
        let activated = Event::HoldRequested { request_id: "two".parse().unwrap() };
        assert_eq!(
            about(&entry(activated, vec![switch])),
            format!("root {}\nrequest two", root.short())
        );
    }

    #[test]
    fn in_json_what_an_entry_does_not_have_is_null() {
        let heeded = Event::SightingHeeded {
            request_id: "one".parse().unwrap(),
            agent: "node-1".to_owned(),
        };
        let plain = JournalEntry { by: String::new(), ..entry(heeded, Vec::new()) };
        assert_eq!(about(&plain), "agent node-1\nrequest one");
        let shown = as_json(7, &plain);
        for name in ["by", "reason"] {
            assert_eq!(shown["entry"].get(name), Some(&Value::Null), "{shown}");
        }
        let steady =
            rotation::State::uninitialised(trust::TrustDomain::parse("example.org").unwrap());
        let aborted = Event::AbortRequested { request_id: "two".parse().unwrap() };
        let refused =
            rotation::step(&steady, &aborted, trust::Timestamp::from_secs(1), &Policy::default());
        let outcome = Outcome::Refused(*refused.unwrap_err());
        let shown = as_json(8, &JournalEntry { outcome, ..plain });
        assert!(shown["entry"]["outcome"]["refused"].get("advice").is_some(), "{shown}");
    }

    #[test]
    fn what_an_operator_did_is_shown_in_the_words_of_the_command_line_with_its_reason() {
        let acted = Event::OperatorActed {
            verb: "leaf forget".to_owned(),
            about: "4a01".to_owned(),
            detail: "spiffe://example.org/web".to_owned(),
        };
        let entry =
            JournalEntry { reason: "the node burnt down".to_owned(), ..entry(acted, Vec::new()) };
        let written = JournalEntry::decode(&entry.encode().unwrap()).unwrap();
        assert_eq!(written, entry);
        assert_eq!(
            (event_name(&written).as_str(), about(&written).as_str()),
            ("leaf forget", "4a01")
        );
        assert_eq!(in_words(&written), "spiffe://example.org/web\nbecause: the node burnt down");
    }
}
