//! How entries of the journal are written: that stays, whatever the code calls the same things.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rotation::evidence::{GateName, Hold, RelyingParties, Tally};
use rotation::{Advice, Cause, Effect, Event, Evidence, Policy, Refusal};
use rotation_driver::{JournalEntry, Outcome};
use trust::{Generation, RootId, Sequence, Timestamp};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn root() -> RootId {
    RootId::of(b"root")
}

fn entry(event: Event, outcome: Outcome) -> JournalEntry {
    JournalEntry {
        at_secs: 1_800_000_000,
        generation: 7,
        policy: Policy::default(),
        event,
        outcome,
        by: "ann (uid 0)".to_owned(),
        reason: "the root is old".to_owned(),
    }
}

fn evidence() -> Evidence {
    let tally = |count| Tally { count, latest: Some(at(90)) };
    Evidence {
        uptime: Duration::from_secs(60),
        unproven: tally(1),
        own_trust: tally(2),
        waived: 3,
        live: BTreeMap::from([(root(), tally(4))]),
        read: BTreeMap::from([("s1".parse().unwrap(), Generation(6))]),
        relying_parties: RelyingParties { bounded: tally(5), unbounded: 6 },
        foreign: BTreeMap::from([(root(), at(80))]),
        let_go: BTreeSet::from([root()]),
        cohort: None,
        ..Evidence::of_nothing(at(70), Sequence(2))
    }
}

/// One entry of each outcome, with what was renamed in code among what they hold.
fn entries() -> [JournalEntry; 4] {
    let activate =
        Event::ActivateRequested { request_id: "go".parse().unwrap(), evidence: evidence() };
    let holds = vec![
        Hold::OwnTrust { count: 2, until: None },
        Hold::RelyingParties { count: 5, until: Some(at(90)) },
        Hold::UnboundedRelyingParties { count: 6, until: None },
        Hold::Shared { root: root(), until: None },
    ];
    let refusal = Refusal {
        phase: "distributing".to_owned(),
        generation: Generation(7),
        event: "activate_requested".to_owned(),
        cause: Cause::GateClosed { gate: GateName::Trust, holds, opens_at_latest: None },
        advice: Advice::default(),
    };
    let bootstrap = Event::BootstrapRequested {
        request_id: "first".parse().unwrap(),
        authority: "main".parse().unwrap(),
    };
    let staged = Effect::StageRoot {
        request_id: "first".parse().unwrap(),
        authority: "main".parse().unwrap(),
    };
    let acted = |verb: &str| Event::OperatorActed {
        verb: verb.to_owned(),
        about: "mount".to_owned(),
        detail: "bundle 2".to_owned(),
    };
    [
        entry(bootstrap, Outcome::Changed { effects: vec![staged] }),
        entry(activate, Outcome::Refused(refusal)),
        entry(acted("subscriber confirm"), Outcome::Unchanged),
        entry(acted("root vouch"), Outcome::Unchanged),
    ]
}

#[test]
fn entries_of_the_journal_are_written_as_in_the_first_release_and_read_again() {
    let mut text = String::new();
    for entry in entries() {
        let bytes = entry.encode().unwrap();
        assert_eq!(JournalEntry::decode(&bytes).unwrap(), entry);
        text.push_str(&String::from_utf8(bytes).unwrap());
        text.push('\n');
    }
    assert_eq!(text, include_str!("stored_journal.txt"));
}

#[test]
fn an_entry_without_a_name_a_reason_and_what_came_later_is_read() {
    let text = include_str!("stored_journal_first.txt");
    let entries: Vec<_> =
        text.lines().map(|line| JournalEntry::decode(line.as_bytes()).unwrap()).collect();
    let [first, second] = entries.as_slice() else { panic!("two entries") };
    assert_eq!(
        (first.by.as_str(), first.reason.as_str(), first.event.name()),
        ("", "", "bootstrap_requested")
    );
    let Event::EvidenceReported { evidence } = &second.event else { panic!("{:?}", second.event) };
    assert_eq!((evidence.relying_parties.unbounded, evidence.own_trust), (6, Tally::default()));
}
