//! A record that was restored from an old backup: what agents saw keeps the bundle as it is, and an operator lets it go on
//! above that.

use rotation::{Cause, Event, Mode, Phase, State, invariants, step};
use trust::Sequence;

use crate::script::Script;
use crate::words::*;

fn saw(agent: &str, sequence: u64) -> Event {
    Event::BundleSighted { agent: agent.to_owned(), sequence: Sequence(sequence), digest: None }
}

fn go_on(request: &str, above: u64) -> Event {
    let (request_id, above) = (request.parse().unwrap(), Sequence(above));
    Event::ContinueRequested { request_id, above, reason: "restored".to_owned(), waits: false }
}

fn go_on_when_all_have_ended(request: &str, above: u64) -> Event {
    let (request_id, above) = (request.parse().unwrap(), Sequence(above));
    Event::ContinueRequested { request_id, above, reason: "restored".to_owned(), waits: true }
}

fn dismiss(request: &str, agent: &str) -> Event {
    let (request_id, agent) = (request.parse().unwrap(), agent.to_owned());
    Event::SightingDismissed { request_id, agent, reason: "a clone".to_owned() }
}

fn heed(request: &str, agent: &str) -> Event {
    Event::SightingHeeded { request_id: request.parse().unwrap(), agent: agent.to_owned() }
}

#[test]
fn a_sequence_that_was_seen_is_never_given_again() {
    Script::from(signing())
        .then(saw("node-1", 4), "g8 b1 steady | A active key-a until 2000 | s1 open 2000 | -")
        .nothing_new(saw("node-1", 4))
        .nothing_new(saw("node-1", 3))
        .refuses(
            rotation("r", Mode::Auto),
            "rotation_requested refused while steady at generation 8: agent node-1 holds bundle 4, which this server \
             never published (its latest is 1): the data directory was restored from a backup that is older than the \
             mesh; first read `banyan state show`; if no other root had begun to sign after the backup was made, continue above all that was seen \
             with `banyan state continue --above 4 --now --by NAME --reason TEXT`, or if what agent node-1 says is wrong, disregard it with `banyan state dismiss node-1 --by NAME \
             --reason TEXT`",
        )
        .refuses(
            go_on("c", 3),
            "continue_requested refused while steady at generation 8: bundle 3 is no place to go on above; name 4 or \
             more, as `banyan state show` says; if no other root had begun to sign after the backup was made, continue above all that was \
             seen with `banyan state continue --above 4 --now --by NAME --reason TEXT`, or if what agent node-1 says is wrong, disregard it with `banyan state dismiss node-1 --by \
             NAME --reason TEXT`",
        )
        .then(
            go_on("c", 4),
            "g9 b5 steady | A active key-a until 2000 | lost-5 closed-unread 2000, s1 open 2000 | publish_bundle@9",
        )
        .nothing_new(go_on("c", 4))
        .nothing_new(saw("node-2", 4))
        .then(
            published(5),
            "g10 b5 steady | A active key-a until 2000 | lost-5 closed-unread 2000, s1 open 2000 | -",
        )
        .then(
            rotation("r", Mode::Auto),
            "g11 b5 staging: root | A active key-a until 2000 | lost-5 closed-unread 2000, s1 open 2000 | \
             stage_root@11",
        );
}

#[test]
fn going_on_waits_for_the_leaves_that_were_issued_after_the_backup_unless_somebody_says_that_no_root_came()
 {
    let twice_skew = i64::try_from(policy().skew.as_secs() * 2).unwrap();
    let over = 1_000 + i64::try_from(policy().leaf_lifetime_max.as_secs()).unwrap() + twice_skew;
    let text = format!(
        "continue_requested refused while steady at generation 8: leaves that were issued after the backup may live until {}, and \
         those under a root that came after it would be refused at once; ask again then; if no other root had begun to sign \
         after the backup was made, continue above all that was seen with `banyan state continue --above 4 --now --by NAME --reason TEXT`",
        at(over)
    );
    let script = || {
        Script::from(signing())
            .then(saw("node-1", 4), "g8 b1 steady | A active key-a until 2000 | s1 open 2000 | -")
    };
    script()
        .refuses(go_on_when_all_have_ended("c", 4), &text)
        .at(over)
        .refuses(go_on_when_all_have_ended("c", 4), &text);
    let later = script().at(over + 1).state;
    let next =
        step(&later, &go_on_when_all_have_ended("c", 4), at(over + 1), &policy()).unwrap().next;
    assert_eq!((next.sequence, next.seen.open.len()), (Sequence(5), 0));
    // Nobody has seen more: no root can lose trust by it.
    let next =
        step(&signing(), &go_on_when_all_have_ended("c", 1), at(1_000), &policy()).unwrap().next;
    assert_eq!(next.sequence, Sequence(2));
}

#[test]
fn a_root_that_is_ready_waits_until_the_record_has_gone_on() {
    let ready =
        after(signing(), 1_000, &[rotation("r", Mode::Auto), prepared("r", "B"), saw("n", 2)]);
    let waits = "staging: ready | A active key-a until 2000, B staged key-b until -";
    Script::from(ready)
        .then(signed("r", "B", "b"), &format!("g11 b1 {waits} | s1 open 2000 | -"))
        .then(hold("h"), "g12 b1 staging: ready held@1000 | A active key-a until 2000, B staged key-b until - | s1 open 2000 | -")
        .then(resume("h2"), &format!("g13 b1 {waits} | s1 open 2000 | -"))
        .then(go_on("c", 2), &format!("g14 b3 {waits} | lost-3 closed-unread 2000, s1 open 2000 | publish_bundle@14"))
        .then(
            published(3),
            "g15 b4 distributing | A active key-a until 2000, B published key-b until - | lost-3 closed-unread 2000, \
             s1 open 2000 | publish_bundle@15",
        );
}

#[test]
fn a_word_that_is_dismissed_counts_no_more_until_it_is_heeded_again() {
    Script::from(signing())
        .then(saw("liar", 900), "g8 b1 steady | A active key-a until 2000 | s1 open 2000 | -")
        .then(dismiss("d", "liar"), "g9 b1 steady | A active key-a until 2000 | s1 open 2000 | -")
        .nothing_new(dismiss("d", "liar"))
        .nothing_new(saw("liar", 901))
        .then(heed("h", "liar"), "g10 b1 steady | A active key-a until 2000 | s1 open 2000 | -")
        .refuses(
            heed("h2", "liar"),
            "sighting_heeded refused while steady at generation 10: agent liar is not dismissed; `banyan state show` \
             names those that are",
        )
        .then(saw("liar", 902), "g11 b1 steady | A active key-a until 2000 | s1 open 2000 | -")
        .refuses(go_on("c", 1 << 53), &no_place(1 << 53));
}

fn no_place(above: u64) -> String {
    format!(
        "continue_requested refused while steady at generation 11: bundle {above} is no place to go on above; name 902 \
         or more, as `banyan state show` says; if no other root had begun to sign after the backup was made, continue above all that was seen \
         with `banyan state continue --above 902 --now --by NAME --reason TEXT`, or if what agent liar says is wrong, disregard it with `banyan state dismiss liar --by NAME \
         --reason TEXT`"
    )
}

#[test]
fn a_root_that_waits_goes_into_the_bundle_when_the_last_word_is_dismissed() {
    let events = [
        rotation("r", Mode::Auto),
        prepared("r", "B"),
        saw("n", 2),
        saw("m", 3),
        signed("r", "B", "b"),
    ];
    let state = after(after(signing(), 1_000, &events), 1_000, &[dismiss("d", "n")]);
    assert!(matches!(state.phase, Phase::Staging(_)), "another agent's word still counts");
    let state = after(state, 1_000, &[dismiss("d2", "m")]);
    assert!(matches!(state.phase, Phase::Distributing(_)));
    assert_eq!(state.sequence, Sequence(2));
}

/// Legal while nothing was seen, and what each would do to bundle or signer.
fn changes(phase: &str) -> (State, Event) {
    match phase {
        "activate" => {
            let state =
                after(distributed(Mode::Manual), 1_100, &[reported(evidence(1_100, 2, 10))]);
            (state, activate("x", evidence(1_200, 2, 10)))
        }
        "abort" => (distributed(Mode::Auto), abort("x")),
        "rollback" => (drained(), rollback("x")),
        "switch" => {
            let state = after(distributed(Mode::Auto), 1_100, &[reported(evidence(1_100, 2, 10))]);
            (state, reported(evidence(1_200, 2, 10)))
        }
        _ => {
            let state = after(drained(), 1_200, &[reported(evidence(1_200, 2, 14))]);
            (state, reported(evidence(1_300, 2, 14)))
        }
    }
}

#[test]
fn neither_bundle_nor_signer_changes_by_any_way_while_more_was_seen() {
    for way in ["activate", "abort", "rollback", "switch", "withdraw"] {
        let (state, event) = changes(way);
        let free = step(&state, &event, at(1_300), &policy()).unwrap().next;
        assert!(
            free.sequence != state.sequence || free.signing_root() != state.signing_root(),
            "{way} changes something"
        );
        let fenced = after(state, 1_200, &[saw("n", 9)]);
        match step(&fenced, &event, at(1_300), &policy()) {
            Ok(next) => {
                invariants::check_next(&fenced, &next.next).ok().filter(|()| next.changes(&fenced));
                assert_eq!(
                    (next.next.sequence, next.next.signing_root()),
                    (fenced.sequence, fenced.signing_root()),
                    "{way}"
                );
            }
            Err(refusal) => {
                assert!(matches!(refusal.cause, Cause::BundleUnknown { .. }), "{way}: {refusal}")
            }
        }
    }
}

#[test]
fn in_every_phase_the_record_goes_on_and_the_rotation_comes_to_its_end() {
    for state in [distributed(Mode::Auto), drained()] {
        let seen = after(state, 1_150, &[saw("n", 7)]);
        let next = step(&seen, &go_on("c", 7), at(1_150), &policy()).unwrap().next;
        invariants::check_next(&seen, &next).unwrap();
        assert_eq!(next.sequence, Sequence(8));
        let trusted: Vec<_> = next.own_bundle().map(|(_, entry)| entry.horizon).collect();
        assert_eq!(trusted.len(), 2);
        assert!(
            trusted.iter().all(|horizon| *horizon >= Some(at(2_150))),
            "leaves that are not known count: {trusted:?}"
        );
    }
}

#[test]
fn gates_wait_for_leaves_of_which_the_rows_were_lost() {
    let events =
        [saw("n", 2), go_on("c", 2), published(3), rotation("r", Mode::Auto), prepared("r", "B")];
    let state =
        after(after(signing(), 1_000, &events), 1_000, &[signed("r", "B", "b"), published(4)]);
    let generation = state.generation.0;
    let state = after(state, 1_000, &[sealed("s1", generation)]);
    let early =
        step(&state, &reported(evidence(1_900, 4, generation)), at(1_900), &policy()).unwrap();
    assert!(!early.changes(&state), "leaves that were lost may live until 2,000");
    let late = evidence(2_021, 4, generation);
    let settling = step(&state, &reported(late), at(2_021), &policy()).unwrap();
    assert!(settling.changes(&state), "their time is over");
}
