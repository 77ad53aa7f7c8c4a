//! Golden scripts: event by event, what the state becomes, or why it does not move.
use rotation::{Contents, Event, step};

use crate::script::Script;
use crate::words::*;

#[test]
fn bootstrap_stores_the_request_first_and_ends_with_one_root_that_signs() {
    Script::from(start())
        .then(bootstrap("f"), "g1 b0 staging-root | - | - | stage_root@1")
        .then(
            prepared("f", "A"),
            "g2 b0 requesting-issuer | A staged - until - | - | request_issuer@2",
        )
        .then(
            signed("f", "A", "a"),
            "g3 b1 publishing | A published key-a until - | - | publish_bundle@3",
        )
        .then(published(1), "g4 b1 steady | A active key-a until - | - | switch_signer@4")
        .then(switched("A", "a"), "g5 b1 steady | A active key-a until - | - | -");
}

#[test]
fn every_answer_of_a_bootstrap_may_come_again() {
    let script = Script::from(start())
        .then(bootstrap("f"), "g1 b0 staging-root | - | - | stage_root@1")
        .nothing_new(bootstrap("f"))
        .then(
            prepared("f", "A"),
            "g2 b0 requesting-issuer | A staged - until - | - | request_issuer@2",
        )
        .nothing_new(bootstrap("f"))
        .nothing_new(prepared("f", "A"))
        .then(
            signed("f", "A", "a"),
            "g3 b1 publishing | A published key-a until - | - | publish_bundle@3",
        )
        .nothing_new(prepared("f", "A"))
        .nothing_new(signed("f", "A", "a"));
    let script = Script::from(script.state)
        .then(published(1), "g4 b1 steady | A active key-a until - | - | switch_signer@4")
        .then(switched("A", "a"), "g5 b1 steady | A active key-a until - | - | -");
    script
        .nothing_new(bootstrap("f"))
        .nothing_new(prepared("f", "A"))
        .nothing_new(signed("f", "A", "a"))
        .nothing_new(published(1))
        .nothing_new(switched("A", "a"));
}

#[test]
fn no_second_root_is_bootstrapped() {
    let script = Script::from(start())
        .then(bootstrap("f"), "g1 b0 staging-root | - | - | stage_root@1")
        .refuses(
            bootstrap("g"),
            "bootstrap_requested refused while bootstrapping at generation 1: the bootstrap of request f is under way; wait until the first root signs",
        )
        .then(prepared("f", "A"), "g2 b0 requesting-issuer | A staged - until - | - | request_issuer@2");
    let id = root("A");
    script.refuses(
        prepared("f", "B"),
        &format!(
            "root_prepared refused while bootstrapping at generation 2: request f was answered before with {id}; \
             the authority must answer a repeated request with {id}"
        ),
    );
    Script::from(bootstrapped())
        .refuses(
            bootstrap("g"),
            "bootstrap_requested refused while steady at generation 5: this trust domain has its root; start a rotation with `banyan rotate start`",
        )
        .refuses(
            prepared("g", "B"),
            "root_prepared refused while steady at generation 5: nothing was asked under request id g; \
             answers are taken only for pending effects",
        );
}

#[test]
fn a_bootstrap_under_way_is_not_taken_over_by_another_authority() {
    let other = Event::BootstrapRequested {
        request_id: "f".parse().unwrap(),
        authority: "other".parse().unwrap(),
    };
    Script::from(start()).then(bootstrap("f"), "g1 b0 staging-root | - | - | stage_root@1").refuses(
        other,
        "bootstrap_requested refused while bootstrapping at generation 1: request id f was used for another request; \
         use a new request id",
    );
}

#[test]
fn answers_that_no_leaf_could_rest_on_are_refused() {
    let script = Script::from(start())
        .then(bootstrap("f"), "g1 b0 staging-root | - | - | stage_root@1")
        .at(ROOT_END)
        .refuses(
            prepared("f", "A"),
            "root_prepared refused while bootstrapping at generation 1: the certificate ended at 1970-01-02T03:46:40Z; \
             the authority must answer with a certificate that is still valid",
        )
        .at(1_000)
        .then(prepared("f", "A"), "g2 b0 requesting-issuer | A staged - until - | - | request_issuer@2");
    let with = |change: fn(&mut rotation::SignedIssuer)| {
        let Event::IssuerSigned { request_id, mut issuer } = signed("f", "A", "a") else {
            unreachable!()
        };
        change(&mut issuer);
        Event::IssuerSigned { request_id, issuer }
    };
    script
        .refuses(
            with(|issuer| issuer.not_after = at(ROOT_END + 1)),
            "issuer_signed refused while bootstrapping at generation 2: the issuer ends at 1970-01-02T03:46:41Z, \
             after its root; the issuer must end at 1970-01-02T03:46:40Z or before",
        )
        .refuses(
            with(|issuer| issuer.not_after = at(1_000)),
            "issuer_signed refused while bootstrapping at generation 2: the certificate ended at 1970-01-01T00:16:40Z; \
             the authority must answer with a certificate that is still valid",
        )
        .refuses(
            with(|issuer| issuer.chain.clear()),
            "issuer_signed refused while bootstrapping at generation 2: the issuer's chain is empty; \
             the chain must start with the issuer's certificate",
        )
        .refuses(
            signed("f", "B", "b"),
            &format!(
                "issuer_signed refused while bootstrapping at generation 2: the answer is for root {}, asked was root {}; \
                 the authority must sign under root {}",
                root("B").short(),
                root("A").short(),
                root("A")
            ),
        );
}

#[test]
fn a_renewed_issuer_signs_under_the_same_root_and_bundle() {
    Script::from(bootstrapped())
        .then(
            renewal("r1", "A"),
            "g6 b1 steady | A active key-a until - renewing | - | request_issuer@6",
        )
        .nothing_new(renewal("r1", "A"))
        .refuses(
            renewal("r2", "A"),
            "issuer_renewal_requested refused while steady at generation 6: the renewal of request r1 is under way; wait until it is over, or take its place with `banyan issuer renew --root 559aead0`, or cancel it with `banyan issuer cancel --root 559aead0`",
        )
        .then(signed("r1", "A", "b"), "g7 b1 steady | A active key-b until - | - | switch_signer@7")
        .nothing_new(renewal("r1", "A"))
        .nothing_new(signed("r1", "A", "b"))
        .refuses(
            signed("r1", "A", "c"),
            "issuer_signed refused while steady at generation 7: nothing was asked under request id r1; \
             answers are taken only for pending effects",
        )
        .then(switched("A", "b"), "g8 b1 steady | A active key-b until - | - | -");
}

#[test]
fn a_switch_that_was_overtaken_is_not_performed() {
    Script::from(bootstrapped())
        .then(renewal("r1", "A"), "g6 b1 steady | A active key-a until - renewing | - | request_issuer@6")
        .then(signed("r1", "A", "b"), "g7 b1 steady | A active key-b until - | - | switch_signer@7")
        .then(
            renewal("r2", "A"),
            "g8 b1 steady | A active key-b until - renewing | - | switch_signer@7, request_issuer@8",
        )
        .then(signed("r2", "A", "c"), "g9 b1 steady | A active key-c until - | - | switch_signer@9")
        .nothing_new(switched("A", "b"));
}

#[test]
fn a_horizon_rises_with_the_bound_of_its_segment_and_never_falls() {
    Script::from(bootstrapped())
        .then(opened("ca", "s1", &[]), "g6 b1 steady | A active key-a until - | s1 open - | -")
        .then(horizon("A", "s1", 2_400), "g7 b1 steady | A active key-a until 2400 | s1 open 2400 | -")
        .nothing_new(horizon("A", "s1", 2_400))
        .nothing_new(horizon("A", "s1", 1_500))
        .then(
            opened("cb", "t1", &[]),
            "g8 b1 steady | A active key-a until 2400 | s1 open 2400, t1 open - | -",
        )
        .then(
            horizon("A", "t1", 2_000),
            "g9 b1 steady | A active key-a until 2400 | s1 open 2400, t1 open 2000 | -",
        )
        .refuses(
            horizon("A", "s1", 2_501),
            "horizon_requested refused while steady at generation 9: a horizon of 1970-01-01T00:41:41Z is too far \
             ahead; ask for 1970-01-01T00:41:40Z or earlier",
        )
        .at(ROOT_END - 100)
        .refuses(
            horizon("A", "s1", ROOT_END + 1),
            "horizon_requested refused while steady at generation 9: a horizon of 1970-01-02T03:46:41Z is too far \
             ahead; ask for 1970-01-02T03:46:40Z or earlier",
        );
}

#[test]
fn a_horizon_rises_only_under_a_root_that_signs_and_for_a_segment_that_takes_rows() {
    let published_only =
        [bootstrap("f"), prepared("f", "A"), signed("f", "A", "a"), opened("ca", "s1", &[])]
            .iter()
            .fold(start(), |state, event| step(&state, event, at(1_000), &policy()).unwrap().next);
    Script::from(published_only).refuses(
        horizon("A", "s1", 2_000),
        &format!(
            "horizon_requested refused while bootstrapping at generation 4: root {} is published; \
             name the root that is active",
            root("A").short()
        ),
    );
    Script::from(bootstrapped())
        .then(opened("ca", "s1", &[]), "g6 b1 steady | A active key-a until - | s1 open - | -")
        .then(
            closed("s1", Contents::Read),
            "g7 b1 steady | A active key-a until - | s1 closed - | -",
        )
        .refuses(
            horizon("A", "s1", 2_000),
            "horizon_requested refused while steady at generation 7: segment s1 is closed; \
             drop the requests that are in flight and open a segment with a new id",
        )
        .refuses(
            horizon("A", "s2", 2_000),
            "horizon_requested refused while steady at generation 7: segment s2 is unknown; open the segment first",
        );
}

#[test]
fn a_replica_that_starts_closes_its_former_segments_and_what_it_could_not_read_counts_as_full() {
    let script = Script::from(bootstrapped())
        .then(opened("ca", "s1", &[]), "g6 b1 steady | A active key-a until - | s1 open - | -")
        .then(
            horizon("A", "s1", 2_000),
            "g7 b1 steady | A active key-a until 2000 | s1 open 2000 | -",
        )
        .then(
            opened("cb", "t1", &[]),
            "g8 b1 steady | A active key-a until 2000 | s1 open 2000, t1 open - | -",
        )
        .then(
            opened("ca", "s2", &["s1"]),
            "g9 b1 steady | A active key-a until 2000 | s1 closed 2000, s2 open -, t1 open - | -",
        )
        .nothing_new(opened("ca", "s2", &["s1"]))
        .refuses(
            opened("cb", "s2", &[]),
            "segment_opened refused while steady at generation 9: segment id s2 was used before; \
             open a segment with a new id",
        )
        .refuses(
            opened("ca", "s1", &[]),
            "segment_opened refused while steady at generation 9: segment id s1 was used before; \
             open a segment with a new id",
        );
    let lost = "g10 b1 steady | A active key-a until 2000 | s1 closed-unread 2000, s3 open -, t1 open - | -";
    let script = script.then(opened("ca", "s3", &["s2"]), lost);
    script
        .at(2_020)
        .then(
            opened("ca", "s4", &[]),
            "g11 b1 steady | A active key-a until 2000 | s1 closed-unread 2000, s4 open -, t1 open - | -",
        )
        .at(2_021)
        .then(
            opened("ca", "s5", &[]),
            "g12 b1 steady | A active key-a until 2000 | s5 open -, t1 open - | -",
        );
}

#[test]
fn a_seal_rises_and_a_closed_segment_stays_closed() {
    Script::from(bootstrapped())
        .then(opened("ca", "s1", &[]), "g6 b1 steady | A active key-a until - | s1 open - | -")
        .refuses(
            sealed("s1", 7),
            "segment_sealed refused while steady at generation 6: generation 7 is not stored yet; \
             seal at the generation of a stored snapshot",
        )
        .then(sealed("s1", 5), "g7 b1 steady | A active key-a until - | s1 sealed@5 - | -")
        .nothing_new(sealed("s1", 4))
        .then(sealed("s1", 7), "g8 b1 steady | A active key-a until - | s1 sealed@7 - | -")
        .then(
            horizon("A", "s1", 2_000),
            "g9 b1 steady | A active key-a until 2000 | s1 sealed@7 2000 | -",
        )
        .then(
            closed("s1", Contents::Unread),
            "g10 b1 steady | A active key-a until 2000 | s1 closed-unread 2000 | -",
        )
        .refuses(
            sealed("s1", 9),
            "segment_sealed refused while steady at generation 10: segment s1 is closed; \
             drop the requests that are in flight and open a segment with a new id",
        )
        .then(
            closed("s1", Contents::Read),
            "g11 b1 steady | A active key-a until 2000 | s1 closed 2000 | -",
        );
}

#[test]
fn results_of_effects_that_were_never_decided_are_refused() {
    Script::from(bootstrapped())
        .refuses(
            published(2),
            "bundle_published refused while steady at generation 5: bundle 2 was never decided, the latest is 1; \
             report bundle 1 or a former one",
        )
        .refuses(
            switched("A", "x"),
            &format!(
                "signer_switched refused while steady at generation 5: issuer {} is unknown under root {}; \
                 report the issuer that the effect named",
                issuer("x").short(),
                root("A").short()
            ),
        );
}

#[test]
fn a_leaf_may_end_at_the_lesser_of_horizon_and_bound() {
    let events = [
        opened("ca", "s1", &[]),
        opened("cb", "t1", &[]),
        horizon("A", "s1", 2_400),
        horizon("A", "t1", 2_000),
    ];
    let state = events.iter().fold(bootstrapped(), |state, event| {
        step(&state, event, at(1_000), &policy()).unwrap().next
    });
    let limit = |segment: &str| state.leaf_limit(&root("A"), &segment.parse().unwrap());
    assert_eq!([limit("s1"), limit("t1"), limit("u1")], [Some(at(2_400)), Some(at(2_000)), None]);
    let ended = step(&state, &closed("t1", Contents::Read), at(1_000), &policy()).unwrap().next;
    assert_eq!(ended.leaf_limit(&root("A"), &"t1".parse().unwrap()), None);
}
