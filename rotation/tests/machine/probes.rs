//! Probes: leaves of the root that shall sign, for whoever looks whether proxies can verify it.

use rotation::record::{FORMAT_LEAST, format_of};
use rotation::{Evidence, Mode};

use crate::words::*;

/// The format in which a former release does not read that the trust gate asks for probes.
const FORMAT_OF_PROBES: u32 = 7;

#[test]
fn probe_leaves_are_of_the_root_that_shall_sign_and_of_no_other() {
    for (event, why) in [(probes("A", 1_500), "is active"), (probes("B", 1_500), "is unknown")] {
        let refusal = rotation::step(&signing(), &event, at(1_000), &policy()).unwrap_err();
        assert!(refusal.to_string().contains(why), "{refusal}");
    }
    let state = after(distributed(Mode::Auto), 1_000, &[probes("B", 1_500)]);
    assert_eq!(state.roots[&root("B")].probed_until, Some(at(1_500)));
    for (event, why) in [(probes("A", 1_500), "is active"), (probes("B", 2_501), "a horizon of")] {
        let refusal = rotation::step(&state, &event, at(1_000), &policy()).unwrap_err();
        assert!(refusal.to_string().contains(why), "{refusal}");
    }
    let draining = drained();
    let refusal = rotation::step(&draining, &probes("B", 1_500), at(1_200), &policy()).unwrap_err();
    assert!(refusal.to_string().contains("is active"), "{refusal}");
}

#[test]
fn a_probed_root_has_not_signed_so_the_rotation_is_given_up_and_tried_again() {
    let probed = after(distributed(Mode::Auto), 1_000, &[probes("B", 1_500)]);
    assert!(!probed.roots[&root("B")].signed_since_staged());
    let given_up = after(probed, 1_010, &[abort("x"), published(3), sealed("s1", 15)]);
    let given_up = after(given_up, 1_020, &[reported(evidence(1_020, 3, 15))]);
    assert!(given_up.phase.is_steady(), "{}", line(&given_up));
    assert!(given_up.roots[&root("B")].may_return(false));
    let again = after(
        given_up,
        1_030,
        &[rotation("r2", Mode::Auto), prepared("r2", "B"), signed("r2", "B", "b2")],
    );
    let kept = again.roots[&root("B")].probed_until;
    assert_eq!(kept, Some(at(1_500)), "what was allowed before never goes back");
    after(again, 1_030, &[probes("B", 1_900)]);
}

#[test]
fn a_proxy_that_cannot_verify_holds_the_gate_for_ever_and_it_opens_when_there_is_none() {
    let state = distributed(Mode::Auto);
    let unable = |now| Evidence { unable: 1, ..evidence(now, 2, 10) };
    let late = after(state, 90_000, &[reported(unable(90_000))]);
    assert!(line(&late).contains("distributing"), "{}", line(&late));
    let seen = after(late, 90_010, &[reported(evidence(90_010, 2, 10))]);
    assert!(line(&seen).contains("distributing"), "handshakes are in flight: {}", line(&seen));
    // It came back with its former version before they were over.
    let again = after(seen, 90_020, &[reported(unable(90_020))]);
    let again = after(again, 90_041, &[reported(evidence(90_041, 2, 10))]);
    assert!(line(&again).contains("distributing"), "settle began anew: {}", line(&again));
}

#[test]
fn nobody_activates_past_a_proxy_that_cannot_verify() {
    let state = distributed(Mode::Manual);
    let unable = Evidence { unable: 1, ..evidence(1_500, 2, 10) };
    let refusal = rotation::step(&state, &activate("x", unable), at(1_500), &policy()).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains("cannot verify the new root, and no time ends that"), "{text}");
    assert!(text.contains("banyan rotate abort"), "{text}");
}

#[test]
fn the_end_of_a_withdrawal_asks_for_no_probe() {
    let drained = drained();
    let withdrawing = after(drained, 1_200, &[reported(evidence(1_200, 2, 14))]);
    let withdrawing = after(withdrawing, 1_240, &[reported(evidence(1_240, 2, 14))]);
    assert!(line(&withdrawing).contains("withdrawing"), "{}", line(&withdrawing));
    let events = [published(3), sealed("s1", withdrawing.generation.0 + 1)];
    let withdrawing = after(withdrawing, 1_240, &events);
    let read = withdrawing.generation.0;
    let unable = Evidence { unable: 3, ..evidence(1_250, 3, read) };
    let over = after(withdrawing, 1_250, &[reported(unable)]);
    assert!(over.phase.is_steady(), "{}", line(&over));
}

#[test]
fn a_record_has_the_newest_format_only_while_its_gate_asks_for_probes() {
    let before = distributed(Mode::Auto);
    assert_eq!(format_of(&before), FORMAT_LEAST);
    let probed = after(before, 1_000, &[probes("B", 1_500)]);
    assert_eq!(format_of(&probed), FORMAT_OF_PROBES);
    let read = rotation::record::decode(&rotation::record::encode(&probed).unwrap()).unwrap();
    assert_eq!(read, probed);
    let passed = after(probed, 1_100, &[reported(evidence(1_100, 2, 10))]);
    let passed = after(passed, 1_130, &[reported(evidence(1_130, 2, 10))]);
    assert_eq!(format_of(&passed), FORMAT_LEAST, "{}", line(&passed));
}
