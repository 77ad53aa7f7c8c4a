//! What each gate is closed by, when it opens by itself, and what it closes behind itself.

use rotation::evidence::{Gate, Hold, RelyingParties, Tally, gate};
use rotation::{Contents, Evidence, Mode, SegmentState, State};

use crate::script::Script;
use crate::words::*;

fn seen(state: &State, evidence: &Evidence) -> (Vec<String>, Option<i64>) {
    let Gate { holds, opens_at_latest, .. } = gate(state, evidence, &policy()).unwrap();
    (holds.iter().map(Hold::to_string).collect(), opens_at_latest.map(|latest| latest.as_secs()))
}

#[test]
fn a_gate_says_what_holds_it_and_when_it_opens_at_the_latest() {
    let state = distributed(Mode::Auto);
    let base = || evidence(1_100, 2, 10);
    let settling = "handshakes in flight, for 30 s more";
    let open = (vec![settling.to_owned()], Some(1_130));
    assert_eq!(seen(&state, &base()), open);
    // Twice the skew, one second past it, and the settle time after the end.
    let rows = Evidence { unproven: tally(3, 1_900), waived: 1, ..base() };
    let text = "3 leaves whose holders have not applied the bundle, until 1970-01-01T00:32:01Z";
    assert_eq!(seen(&state, &rows), (vec![text.to_owned(), settling.to_owned()], Some(1_951)));
    let own = Evidence {
        own_trust: Tally { count: 2, latest: None },
        unproven: tally(1, 1_900),
        ..base()
    };
    let unproven =
        "1 leaf whose holder has not applied the bundle, until 1970-01-01T00:32:01Z".to_owned();
    let text = "2 leaves are held with trust of their holders' own, which nobody has confirmed, and no time ends that";
    assert_eq!(seen(&state, &own), (vec![unproven, text.to_owned(), settling.to_owned()], None));
    let own = Evidence { own_trust: tally(1, 1_500), ..base() };
    let text = "1 leaf is held with trust of its holder's own, which nobody has confirmed, until \
                1970-01-01T00:25:21Z";
    assert_eq!(seen(&state, &own), (vec![text.to_owned(), settling.to_owned()], Some(1_551)));
    let unable = Evidence { unable: 2, ..base() };
    let text = "the holders of 2 leaves have acknowledged the bundle and cannot verify the new root, and no time ends that";
    assert_eq!(seen(&state, &unable), (vec![text.to_owned(), settling.to_owned()], None));
    let relying_parties = RelyingParties { bounded: tally(2, 1_500), unbounded: 0 };
    let text = "2 relying parties have not confirmed the bundle, until 1970-01-01T00:25:21Z";
    let waits = Evidence { relying_parties, ..base() };
    assert_eq!(seen(&state, &waits), (vec![text.to_owned(), settling.to_owned()], Some(1_551)));
    let relying_parties = RelyingParties { unbounded: 1, ..RelyingParties::default() };
    let text = "1 relying party must confirm the bundle by name";
    let waits = Evidence { relying_parties, ..base() };
    assert_eq!(seen(&state, &waits), (vec![text.to_owned(), settling.to_owned()], None));
    let unread = Evidence { read: [].into(), ..base() };
    let text = "segment s1 is not sealed and read since the change, until 1970-01-01T00:33:41Z";
    assert_eq!(seen(&state, &unread), (vec![text.to_owned(), settling.to_owned()], Some(2_051)));
}

#[test]
fn an_end_counts_as_passed_after_twice_the_skew_and_not_a_second_before() {
    let state = distributed(Mode::Auto);
    let held = |now, held: fn(&mut Evidence)| {
        let mut evidence = evidence(now, 2, 10);
        held(&mut evidence);
        !gate(&state, &evidence, &policy()).unwrap().is_met()
    };
    let by_rows: fn(&mut Evidence) = |evidence| evidence.unproven = tally(1, 1_900);
    assert_eq!([1_920, 1_921].map(|now| held(now, by_rows)), [true, false]);
    let never: fn(&mut Evidence) = |evidence| evidence.own_trust = Tally { count: 1, latest: None };
    assert_eq!(
        [1_921, 900_000].map(|now| held(now, never)),
        [true, true],
        "its successor is the same again"
    );
    let by_own_trust: fn(&mut Evidence) = |evidence| evidence.own_trust = tally(1, 1_900);
    assert_eq!([1_920, 1_921].map(|now| held(now, by_own_trust)), [true, false]);
    let by_relying_parties: fn(&mut Evidence) =
        |evidence| evidence.relying_parties.bounded = tally(1, 1_900);
    assert_eq!([1_920, 1_921].map(|now| held(now, by_relying_parties)), [true, false]);
    let by_segment: fn(&mut Evidence) = |evidence| evidence.read.clear();
    assert_eq!([2_020, 2_021].map(|now| held(now, by_segment)), [true, false]);
}

#[test]
fn the_leaf_gate_asks_about_the_root_that_drains_only() {
    let state = drained();
    let with =
        |name| Evidence { live: [(root(name), tally(2, 1_900))].into(), ..evidence(1_200, 2, 14) };
    assert!(gate(&state, &with("B"), &policy()).unwrap().is_met());
    let text =
        format!("2 leaves are alive under root {}, until 1970-01-01T00:32:01Z", root("A").short());
    let settling = "handshakes in flight, for 30 s more".to_owned();
    assert_eq!(seen(&state, &with("A")), (vec![text, settling], Some(1_951)));
    // Sealed for the bundle is not sealed for the switch.
    assert!(!gate(&state, &evidence(1_200, 2, 13), &policy()).unwrap().is_met());
}

#[test]
fn under_a_shared_root_our_own_rows_are_read_and_those_of_others_count_by_their_longest_life() {
    let mut state = drained();
    state.roots.get_mut(&root("A")).unwrap().exclusive = false;
    let unknown = seen(&state, &evidence(1_200, 2, 14));
    assert!(unknown.0[0].contains("which others share, until somebody attests"), "{unknown:?}");
    assert_eq!(unknown.1, None);
    let way = gate(&state, &evidence(1_200, 2, 14), &policy()).unwrap().holds[0].way().unwrap();
    assert!(way.contains(&format!("banyan root attest {} --by NAME", root("A").short())), "{way}");
    let attested =
        |now| Evidence { foreign: [(root("A"), at(1_500))].into(), ..evidence(now, 2, 14) };
    let (text, latest) = seen(&state, &attested(1_200));
    assert!(text[0].contains("which others share, until 1970-01-01T00:25:21Z"), "{text:?}");
    assert_eq!(latest, Some(1_551), "the horizon of 2,000 is of our own leaves, and none is left");
    assert!(!gate(&state, &attested(1_520), &policy()).unwrap().is_met());
    assert!(gate(&state, &attested(1_521), &policy()).unwrap().is_met());
    // Where a row of our own is left, its end counts too; where rows are not known, their bound does.
    let with_ours = |now| Evidence { live: [(root("A"), tally(2, 1_900))].into(), ..attested(now) };
    assert_eq!(seen(&state, &with_ours(1_200)).1, Some(1_951));
    assert!(!gate(&state, &with_ours(1_920), &policy()).unwrap().is_met());
    let unread = |now| Evidence { read: [].into(), ..attested(now) };
    assert!(!gate(&state, &unread(2_020), &policy()).unwrap().is_met());
    assert!(gate(&state, &unread(2_021), &policy()).unwrap().is_met());
}

#[test]
fn a_shared_root_that_its_owner_has_let_go_is_judged_by_our_own_rows() {
    let mut state = drained();
    state.roots.get_mut(&root("A")).unwrap().exclusive = false;
    let with = |name: &str, live: &str| Evidence {
        let_go: [root(name)].into(),
        live: [(root(live), tally(2, 1_900))].into(),
        ..evidence(1_200, 2, 14)
    };
    assert!(gate(&state, &with("A", "B"), &policy()).unwrap().is_met());
    assert!(
        seen(&state, &with("A", "A")).0[0].contains("2 leaves are alive"),
        "own rows still count"
    );
    assert!(
        seen(&state, &with("B", "B")).0[0].contains("which others share"),
        "another root was let go"
    );
}

#[test]
fn evidence_of_a_former_release_reads_as_nothing_let_go() {
    let plain = evidence(1_200, 2, 14);
    let text = serde_json::to_string(&plain).unwrap();
    assert!(!text.contains("let_go"), "{text}");
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), plain);
    let told = Evidence { let_go: [root("A")].into(), ..plain };
    let text = serde_json::to_string(&told).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), told);
}

#[test]
fn a_segment_that_counts_as_over_is_closed_before_the_settle_time_begins() {
    let dead = after(
        distributed(Mode::Auto),
        1_000,
        &[opened("cb", "t1", &[]), horizon("A", "t1", 1_800)],
    );
    let script = Script::from(dead)
        .at(1_820)
        .nothing_new(reported(evidence(1_820, 2, 10)))
        .at(1_821)
        .then(
            reported(evidence(1_821, 2, 10)),
            "g15 b2 distributing, settling | A active key-a until 2000, B published key-b until - \
             | s1 sealed@10 2000, t1 closed-unread 1800 | -",
        )
        .refuses(
            horizon("A", "t1", 2_000),
            "horizon_requested refused while distributing at generation 15: segment t1 is closed; \
             drop the requests that are in flight and open a segment with a new id",
        );
    let closed = &script.state.segments[&"t1".parse().unwrap()];
    assert_eq!(closed.state, SegmentState::Closed(Contents::Unread));
}

#[test]
fn a_segment_without_a_bound_released_nothing_and_holds_nothing() {
    let state = after(distributed(Mode::Auto), 1_000, &[opened("cb", "t1", &[])]);
    let gate = gate(&state, &evidence(1_100, 2, 10), &policy()).unwrap();
    assert!(gate.is_met() && gate.rests_on.is_empty());
}

#[test]
fn a_closed_segment_counts_by_what_is_known_of_it() {
    let read = after(distributed(Mode::Auto), 1_000, &[closed("s1", Contents::Read)]);
    assert!(gate(&read, &evidence(1_100, 2, 1), &policy()).unwrap().is_met());
    let missing = Evidence { read: [].into(), ..evidence(1_100, 2, 1) };
    assert!(!gate(&read, &missing, &policy()).unwrap().is_met());
    let unread = after(distributed(Mode::Auto), 1_000, &[closed("s1", Contents::Unread)]);
    assert!(!gate(&unread, &evidence(1_100, 2, 10), &policy()).unwrap().is_met());
    let over = gate(&unread, &evidence(2_021, 2, 10), &policy()).unwrap();
    assert!(over.is_met() && over.rests_on.is_empty(), "it is closed already");
}

#[test]
fn a_condition_that_no_longer_holds_starts_the_settle_time_anew() {
    let joined = RelyingParties { unbounded: 1, ..RelyingParties::default() };
    let waits = Evidence { relying_parties: joined, ..evidence(1_120, 2, 10) };
    Script::from(distributed(Mode::Auto))
        .at(1_100)
        .then(
            reported(evidence(1_100, 2, 10)),
            "g13 b2 distributing, settling | A active key-a until 2000, B published key-b until - \
             | s1 sealed@10 2000 | -",
        )
        .at(1_120)
        .then(
            reported(waits.clone()),
            "g14 b2 distributing | A active key-a until 2000, B published key-b until - | s1 \
             sealed@10 2000 | -",
        )
        .nothing_new(reported(waits))
        .at(1_130)
        .then(
            reported(evidence(1_130, 2, 10)),
            "g15 b2 distributing, settling | A active key-a until 2000, B published key-b until - \
             | s1 sealed@10 2000 | -",
        )
        .at(1_159)
        .nothing_new(reported(evidence(1_159, 2, 10)))
        .at(1_160)
        .then(
            reported(evidence(1_160, 2, 10)),
            "g16 b2 draining | A draining key-a until 2000, B active key-b until - | s1 sealed@10 \
             2000 | switch_signer@16",
        );
}

#[test]
fn the_last_gate_names_who_lags_and_gives_up_at_its_deadline() {
    let settling = after(drained(), 1_130, &[reported(evidence(1_130, 2, 14))]);
    let state =
        after(settling, 1_160, &[reported(evidence(1_160, 2, 14)), published(3), sealed("s1", 19)]);
    let lags = |now| Evidence { unproven: tally(1, 9_000), ..evidence(now, 3, 19) };
    let (holds, latest) = seen(&state, &lags(1_200));
    assert_eq!((holds.len(), latest), (1, Some(1_160 + 3_600)));
    // Whatever lags, and whoever is to say a word: nothing is waited for beyond the deadline, and nothing says so.
    let words = Evidence {
        own_trust: Tally { count: 1, latest: None },
        relying_parties: RelyingParties { bounded: tally(1, 9_000), unbounded: 1 },
        read: [].into(),
        ..lags(1_200)
    };
    let (holds, latest) = seen(&state, &words);
    assert_eq!((holds.len(), latest), (5, Some(1_160 + 3_600)));
    let deadline = at(1_160 + 3_600).to_string();
    for hold in holds.iter().filter(|hold| !hold.starts_with("segment")) {
        assert!(hold.ends_with(&format!("until {deadline}")), "{hold}");
    }
    assert!(gate(&state, &words, &policy()).unwrap().holds.iter().all(|hold| hold.way().is_none()));
    Script::from(state)
        .at(1_159 + 3_600)
        .nothing_new(reported(lags(1_159 + 3_600)))
        .at(1_160 + 3_600)
        .then(
            reported(lags(1_160 + 3_600)),
            "g22 b3 steady | A retired key-a until 2000, B active key-b until 2200 | s1 sealed@19 \
             2200 | -",
        );
}

#[test]
fn evidence_of_the_future_is_refused() {
    Script::from(distributed(Mode::Auto)).at(1_100).refuses(
        reported(evidence(1_101, 2, 10)),
        "evidence_reported refused while distributing at generation 12: the evidence is of \
         1970-01-01T00:18:21Z, it is 1970-01-01T00:18:20Z now; read the evidence again: the \
         clock was set back",
    );
}
