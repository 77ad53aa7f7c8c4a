//! Golden scripts of rotations: the whole way, with waits, crashes and repeated requests.

use rotation::{Event, Mode};

use crate::script::Script;
use crate::words::*;

#[test]
fn a_whole_rotation_goes_from_gate_to_gate_by_evidence_only() {
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
            signed("r", "B", "b"),
            "g10 b2 distributing | A active key-a until 2000, B published key-b until - | s1 open \
             2000 | publish_bundle@10",
        )
        .nothing_new(reported(evidence(1_000, 2, 10)))
        .then(
            published(2),
            "g11 b2 distributing | A active key-a until 2000, B published key-b until - | s1 open \
             2000 | -",
        )
        .nothing_new(reported(evidence(1_000, 2, 10)))
        .then(
            sealed("s1", 10),
            "g12 b2 distributing | A active key-a until 2000, B published key-b until - | s1 \
             sealed@10 2000 | -",
        )
        .nothing_new(reported(evidence(1_000, 2, 9)))
        .nothing_new(reported(evidence(1_000, 1, 10)))
        .then(
            reported(evidence(1_000, 2, 10)),
            "g13 b2 distributing, settling | A active key-a until 2000, B published key-b until - \
             | s1 sealed@10 2000 | -",
        )
        .at(1_029)
        .nothing_new(reported(evidence(1_029, 2, 10)))
        .at(1_030)
        .then(
            reported(evidence(1_030, 2, 10)),
            "g14 b2 draining | A draining key-a until 2000, B active key-b until - | s1 sealed@10 \
             2000 | switch_signer@14",
        )
        .nothing_new(reported(evidence(1_030, 2, 10)))
        .then(
            switched("B", "b"),
            "g15 b2 draining | A draining key-a until 2000, B active key-b until - | s1 sealed@10 \
             2000 | -",
        )
        .then(
            horizon("B", "s1", 2_200),
            "g16 b2 draining | A draining key-a until 2000, B active key-b until 2200 | s1 \
             sealed@10 2200 | -",
        )
        .then(
            sealed("s1", 14),
            "g17 b2 draining | A draining key-a until 2000, B active key-b until 2200 | s1 \
             sealed@14 2200 | -",
        )
        .then(
            reported(evidence(1_030, 2, 14)),
            "g18 b2 draining, settling | A draining key-a until 2000, B active key-b until 2200 | \
             s1 sealed@14 2200 | -",
        )
        .at(1_060)
        .then(
            reported(evidence(1_060, 2, 14)),
            "g19 b3 withdrawing | A retired key-a until 2000, B active key-b until 2200 | s1 \
             sealed@14 2200 | publish_bundle@19",
        )
        .nothing_new(reported(evidence(1_060, 3, 14)))
        .then(
            published(3),
            "g20 b3 withdrawing | A retired key-a until 2000, B active key-b until 2200 | s1 \
             sealed@14 2200 | -",
        )
        .then(
            sealed("s1", 19),
            "g21 b3 withdrawing | A retired key-a until 2000, B active key-b until 2200 | s1 \
             sealed@19 2200 | -",
        )
        .then(
            reported(evidence(1_060, 3, 19)),
            "g22 b3 steady | A retired key-a until 2000, B active key-b until 2200 | s1 sealed@19 \
             2200 | -",
        )
        .nothing_new(rotation("r", Mode::Auto))
        .nothing_new(prepared("r", "B"))
        .nothing_new(signed("r", "B", "b"));
}

#[test]
fn an_authority_that_answers_after_days_holds_up_nothing_but_the_rotation() {
    Script::from(signing())
        .then(
            rotation("r", Mode::Auto),
            "g8 b1 staging: root | A active key-a until 2000 | s1 open 2000 | stage_root@8",
        )
        .at(40_000)
        .then(
            horizon("A", "s1", 41_000),
            "g9 b1 staging: root | A active key-a until 41000 | s1 open 41000 | stage_root@8",
        )
        .then(
            renewal("i", "A"),
            "g10 b1 staging: root | A active key-a until 41000 renewing | s1 open 41000 | \
             stage_root@8, request_issuer@10",
        )
        .then(
            signed("i", "A", "c"),
            "g11 b1 staging: root | A active key-c until 41000 | s1 open 41000 | stage_root@8, \
             switch_signer@11",
        )
        .then(
            switched("A", "c"),
            "g12 b1 staging: root | A active key-c until 41000 | s1 open 41000 | stage_root@8",
        )
        .then(
            prepared("r", "B"),
            "g13 b1 staging: issuer | A active key-c until 41000, B staged - until - | s1 open \
             41000 | request_issuer@13",
        )
        .then(
            signed("r", "B", "b"),
            "g14 b2 distributing | A active key-c until 41000, B published key-b until - | s1 \
             open 41000 | publish_bundle@14",
        );
}

#[test]
fn the_same_request_id_starts_one_rotation_and_another_id_none() {
    let started = "g8 b1 staging: root | A active key-a until 2000 | s1 open 2000 | stage_root@8";
    let script = Script::from(signing())
        .then(rotation("r", Mode::Auto), started)
        .nothing_new(rotation("r", Mode::Auto));
    let id_used = "rotation_requested refused while staging at generation 8: request id r was used for \
         another request; use a new request id";
    script
        .refuses(
            rotation("r2", Mode::Auto),
            "rotation_requested refused while staging at generation 8: the rotation of request r \
             is under way; wait until it is over, or give it up with `banyan rotate abort`",
        )
        .refuses(rotation("r", Mode::Manual), id_used)
        .refuses(
            renewal("r", "A"),
            "issuer_renewal_requested refused while staging at generation 8: request id r was \
             used for another request; use a new request id",
        )
        .refuses(
            hold("r"),
            "hold_requested refused while staging at generation 8: request id r was used for \
             another request; use a new request id",
        );
    let instead =
        ["give it up with `banyan rotate abort`", "roll it back with `banyan rotate rollback`"];
    for ((state, at), instead) in [
        (distributed(Mode::Auto), "distributing at generation 12"),
        (drained(), "draining at generation 17"),
    ]
    .into_iter()
    .zip(instead)
    {
        let text = format!(
            "rotation_requested refused while {at}: the rotation of request r is under way; wait until it is over, or {instead}"
        );
        Script::from(state)
            .refuses(rotation("r2", Mode::Auto), &text)
            .nothing_new(rotation("r", Mode::Auto));
    }
}

#[test]
fn a_trust_domain_without_a_root_cannot_rotate() {
    Script::from(start()).refuses(
        rotation("r", Mode::Auto),
        "rotation_requested refused while uninitialised at generation 0: this trust domain \
         has no root that signs; wait until the first root signs",
    );
}

#[test]
fn a_driver_that_starts_counts_the_settle_time_anew() {
    let script = Script::from(distributed(Mode::Auto))
        .at(1_100)
        .nothing_new(Event::DriverStarted)
        .then(
            reported(evidence(1_100, 2, 10)),
            "g13 b2 distributing, settling | A active key-a until 2000, B published key-b until - \
             | s1 sealed@10 2000 | -",
        )
        .at(1_129)
        .then(
            Event::DriverStarted,
            "g14 b2 distributing | A active key-a until 2000, B published key-b until - | s1 \
             sealed@10 2000 | -",
        )
        .nothing_new(Event::DriverStarted)
        .at(1_131)
        .then(
            reported(evidence(1_131, 2, 10)),
            "g15 b2 distributing, settling | A active key-a until 2000, B published key-b until - \
             | s1 sealed@10 2000 | -",
        )
        .at(1_160)
        .nothing_new(reported(evidence(1_160, 2, 10)))
        .at(1_161)
        .then(
            reported(evidence(1_161, 2, 10)),
            "g16 b2 draining | A draining key-a until 2000, B active key-b until - | s1 sealed@10 \
             2000 | switch_signer@16",
        );
    // The uptime of a machine that booted again starts low: nothing is over by it.
    let mut booted = evidence(1_200, 2, 14);
    booted.uptime = std::time::Duration::from_secs(1);
    Script::from(script.state)
        .at(1_170)
        .then(
            switched("B", "b"),
            "g17 b2 draining | A draining key-a until 2000, B active key-b until - | s1 sealed@10 \
             2000 | -",
        )
        .then(
            sealed("s1", 16),
            "g18 b2 draining | A draining key-a until 2000, B active key-b until - | s1 sealed@16 \
             2000 | -",
        )
        .then(
            reported(evidence(1_170, 2, 16)),
            "g19 b2 draining, settling | A draining key-a until 2000, B active key-b until - | s1 \
             sealed@16 2000 | -",
        )
        .at(1_200)
        .nothing_new(reported(rotation::Evidence { read: evidence(0, 0, 16).read, ..booted }))
        .then(
            Event::DriverStarted,
            "g20 b2 draining | A draining key-a until 2000, B active key-b until - | s1 sealed@16 \
             2000 | -",
        );
}

#[test]
fn after_a_restart_the_new_segment_is_sealed_before_the_gate_opens() {
    let both = |now| {
        let mut evidence = evidence(now, 2, 10);
        evidence.read.insert("s2".parse().unwrap(), trust::Generation(14));
        evidence
    };
    Script::from(distributed(Mode::Auto))
        .at(1_100)
        .then(
            opened("ca", "s2", &["s1"]),
            "g13 b2 distributing | A active key-a until 2000, B published key-b until - | s1 \
             closed 2000, s2 open - | -",
        )
        .nothing_new(Event::DriverStarted)
        .then(
            horizon("A", "s2", 2_300),
            "g14 b2 distributing | A active key-a until 2300, B published key-b until - | s1 \
             closed 2000, s2 open 2300 | -",
        )
        .nothing_new(reported(both(1_100)))
        .then(
            sealed("s2", 14),
            "g15 b2 distributing | A active key-a until 2300, B published key-b until - | s1 \
             closed 2000, s2 sealed@14 2300 | -",
        )
        .then(
            reported(both(1_100)),
            "g16 b2 distributing, settling | A active key-a until 2300, B published key-b until - \
             | s1 closed 2000, s2 sealed@14 2300 | -",
        )
        .at(1_130)
        .then(
            reported(both(1_130)),
            "g17 b2 draining | A draining key-a until 2300, B active key-b until - | s1 closed \
             2000, s2 sealed@14 2300 | switch_signer@17",
        );
}

#[test]
fn a_root_that_came_before_or_ends_at_once_is_refused() {
    Script::from(signing())
        .then(
            rotation("r", Mode::Auto),
            "g8 b1 staging: root | A active key-a until 2000 | s1 open 2000 | stage_root@8",
        )
        .refuses(
            prepared("r", "A"),
            "root_prepared refused while staging at generation 8: root 559aead0 is known already; \
             give the authority another root; if this one was withdrawn and shall return, give the rotation up, then `banyan rotate start --stage-again 559aead0 --by NAME`; give it up with `banyan rotate abort`",
        )
        .refuses(
            prepared("q", "B"),
            "root_prepared refused while staging at generation 8: nothing was asked under request \
             id q; answers are taken only for pending effects",
        )
        .then(
            prepared("r", "B"),
            "g9 b1 staging: issuer | A active key-a until 2000, B staged - until - | s1 open 2000 \
             | request_issuer@9",
        )
        .refuses(
            prepared("r", "C"),
            "root_prepared refused while staging at generation 9: request r was answered before \
             with df7e70e5021544f4834bbee64a9e3789febc4be81470df629cad6ddb03320a5c; the authority \
             must answer a repeated request with \
             df7e70e5021544f4834bbee64a9e3789febc4be81470df629cad6ddb03320a5c",
        )
        .refuses(
            signed("r", "A", "x"),
            "issuer_signed refused while staging at generation 9: the answer is for root \
             559aead0, asked was root df7e70e5; the authority must sign under root \
             df7e70e5021544f4834bbee64a9e3789febc4be81470df629cad6ddb03320a5c",
        );
}

#[test]
fn an_issuer_that_comes_for_a_draining_root_does_not_sign() {
    let renewing = after(distributed(Mode::Auto), 1_000, &[renewal("i", "A")]);
    let settling = after(renewing, 1_100, &[reported(evidence(1_100, 2, 10))]);
    Script::from(settling)
        .at(1_130)
        .then(
            reported(evidence(1_130, 2, 10)),
            "g15 b2 draining | A draining key-a until 2000 renewing, B active key-b until - | s1 \
             sealed@10 2000 | request_issuer@13, switch_signer@15",
        )
        .then(
            signed("i", "A", "c"),
            "g16 b2 draining | A draining key-c until 2000, B active key-b until - | s1 sealed@10 \
             2000 | switch_signer@15",
        )
        .then(
            rollback("back"),
            "g17 b2 draining back | A active key-c until 2000, B draining key-b until - | s1 \
             sealed@10 2000 | switch_signer@17",
        );
}

#[test]
fn a_renewal_under_way_ends_with_its_root() {
    let renewing = after(distributed(Mode::Auto), 1_000, &[renewal("i", "A")]);
    let settling = after(renewing, 1_100, &[reported(evidence(1_100, 2, 10))]);
    let events = [
        reported(evidence(1_130, 2, 10)),
        switched("B", "b"),
        sealed("s1", 15),
        reported(evidence(1_130, 2, 15)),
    ];
    let draining = after(settling, 1_130, &events);
    Script::from(draining)
        .at(1_160)
        .then(
            reported(evidence(1_160, 2, 15)),
            "g19 b3 withdrawing | A retired key-a until 2000, B active key-b until - | s1 \
             sealed@15 2000 | publish_bundle@19",
        )
        .refuses(
            signed("i", "A", "c"),
            "issuer_signed refused while withdrawing at generation 19: nothing was asked under \
             request id i; answers are taken only for pending effects",
        );
}
