//! Protections in the machine itself, each with what it becomes when it is taken out, and the walk that then meets a failure.

/// One protection, and how it is taken out.
pub(super) struct Mutant {
    /// What is protected, in words.
    pub(super) protection: &'static str,
    /// The file that has it.
    pub(super) file: &'static str,
    /// What is altered in it.
    pub(super) edits: &'static [Edit],
    /// The test that must fail: a walk of the model, or a script of the machine.
    pub(super) walk: &'static str,
}

/// A text in the place of another.
pub(super) struct Edit {
    /// What stands there, once.
    pub(super) from: &'static str,
    /// What stands there without the protection.
    pub(super) to: &'static str,
}

/// The gates.
const GATES: &str = "rotation/src/evidence/gates.rs";
/// What ends a phase.
const PASSAGE: &str = "rotation/src/step/passage.rs";
/// Whether a phase may end.
const SETTLING: &str = "rotation/src/step/settling.rs";
/// The canary.
const CANARY: &str = "rotation/src/step/canary.rs";
/// How long leaves may live.
const HORIZON: &str = "rotation/src/step/horizon.rs";
/// What a replica has released.
const SEGMENT: &str = "rotation/src/step/segment.rs";
/// What an agent hands to its proxy.
const INSTALL: &str = "agent/src/install.rs";

/// All of them.
pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        protection: "the trust gate counts holders",
        file: GATES,
        edits: &[Edit {
            from: "if rows.count > 0 && !self.has_passed(rows.latest) {",
            to: "if false && rows.count > 0 {",
        }],
        walk: "gates_keep_every_handshake",
    },
    Mutant {
        protection: "the trust gate counts relying parties",
        file: GATES,
        edits: &[Edit {
            from: "if relying_parties.bounded.count > 0 && !self.has_passed(relying_parties.bounded.latest) {",
            to: "if false && relying_parties.bounded.count > 0 {",
        }],
        walk: "larger_settings_of_two_replicas_meet_no_failure_nearby",
    },
    Mutant {
        protection: "holders with trust of their own keep the trust gate closed",
        file: GATES,
        edits: &[Edit {
            from: "if !own.is_empty() && !self.has_passed(own.latest) {",
            to: "if false && !own.is_empty() {",
        }],
        walk: "a_holder_with_trust_of_its_own_keeps_the_trust_gate_closed_over_its_renewals",
    },
    Mutant {
        protection: "the leaf gate counts leaves",
        file: GATES,
        edits: &[Edit {
            from: "            && !self.has_passed(rows.latest.or(horizon))",
            to: "            && false",
        }],
        walk: "gates_keep_every_handshake",
    },
    Mutant {
        protection: "a bundle is in force before trust counts",
        file: GATES,
        edits: &[Edit {
            from: "        let mut judge = Judge::of(evidence, policy, None);\n        judge.in_force(state, |effect| matches!(effect, Effect::PublishBundle { .. }));\n        judge.trust(state, self.decided);",
            to: "        let mut judge = Judge::of(evidence, policy, None);\n        judge.trust(state, self.decided);",
        }],
        walk: "larger_settings_of_two_replicas_meet_no_failure_nearby",
    },
    Mutant {
        protection: "a segment counts as read only when it was read after its seal",
        file: GATES,
        edits: &[Edit {
            from: "generation >= since && read.is_some_and(|read| *read >= since)",
            to: "generation >= since && read.is_some()",
        }],
        walk: "the_leaf_gate_asks_about_the_root_that_drains_only",
    },
    Mutant {
        protection: "a segment that was not read counts as full until its bound",
        file: GATES,
        edits: &[Edit {
            from: "SegmentState::Open | SegmentState::Closed(Contents::Unread) => false,",
            to: "SegmentState::Open | SegmentState::Closed(Contents::Unread) => true,",
        }],
        walk: "a_lost_segment_counts_as_full_until_a_bound_that_holds",
    },
    Mutant {
        protection: "handshakes in flight: settle",
        file: GATES,
        edits: &[Edit {
            from: "_ => policy.settle.saturating_sub(evidence.uptime.saturating_sub(self.began)),",
            to: "_ => Duration::ZERO,",
        }],
        walk: "settle_keeps_handshakes_in_flight",
    },
    Mutant {
        protection: "settle is counted on one clock",
        file: GATES,
        edits: &[Edit {
            from: "Some(by) if evidence.observer.as_ref() != Some(&by.segment) => policy",
            to: "Some(by) if false && evidence.observer.as_ref() != Some(&by.segment) => policy",
        }],
        walk: "an_operator_activates_at_any_replica_once_the_settle_time_is_over_by_everybodys_clock",
    },
    Mutant {
        protection: "twice the skew",
        file: "rotation/src/policy.rs",
        edits: &[Edit { from: "now > bound.plus(self.skew.saturating_mul(2))", to: "now > bound" }],
        walk: "clocks_may_differ",
    },
    Mutant {
        protection: "a gate that rests on a passed bound closes that segment (`close_over`)",
        file: PASSAGE,
        edits: &[Edit {
            from: "                segment.state = SegmentState::Closed(Contents::Unread);",
            to: "                let _ = (segment, Contents::Unread);",
        }],
        walk: "a_segment_that_counts_as_over_is_closed_before_the_settle_time_begins",
    },
    Mutant {
        protection: "a gate is passed by who saw the whole settle time",
        file: SETTLING,
        edits: &[Edit {
            from: "        self.by.map(|by| &by.segment) == self.evidence.observer.as_ref()",
            to: "        self.by.is_none() || self.by.is_some()",
        }],
        walk: "a_settle_time_is_counted_by_one_observer_and_taken_over_when_that_one_is_gone",
    },
    Mutant {
        protection: "what a former driver counted counts for nothing",
        file: PASSAGE,
        edits: &[Edit {
            from: "        Some((settling, None)) if settling.is_some() => {",
            to: "        Some((settling, None)) if settling.is_some() && false => {",
        }],
        walk: "a_driver_that_starts_counts_the_settle_time_anew",
    },
    Mutant {
        protection: "settle begins anew when a condition no longer holds",
        file: PASSAGE,
        edits: &[Edit {
            from: "        settling.began?;\n        draft.set_settling(None);\n        return Some(draft);",
            to: "        return None;",
        }],
        walk: "a_condition_that_no_longer_holds_starts_the_settle_time_anew",
    },
    Mutant {
        protection: "no phase ends on hold",
        file: SETTLING,
        edits: &[Edit {
            from: "rotation.held_since.is_none() && guards::none_open(state).is_ok()",
            to: "guards::none_open(state).is_ok() || rotation.held_since.is_some()",
        }],
        walk: "a_hold_keeps_every_gate_closed",
    },
    Mutant {
        protection: "no bundle is changed while agents hold an unknown one",
        file: "rotation/src/step/guards.rs",
        edits: &[Edit {
            from: "let Some((agent, sighting)) = state.seen.highest() else { return Ok(()) };",
            to: "let Some((agent, sighting)) = state.seen.highest().filter(|_| false) else { return Ok(()) };",
        }],
        walk: "a_restored_record_gives_no_number_again_that_agents_have_told_of",
    },
    Mutant {
        protection: "the horizon of a root that drains is final",
        file: HORIZON,
        edits: &[Edit { from: "if !entry.state.may_sign() {", to: "if false {" }],
        walk: "a_horizon_rises_only_under_a_root_that_signs_and_for_a_segment_that_takes_rows",
    },
    Mutant {
        protection: "a closed segment takes no bound",
        file: HORIZON,
        edits: &[Edit { from: "if holder.is_closed() {", to: "if false {" }],
        walk: "larger_settings_of_two_replicas_meet_no_failure_nearby",
    },
    Mutant {
        protection: "rows of a former life that were not read count",
        file: SEGMENT,
        edits: &[Edit {
            from: "if opened.read.contains(id) { Contents::Read } else { Contents::Unread };",
            to: "if opened.read.contains(id) { Contents::Read } else { Contents::Read };",
        }],
        walk: "a_lost_segment_counts_as_full_until_a_bound_that_holds",
    },
    Mutant {
        protection: "one rotation at a time",
        file: "rotation/src/step/staging.rs",
        edits: &[
            Edit {
                from: "    if let Some(rotation) = state.phase.rotation() {",
                to: "    let same = |rotation: &&Rotation| rotation.request_id == *request_id;\n    if let Some(rotation) = state.phase.rotation().filter(same) {",
            },
            Edit {
                from: "    if !matches!(state.phase, Phase::Steady(_)) {",
                to: "    if matches!(state.phase, Phase::Uninitialised) {",
            },
        ],
        walk: "the_same_request_id_starts_one_rotation_and_another_id_none",
    },
    Mutant {
        protection: "a restored record goes on above what was seen",
        file: "rotation/src/step/sighting.rs",
        edits: &[Edit {
            from: "if above < least || above.0 >= SEQUENCE_MAX {",
            to: "if above.0 >= SEQUENCE_MAX {",
        }],
        walk: "a_sequence_that_was_seen_is_never_given_again",
    },
    Mutant {
        protection: "bundle before leaf: every validation secret has acknowledged",
        file: INSTALL,
        edits: &[Edit {
            from: "known && kept && self.trust.values().all(applied)",
            to: "known && kept && (self.trust.values().all(applied) || true)",
        }],
        walk: "a_joiner_has_the_bundle_before_its_leaf",
    },
    Mutant {
        protection: "a promised leaf never goes to a holder with trust of its own",
        file: INSTALL,
        edits: &[Edit {
            from: "let kept = !(leaf.promised && self.has_trust_of_its_own());",
            to: "let kept = true;",
        }],
        walk: "a_promised_leaf_never_goes_to_a_holder_that_takes_its_trust_from_elsewhere",
    },
    Mutant {
        protection: "leaf before bundle when trust is removed",
        file: INSTALL,
        edits: &[Edit {
            from: "(false, true) => leaves_moved.then(|| newest.clone()),",
            to: "(false, true) => (leaves_moved || true).then(|| newest.clone()),",
        }],
        walk: "through_two_rotations_the_order_holds_in_every_state_and_the_holder_gets_to_the_end",
    },
    Mutant {
        protection: "who skipped a bundle gets the union first",
        file: INSTALL,
        edits: &[Edit {
            from: "                Some(newest.union(&kept, applied.proves))",
            to: "                let _: BTreeSet<RootId> = kept;\n                Some(newest.clone())",
        }],
        walk: "who_skipped_a_bundle_gets_the_union_first",
    },
    Mutant {
        protection: "what was in flight on a lost stream is unknown",
        file: INSTALL,
        edits: &[Edit {
            from: "            applied.roots = roots;",
            to: "            let _: BTreeSet<RootId> = roots;\n            *applied = self.in_flight.clone().unwrap_or_else(|| applied.clone());",
        }],
        walk: "every_validation_secret_has_its_own_word",
    },
    Mutant {
        protection: "acknowledged is not able: the trust gate waits for a proxy that cannot verify",
        file: GATES,
        edits: &[Edit {
            from: "if self.evidence.unable > 0 && self.deadline.is_none() {",
            to: "if false && self.evidence.unable > 0 {",
        }],
        walk: "a_proxy_that_cannot_verify_the_new_root_keeps_the_trust_gate_closed_whatever_it_acknowledged",
    },
    Mutant {
        protection: "a distrusted root never comes to sign",
        file: "rotation/src/step/guards.rs",
        edits: &[Edit {
            from: "state.roots.get(&root).is_some_and(|entry| entry.tainted)",
            to: "state.roots.get(&root).is_some_and(|entry| entry.tainted && false)",
        }],
        walk: "no_state_follows_in_which_a_distrusted_root_comes_to_sign_or_into_the_bundle",
    },
    Mutant {
        protection: "a distrusted root is cut off only when another one signs",
        file: "rotation/src/step/distrust.rs",
        edits: &[Edit {
            from: "Phase::Draining(phase) if phase.from == root && !signer_changes(state) => phase,",
            to: "Phase::Draining(phase) if phase.from == root || !signer_changes(state) => phase,",
        }],
        walk: "a_distrusted_root_is_cut_off_only_by_a_word_that_is_kept_and_only_when_another_one_signs",
    },
    Mutant {
        protection: "a standby root that may have signed is not dropped while its leaves may live",
        file: "rotation/src/step/standby.rs",
        edits: &[Edit {
            from: "entry.horizon.filter(|_| entry.signed_since_staged())",
            to: "entry.horizon.filter(|_| false && entry.signed_since_staged())",
        }],
        walk: "a_standby_root_goes_without_a_gate_and_only_when_nothing_else_is_under_way",
    },
    Mutant {
        protection: "nobody leaves a cohort while its root signs",
        file: "rotation/src/step/verbs.rs",
        edits: &[Edit {
            from: "if !cohort.includes(&phase.cohort) {",
            to: "if false && !cohort.includes(&phase.cohort) {",
        }],
        walk: "a_cohort_grows_and_never_shrinks_and_is_watched_anew",
    },
    Mutant {
        protection: "a cohort that is not there ends no canary",
        file: GATES,
        edits: &[Edit { from: "if !seen.is_telling() {", to: "if false && !seen.is_telling() {" }],
        walk: "a_cohort_that_says_nothing_of_the_new_root_ends_no_canary_and_an_operator_does",
    },
    Mutant {
        protection: "what goes wrong holds a canary",
        file: "rotation/src/step/watch.rs",
        edits: &[Edit {
            from: "seen.trouble.is_above(phase.accepted.as_ref(), policy)",
            to: "false && seen.trouble.is_above(phase.accepted.as_ref(), policy)",
        }],
        walk: "trouble_above_the_limit_holds_it_and_only_more_than_was_accepted_holds_it_again",
    },
    Mutant {
        protection: "leaves of a canary that was taken back are sealed before its root goes",
        file: CANARY,
        edits: &[Edit {
            from: "switched: draft.state.generation,",
            to: "switched: bundle.generation,",
        }],
        walk: "the_leaves_of_a_canary_that_was_rolled_back_are_waited_for",
    },
];
