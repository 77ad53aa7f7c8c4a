//! Golden scripts of operators' verbs: activate, hold, resume, abort, roll back, and each refusal.

use rotation::{Evidence, Mode};

use crate::script::Script;
use crate::words::*;

#[test]
fn activation_by_hand_is_judged_by_the_same_gate() {
    let unproven = Evidence { unproven: tally(3, 1_900), ..evidence(1_100, 2, 10) };
    Script::from(distributed(Mode::Manual))
        .at(1_100)
        .refuses(
            activate("a", unproven),
            "activate_requested refused while distributing at generation 12: the trust gate is \
             closed: 3 leaves whose holders have not applied the bundle, until 1970-01-01T00:32:01Z, handshakes in flight, for 30 s more; it opens by itself at 1970-01-01T00:32:31Z at the latest, or give it up with `banyan rotate abort`",
        )
        .refuses(
            activate("a", evidence(1_100, 2, 10)),
            "activate_requested refused while distributing at generation 12: the trust gate is \
             closed: handshakes in flight, for 30 s more; it opens by itself at 1970-01-01T00:18:50Z at the latest, or give it up with `banyan rotate abort`",
        )
        .refuses(
            activate("a", evidence(1_100, 1, 10)),
            "activate_requested refused while distributing at generation 12: the evidence is \
             about bundle 1; read the evidence again, about bundle 2",
        )
        .refuses(
            activate("a", evidence(1_101, 2, 10)),
            "activate_requested refused while distributing at generation 12: the evidence is of \
             1970-01-01T00:18:21Z, it is 1970-01-01T00:18:20Z now; read the evidence again: the \
             clock was set back",
        )
        .then(
            reported(evidence(1_100, 2, 10)),
            "g13 b2 distributing, settling | A active key-a until 2000, B published key-b until - \
             | s1 sealed@10 2000 | -",
        )
        .at(1_200)
        .nothing_new(reported(evidence(1_200, 2, 10)))
        .refuses(
            activate("r", evidence(1_200, 2, 10)),
            "activate_requested refused while distributing at generation 13: request id r was \
             used for another request; use a new request id",
        )
        .then(
            activate("a", evidence(1_200, 2, 10)),
            "g14 b2 draining | A draining key-a until 2000, B active key-b until - | s1 sealed@10 \
             2000 | switch_signer@14",
        )
        .nothing_new(activate("a", evidence(1_200, 2, 10)))
        .refuses(
            activate("b", evidence(1_200, 2, 10)),
            "activate_requested refused while draining at generation 14: no root waits for its activation; wait until it is over",
        );
}

#[test]
fn a_held_rotation_stays_where_it_is_while_settle_times_pass() {
    Script::from(distributed(Mode::Auto))
        .at(1_100)
        .then(
            hold("h"),
            "g13 b2 distributing held@1100 | A active key-a until 2000, B published key-b until - \
             | s1 sealed@10 2000 | -",
        )
        .nothing_new(hold("h"))
        .nothing_new(hold("h2"))
        .then(
            reported(evidence(1_100, 2, 10)),
            "g14 b2 distributing, settling held@1100 | A active key-a until 2000, B published \
             key-b until - | s1 sealed@10 2000 | -",
        )
        .at(1_200)
        .nothing_new(reported(evidence(1_200, 2, 10)))
        .refuses(
            activate("a", evidence(1_200, 2, 10)),
            "activate_requested refused while distributing at generation 14: the rotation is on hold \
             since 1970-01-01T00:18:20Z; let it go on with `banyan rotate resume`",
        )
        .then(
            horizon("A", "s1", 2_500),
            "g15 b2 distributing, settling held@1100 | A active key-a until 2500, B published \
             key-b until - | s1 sealed@10 2500 | -",
        )
        .then(
            resume("h3"),
            "g16 b2 distributing, settling | A active key-a until 2500, B published key-b until - \
             | s1 sealed@10 2500 | -",
        )
        .nothing_new(resume("h3"))
        .nothing_new(resume("h4"))
        .nothing_new(hold("h"))
        .then(
            reported(evidence(1_200, 2, 10)),
            "g17 b2 draining | A draining key-a until 2500, B active key-b until - | s1 sealed@10 \
             2500 | switch_signer@17",
        );
}

#[test]
fn a_root_that_is_made_while_held_is_published_after_the_hold() {
    Script::from(signing())
        .then(
            rotation("r", Mode::Auto),
            "g8 b1 staging: root | A active key-a until 2000 | s1 open 2000 | stage_root@8",
        )
        .then(
            hold("h"),
            "g9 b1 staging: root held@1000 | A active key-a until 2000 | s1 open 2000 | \
             stage_root@8",
        )
        .then(
            prepared("r", "B"),
            "g10 b1 staging: issuer held@1000 | A active key-a until 2000, B staged - until - | \
             s1 open 2000 | request_issuer@10",
        )
        .then(
            signed("r", "B", "b"),
            "g11 b1 staging: ready held@1000 | A active key-a until 2000, B staged key-b until - \
             | s1 open 2000 | -",
        )
        .nothing_new(signed("r", "B", "b"))
        .then(
            resume("h2"),
            "g12 b2 distributing | A active key-a until 2000, B published key-b until - | s1 open \
             2000 | publish_bundle@12",
        );
}

#[test]
fn a_hold_keeps_every_gate_closed() {
    let settling = after(drained(), 1_130, &[hold("h"), reported(evidence(1_130, 2, 14))]);
    Script::from(settling).at(1_160).nothing_new(reported(evidence(1_160, 2, 14)));
    let settling = after(drained(), 1_130, &[reported(evidence(1_130, 2, 14))]);
    let events = [reported(evidence(1_160, 2, 14)), published(3), sealed("s1", 19), hold("h")];
    Script::from(after(settling, 1_160, &events))
        .at(1_160)
        .nothing_new(reported(evidence(1_160, 3, 19)))
        .then(
            resume("h2"),
            "g23 b3 withdrawing | A retired key-a until 2000, B active key-b until 2200 | s1 \
             sealed@19 2200 | -",
        )
        .then(
            reported(evidence(1_160, 3, 19)),
            "g24 b3 steady | A retired key-a until 2000, B active key-b until 2200 | s1 sealed@19 \
             2200 | -",
        );
}

#[test]
fn an_abort_in_staging_restores_steady_and_retires_what_was_made() {
    Script::from(signing())
        .then(
            rotation("r", Mode::Auto),
            "g8 b1 staging: root | A active key-a until 2000 | s1 open 2000 | stage_root@8",
        )
        .then(abort("x"), "g9 b1 steady | A active key-a until 2000 | s1 open 2000 | -")
        .nothing_new(abort("x"))
        .refuses(
            prepared("r", "B"),
            "root_prepared refused while steady at generation 9: nothing was asked under request \
             id r; answers are taken only for pending effects",
        )
        .nothing_new(rotation("r", Mode::Auto));
    Script::from(signing())
        .then(
            rotation("r", Mode::Auto),
            "g8 b1 staging: root | A active key-a until 2000 | s1 open 2000 | stage_root@8",
        )
        .then(
            prepared("r", "B"),
            "g9 b1 staging: issuer | A active key-a until 2000, B staged - until - | s1 open 2000 \
             | request_issuer@9",
        )
        .then(
            hold("h"),
            "g10 b1 staging: issuer held@1000 | A active key-a until 2000, B staged - until - | \
             s1 open 2000 | request_issuer@9",
        )
        .then(abort("x"), "g11 b1 steady | A active key-a until 2000, B retired - until - | s1 open 2000 | -")
        .refuses(
            signed("r", "B", "b"),
            "issuer_signed refused while steady at generation 11: nothing was asked under request \
             id r; answers are taken only for pending effects",
        )
        .then(
            rotation("r2", Mode::Auto),
            "g12 b1 staging: root | A active key-a until 2000, B retired - until - | s1 open 2000 \
             | stage_root@12",
        )
        .then(
            prepared("r2", "B"),
            "g13 b1 staging: issuer | A active key-a until 2000, B staged - until - | s1 open 2000 | request_issuer@13",
        );
}

#[test]
fn an_abort_while_distributing_takes_out_a_root_that_never_signed() {
    let script = Script::from(signing())
        .then(
            rotation("r", Mode::Auto),
            "g8 b1 staging: root | A active key-a until 2000 | s1 open 2000 | stage_root@8",
        )
        .then(
            prepared("r", "B"),
            "g9 b1 staging: issuer | A active key-a until 2000, B staged - until - | s1 open 2000 \
             | request_issuer@9",
        )
        .then(
            signed("r", "B", "b"),
            "g10 b2 distributing | A active key-a until 2000, B published key-b until - | s1 open \
             2000 | publish_bundle@10",
        );
    // Before the bundle is out, and after.
    Script::from(script.state).then(
        abort("x"),
        "g11 b3 withdrawing | A active key-a until 2000, B retired key-b until - | s1 open \
         2000 | publish_bundle@11",
    );
    Script::from(distributed(Mode::Auto))
        .then(
            abort("x"),
            "g13 b3 withdrawing | A active key-a until 2000, B retired key-b until - | s1 \
             sealed@10 2000 | publish_bundle@13",
        )
        .nothing_new(abort("x"))
        .refuses(
            rollback("y"),
            "rollback_requested refused while withdrawing at generation 13: the new root isn't signing; nothing to roll back; wait until it is over",
        )
        .then(
            published(3),
            "g14 b3 withdrawing | A active key-a until 2000, B retired key-b until - | s1 \
             sealed@10 2000 | -",
        )
        .then(
            sealed("s1", 13),
            "g15 b3 withdrawing | A active key-a until 2000, B retired key-b until - | s1 \
             sealed@13 2000 | -",
        )
        .then(
            reported(evidence(1_000, 3, 13)),
            "g16 b3 steady | A active key-a until 2000, B retired key-b until - | s1 sealed@13 \
             2000 | -",
        );
}

#[test]
fn an_abort_comes_too_late_once_the_new_root_signs() {
    Script::from(drained()).refuses(
        abort("x"),
        "abort_requested refused while draining at generation 17: the new root has signed; wait until it is over, or roll it back with `banyan rotate rollback`",
    );
}

#[test]
fn a_rollback_lets_the_former_root_sign_and_drains_the_new_one() {
    let script = Script::from(drained())
        .at(1_200)
        .then(
            rollback("x"),
            "g18 b2 draining back | A active key-a until 2000, B draining key-b until 2200 | s1 \
             sealed@14 2200 | switch_signer@18",
        )
        .nothing_new(rollback("x"))
        .refuses(
            rollback("y"),
            "rollback_requested refused while draining at generation 18: the former root signs \
             again already; wait until it is over, or go forward again with `banyan rotate activate`",
        )
        .refuses(
            abort("y"),
            "abort_requested refused while draining at generation 18: the new root has signed; wait until it is over",
        );
    let live = Evidence { live: [(root("B"), tally(2, 2_100))].into(), ..evidence(1_200, 2, 18) };
    Script::from(script.state)
        .at(1_200)
        .then(
            switched("A", "a"),
            "g19 b2 draining back | A active key-a until 2000, B draining key-b until 2200 | s1 \
             sealed@14 2200 | -",
        )
        .then(
            horizon("A", "s1", 2_300),
            "g20 b2 draining back | A active key-a until 2300, B draining key-b until 2200 | s1 \
             sealed@14 2300 | -",
        )
        .then(
            sealed("s1", 18),
            "g21 b2 draining back | A active key-a until 2300, B draining key-b until 2200 | s1 \
             sealed@18 2300 | -",
        )
        .nothing_new(reported(live))
        .then(
            reported(evidence(1_200, 2, 18)),
            "g22 b2 draining back, settling | A active key-a until 2300, B draining key-b until \
             2200 | s1 sealed@18 2300 | -",
        )
        .at(1_230)
        .then(
            reported(evidence(1_230, 2, 18)),
            "g23 b3 withdrawing | A active key-a until 2300, B retired key-b until 2200 | s1 \
             sealed@18 2300 | publish_bundle@23",
        );
}

#[test]
fn going_forward_after_a_rollback_waits_for_the_trust_gate_again() {
    let back = after(drained(), 1_200, &[rollback("x"), switched("A", "a")]);
    Script::from(back)
        .at(1_200)
        .then(
            activate("fwd", evidence(1_200, 2, 14)),
            "g20 b2 distributing | A active key-a until 2000, B draining key-b until 2200 | s1 \
             sealed@14 2200 | -",
        )
        .nothing_new(activate("fwd", evidence(1_200, 2, 14)))
        .refuses(
            abort("y"),
            "abort_requested refused while distributing at generation 20: the new root has signed; wait until it is over",
        )
        .then(
            reported(evidence(1_200, 2, 14)),
            "g21 b2 distributing, settling | A active key-a until 2000, B draining key-b until \
             2200 | s1 sealed@14 2200 | -",
        )
        .at(1_230)
        .then(
            reported(evidence(1_230, 2, 14)),
            "g22 b2 draining | A draining key-a until 2000, B active key-b until 2200 | s1 \
             sealed@14 2200 | switch_signer@22",
        );
}

#[test]
fn a_root_at_its_end_does_not_sign_again() {
    let settling = after(
        distributed(Mode::Auto),
        ISSUER_END - 700,
        &[reported(evidence(ISSUER_END - 700, 2, 10))],
    );
    let now = ISSUER_END - 599;
    let draining = after(settling, now - 1, &[reported(evidence(now - 1, 2, 10))]);
    Script::from(draining).at(now).refuses(rollback("x"), "rollback_requested refused while draining at generation 14: root 559aead0 can sign \
         until 1970-01-01T13:53:20Z only; a root needs 600 s of life to sign again; wait until it is over").at(now - 1).then(rollback("x"), "g15 b2 draining back | A active key-a until 2000, B draining key-b until - | s1 sealed@10 2000 | switch_signer@15");
}

#[test]
fn verbs_without_a_rotation_are_refused() {
    for verb in
        [activate("v", evidence(1_000, 1, 7)), hold("v"), resume("v"), abort("v"), rollback("v")]
    {
        let name = verb.name();
        let text = format!(
            "{name} refused while steady at generation 7: no rotation is under way; start a rotation with `banyan rotate start`"
        );
        Script::from(signing()).refuses(verb, &text);
    }
    Script::from(after(signing(), 1_000, &[rotation("r", Mode::Auto)]))
        .refuses(
            activate("v", evidence(1_000, 1, 7)),
            "activate_requested refused while staging at generation 8: no root waits for its activation; wait until it is over",
        )
        .refuses(
            rollback("v"),
            "rollback_requested refused while staging at generation 8: the new root isn't signing; nothing to roll back; wait until it is over, or give it up with `banyan rotate abort`",
        );
}
