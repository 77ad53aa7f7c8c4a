//! No explanation contradicts itself, whatever is known of whoever holds a gate.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger::Standing;

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
        for newest in [0, 1, 2, 3]
            .into_iter()
            .flat_map(|sequence| EvidenceClass::ALL.map(|class| (sequence, class)))
        {
            for ends in [-200, -121, -60, 0, 600] {
                for refuses in [None, Some("no".to_owned())] {
                    let newest =
                        Some((Sequence(newest.0), newest.1)).filter(|(sequence, _)| sequence.0 > 0);
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
                        listening: None,
                        banned: None,
                    });
                }
            }
        }
    }
    all
}

/// What may be asked of a leaf.
fn asked() -> Vec<Asked> {
    let bundle =
        |class: EvidenceClass| Asked::Bundle { sequence: Sequence(2), required: class.into() };
    let gone = Asked::Gone { from: root("a"), to: root("b") };
    EvidenceClass::ALL.map(bundle).into_iter().chain([gone]).collect()
}

/// Holders of every sort that an explanation may have.
fn holders() -> Vec<Holder> {
    let policy = policy();
    let of_leaves = leaves().into_iter().flat_map(|leaf| {
        asked()
            .into_iter()
            .filter_map(move |asked| Holder::of_leaf(leaf.clone(), asked, NOW, &policy))
    });
    let ends = [None, Some(at(-121)), Some(at(-60)), Some(at(60))];
    let relying_parties = [0, 1, 2, 3].into_iter().flat_map(|confirmed| {
        ends.into_iter().flat_map(move |until| {
            [Round::Both, Round::Last, Round::Back].into_iter().filter_map(move |round| {
                let known =
                    Party { name: "partner".to_owned(), confirmed: Sequence(confirmed), until };
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
        let times = text.matches("Z,").count()
            + text.matches("Z:").count()
            + usize::from(text.ends_with('Z'));
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
    let asked = Asked::Bundle { sequence: Sequence(2), required: EvidenceClass::Applied.into() };
    assert_eq!(
        Holder::of_leaf(leaf, asked, NOW, &policy()),
        None,
        "it has what the trust gate asks"
    );
}

#[test]
fn a_proxy_that_acknowledged_is_named_until_it_is_seen_to_verify() {
    let class = EvidenceClass::Applied;
    let asked =
        |probe| Asked::Bundle { sequence: Sequence(2), required: Required { class, probe } };
    let seen = |unable, not_probeable, class| {
        let mut leaf = leaves().remove(0);
        (leaf.newest, leaf.not_after) = (Some((Sequence(2), class)), at(600));
        let levels = EvidenceClass::ALL.map(|level| Sequence(if level <= class { 2 } else { 0 }));
        let probe =
            ledger::Probe { unable: Sequence(unable), not_probeable: Sequence(not_probeable) };
        let standing = Standing {
            root: root("a"),
            kind: leaf.kind,
            born: Sequence(1),
            applied: ledger::Applied::from_sequences(levels),
            own_trust: false,
            waived: false,
            listening: Some(probe),
        };
        leaf.listening = Some(Listening { standing, said: Some("alert UnknownCA".to_owned()) });
        leaf
    };
    let held = |leaf: Leaf, probe| Holder::of_leaf(leaf, asked(probe), NOW, &policy());
    let waits = held(seen(0, 0, class), true).unwrap();
    assert!(!waits.unable && matches!(waits.ends, Ends::At(_)), "{waits:?}");
    assert!(waits.sentence().contains("has not seen yet"), "{}", waits.sentence());
    let unable = held(seen(2, 2, class), true).unwrap();
    assert!(unable.unable && unable.ends == Ends::ByWord, "{unable:?}");
    let said = unable.sentence();
    for part in ["cannot verify the new root (alert UnknownCA)", "no time opens", "--lasts 7d"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    assert!(unable.in_short().contains("cannot verify the new root"), "{}", unable.in_short());
    assert_eq!(held(seen(2, 0, class), false), None, "where no probe is asked for");
    assert_eq!(held(seen(0, 2, class), true), None, "where its listener cannot be probed");
    assert_eq!(held(seen(2, 0, EvidenceClass::HandshakeObserved), true), None);
}

#[test]
fn a_gate_that_gives_up_waits_for_nobody_longer_and_says_of_nobody_that_no_time_ends_it() {
    let deadline = at(300);
    for holder in holders() {
        let before = holder.ends;
        let holder = holder.given_up_at(Some(deadline), NOW).unwrap();
        let Ends::At(end) = holder.ends else { panic!("{holder:?}") };
        assert!(end <= deadline, "{holder:?}");
        assert!(before == Ends::ByWord || before == Ends::At(end) || end == deadline);
        assert!(!holder.sentence().contains("no time"), "{}", holder.sentence());
    }
    assert_eq!(Ends::first(None, None), Ends::ByWord);
    assert_eq!(Ends::first(Some(at(2)), Some(at(1))), Ends::At(at(1)));
}

#[test]
fn a_confirmation_is_numbered_only_where_the_first_was_given_and_two_are_asked_for() {
    let needs = |confirmed, round| {
        let known =
            Party { name: "partner".to_owned(), confirmed: Sequence(confirmed), until: None };
        Holder::of_relying_party(known, Sequence(35), round, NOW, &policy())
            .unwrap()
            .needs
            .in_words()
    };
    assert_eq!(needs(34, Round::Last), "bundle 35 confirmed (2nd of 2)");
    assert_eq!(needs(0, Round::Last), "bundle 35 confirmed");
    assert_eq!(needs(34, Round::Back), "bundle 35 confirmed", "the rotation was given up");
}

#[test]
fn a_refusal_names_as_many_as_fit_each_in_full_and_without_a_command() {
    let holders = holders();
    for len in [0, 60, 200, 512] {
        let text = named(&holders, 7, 5, len);
        assert!(text.len() < len + 120, "{text}");
        let first: BTreeSet<_> = holders.iter().take(5).map(Holder::in_short).collect();
        let whole: usize = first.iter().map(|short| text.matches(short.as_str()).count()).sum();
        assert_eq!(whole, text.matches("spiffe://").count(), "{text}");
        assert!(
            text.ends_with(if whole == 0 { "names" } else { "as `banyan rotate explain` says" }),
            "{text}"
        );
        assert!(holders.iter().all(|holder| !holder.in_short().contains('`')));
    }
    assert_eq!(named(&[], 0, 5, 512), "");
}

#[test]
fn that_a_confirmation_is_asked_for_twice_is_said_both_times() {
    let of = |round| {
        let known = Party { name: "partner".to_owned(), confirmed: Sequence(1), until: None };
        Holder::of_relying_party(known, Sequence(2), round, NOW, &policy()).unwrap()
    };
    let (both, last) = (of(Round::Both), of(Round::Last));
    assert!(
        both.sentence().contains("once more when the former root has left"),
        "{}",
        both.sentence()
    );
    assert!(
        last.sentence().contains("the second and last of this rotation"),
        "{}",
        last.sentence()
    );
    assert_eq!(both.needs.in_words(), "bundle 2 confirmed (1st of 2)");
    assert_eq!(both.has.in_words(), "bundle 1 confirmed");
    assert_eq!(class_name(EvidenceClass::Applied), "applied");
}
