//! No explanation contradicts itself, whatever is known of whoever holds a gate.

use std::time::Duration;

use super::*;
use crate::explain::{KINDS, class_name};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn policy() -> Policy {
    Policy { skew: Duration::from_secs(60), ..Policy::default() }
}

fn at(offset: i64) -> Timestamp {
    Timestamp::from_secs(NOW.as_secs() + offset)
}

fn root(name: &str) -> RootId {
    RootId::of(name.as_bytes())
}

/// Leaves of all kinds, with all that may be known of them.
fn leaves() -> Vec<Leaf> {
    let mut all = Vec::new();
    for kind in KINDS {
        for newest in
            [0, 1, 2, 3].into_iter().flat_map(|sequence| EvidenceClass::ALL.map(|class| (sequence, class)))
        {
            for ends in [-200, -121, -60, 0, 600] {
                for refuses in [None, Some("no".to_owned())] {
                    let newest = Some((Sequence(newest.0), newest.1)).filter(|(sequence, _)| sequence.0 > 0);
                    all.push(Leaf {
                        kind,
                        identity: "spiffe://example.org/web".to_owned(),
                        serial: Serial::from_bytes(&[0x41; 16]).unwrap(),
                        agent: Some(AgentSeen {
                            name: "node-1".to_owned(),
                            connected: ends > 0,
                            last_seen: NOW,
                        }),
                        born: Sequence(1),
                        newest,
                        not_after: at(ends),
                        refuses,
                    });
                }
            }
        }
    }
    all
}

/// What may be asked of a leaf.
fn asked() -> Vec<Asked> {
    let bundle = |class| Asked::Bundle { sequence: Sequence(2), class };
    let gone = Asked::Gone { from: root("a"), to: root("b") };
    EvidenceClass::ALL.map(bundle).into_iter().chain([gone]).collect()
}

/// Holders of every sort that an explanation may have.
fn holders() -> Vec<Holder> {
    let policy = policy();
    let of_leaves = leaves().into_iter().flat_map(|leaf| {
        asked().into_iter().filter_map(move |asked| Holder::of_leaf(leaf.clone(), asked, NOW, &policy))
    });
    let ends = [None, Some(at(-121)), Some(at(-60)), Some(at(60))];
    let relying_parties = [0, 1, 2, 3].into_iter().flat_map(|confirmed| {
        ends.into_iter().flat_map(move |until| {
            [Round::Both, Round::Last].into_iter().filter_map(move |round| {
                let known = Party { name: "partner".to_owned(), confirmed: Sequence(confirmed), until };
                Holder::of_relying_party(known, Sequence(2), round, NOW, &policy)
            })
        })
    });
    of_leaves.chain(relying_parties).collect()
}

#[test]
fn nobody_holds_a_gate_with_what_it_needs() {
    let holders = holders();
    assert!(holders.len() > 500, "{}", holders.len());
    for holder in holders {
        assert_ne!(holder.has.in_words(), holder.needs.in_words(), "{holder:?}");
        if let (Has::Bundle { sequence, class }, Needs::Bundle { sequence: wanted, class: by }) =
            (&holder.has, &holder.needs)
        {
            assert!(sequence < wanted || class < by, "{holder:?}");
        }
    }
}

#[test]
fn nobody_is_waited_for_until_a_time_that_has_passed_and_each_has_one_time() {
    for holder in holders() {
        let text = holder.sentence();
        let times =
            text.matches("Z,").count() + text.matches("Z:").count() + usize::from(text.ends_with('Z'));
        match holder.ends {
            Ends::At(end) => {
                assert!(end > NOW, "{holder:?}");
                assert!(text.contains(&end.to_string()) && times == 1, "{text}");
            }
            Ends::ByWord => assert!(text.contains("no time ends that") && times == 0, "{text}"),
        }
    }
}

#[test]
fn only_leaves_are_born() {
    for holder in holders() {
        let is_leaf = matches!(holder.who, Who::Leaf { .. });
        assert!(is_leaf || holder.has.born() == Sequence(0), "{holder:?}");
        assert!(is_leaf || !holder.sentence().contains("issue"), "{}", holder.sentence());
    }
}

#[test]
fn a_leaf_of_the_root_that_goes_needs_a_new_one_although_its_holder_has_the_bundle() {
    let mut leaf = leaves().remove(0);
    (leaf.newest, leaf.not_after) = (Some((Sequence(2), EvidenceClass::Applied)), at(600));
    let asked = Asked::Gone { from: root("a"), to: root("b") };
    let holder = Holder::of_leaf(leaf.clone(), asked, NOW, &policy()).unwrap();
    assert_eq!(holder.has.in_words(), format!("a leaf of root {}", root("a").short()));
    assert_eq!(holder.needs.in_words(), format!("a new leaf, of root {}", root("b").short()));
    let asked = Asked::Bundle { sequence: Sequence(2), class: EvidenceClass::Applied };
    assert_eq!(Holder::of_leaf(leaf, asked, NOW, &policy()), None, "it has what the trust gate asks");
}

#[test]
fn that_a_confirmation_is_asked_for_twice_is_said_both_times() {
    let of = |round| {
        let known = Party { name: "partner".to_owned(), confirmed: Sequence(1), until: None };
        Holder::of_relying_party(known, Sequence(2), round, NOW, &policy()).unwrap()
    };
    let (both, last) = (of(Round::Both), of(Round::Last));
    assert!(both.sentence().contains("once more when the former root has left"), "{}", both.sentence());
    assert!(last.sentence().contains("the second and last of this rotation"), "{}", last.sentence());
    assert_eq!(both.needs.in_words(), "bundle 2 confirmed (1st of 2)");
    assert_eq!(both.has.in_words(), "bundle 1 confirmed");
    assert_eq!(class_name(EvidenceClass::Applied), "applied");
}
