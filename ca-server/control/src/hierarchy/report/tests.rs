//! Reports and steps over one small record that is moved by the machine itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rotation::evidence::{RelyingParties, Tally};
use rotation::{
    BundleChange, Der, Distributing, Draining, Ending, IssuerEntry, Mode, RootEntry, Rotation,
    Staging, StagingStep, Steady, Withdrawing,
};
use trust::{CertificateId, Generation, Sequence, Timestamp, TrustDomain};

use super::*;
use crate::hierarchy::decide::{Step, decide};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn root(name: &str) -> RootId {
    RootId::of(name.as_bytes())
}

fn entry(name: &str, state: RootState, horizon: Option<i64>) -> RootEntry {
    let end = NOW.plus(Duration::from_secs(1_000_000));
    let issuer = IssuerEntry {
        chain: vec![Der::from(name.as_bytes())],
        key: format!("key-{name}").parse().unwrap(),
        not_after: end,
        replica: None,
        rehearsal: None,
    };
    let id = CertificateId::of(name.as_bytes());
    RootEntry {
        state,
        tainted: false,
        taint: None,
        authority: "upstream".parse().unwrap(),
        exclusive: false,
        der: Der::from(name.as_bytes()),
        not_after: end,
        horizon: horizon.map(Timestamp::from_secs),
        staged_horizon: None,
        probed_until: None,
        issuers: [(id, issuer)].into(),
        active_issuer: Some(id),
        signers: Default::default(),
        renewal: None,
        renewals: Default::default(),
        renewal_cancelled_at: None,
        renewals_cancelled: Default::default(),
    }
}

fn state(roots: &[(&str, RootState, Option<i64>)], phase: Phase) -> State {
    let mut state = State::uninitialised(TrustDomain::parse("example.org").unwrap());
    state.generation = Generation(20);
    state.sequence = Sequence(2);
    state.roots =
        roots.iter().map(|(name, is, horizon)| (root(name), entry(name, *is, *horizon))).collect();
    state.phase = phase;
    state
}

fn rotation() -> Rotation {
    Rotation {
        request_id: "tier-x".parse().unwrap(),
        authority: "upstream".parse().unwrap(),
        mode: Mode::Manual,
        requested_at: NOW,
        stage_again: None,
        canary: None,
        held_since: None,
    }
}

fn bundle() -> BundleChange {
    BundleChange { sequence: Sequence(2), generation: Generation(10) }
}

fn steady() -> Phase {
    Phase::Steady(Steady { since: NOW, ended: None })
}

fn staging(step: StagingStep) -> Phase {
    Phase::Staging(Staging { rotation: rotation(), from: root("a"), step })
}

fn distributing() -> Phase {
    let (rotation, bundle) = (rotation(), bundle());
    Phase::Distributing(Distributing {
        rotation,
        from: root("a"),
        to: root("b"),
        bundle,
        since: NOW,
        settling: None,
        observer: None,
    })
}

fn draining(from: &str, to: &str, rolled_back: bool) -> Phase {
    Phase::Draining(Draining {
        rotation: rotation(),
        from: root(from),
        to: root(to),
        bundle: bundle(),
        switched: Generation(15),
        rolled_back,
        since: NOW,
        settling: None,
        observer: None,
    })
}

fn upstream(roots: &[&str], signing: &str) -> Upstream {
    let roots = roots.iter().map(|name| root(name)).collect();
    Upstream { sequence: 7, roots, signing: root(signing), generation: 40 }
}

fn evidence() -> Evidence {
    Evidence {
        at: NOW,
        uptime: Duration::from_secs(100),
        sequence: Sequence(2),
        unproven: Tally::default(),
        own_trust: Tally::default(),
        unable: 0,
        waived: 0,
        live: BTreeMap::new(),
        read: BTreeMap::new(),
        relying_parties: RelyingParties::default(),
        foreign: BTreeMap::new(),
        let_go: BTreeSet::new(),
        cohort: None,
        observer: None,
        draining: BTreeSet::new(),
    }
}

const FAR: Option<i64> = Some(1_800_000_900);
const A: (&str, RootState, Option<i64>) = ("a", RootState::Active, FAR);
const NEW_B: (&str, RootState, Option<i64>) = ("b", RootState::Published, None);
const OLD_A: (&str, RootState, Option<i64>) = ("a", RootState::Draining, FAR);
const B: (&str, RootState, Option<i64>) = ("b", RootState::Active, FAR);

fn told(state: &State, upstream: &Upstream, evidence: &Evidence) -> (u64, Vec<RootId>) {
    let report = compose(state, upstream, Some(evidence), &Policy::default());
    assert_eq!(report.seen_generation, 40);
    (report.applied_sequence, report.unused)
}

#[test]
fn a_rotation_above_is_followed_step_by_step() {
    let (one, both) = (upstream(&["a"], "a"), upstream(&["a", "b"], "a"));
    let (switched, over) = (upstream(&["a", "b"], "b"), upstream(&["b"], "b"));
    let staged = ("b", RootState::Staged, None);
    let s = |roots: &[_], phase| state(roots, phase);
    for (state, upstream, wanted) in [
        (s(&[A], steady()), &one, Step::Rest),
        (s(&[A], steady()), &both, Step::Rotate(root("b"))),
        (s(&[A], steady()), &over, Step::Rotate(root("b"))),
        (s(&[A], staging(StagingStep::StagingRoot)), &both, Step::Rest),
        (s(&[A], staging(StagingStep::StagingRoot)), &one, Step::Abort),
        (
            s(&[A, staged], staging(StagingStep::RequestingIssuer { root: root("b") })),
            &both,
            Step::Rest,
        ),
        (
            s(&[A, staged], staging(StagingStep::RequestingIssuer { root: root("b") })),
            &one,
            Step::Abort,
        ),
        (s(&[A, NEW_B], distributing()), &both, Step::Rest),
        (s(&[A, NEW_B], distributing()), &switched, Step::Activate),
        (s(&[A, NEW_B], distributing()), &one, Step::Abort),
        (s(&[OLD_A, B], draining("a", "b", false)), &switched, Step::Rest),
        (s(&[OLD_A, B], draining("a", "b", false)), &both, Step::Rollback),
        (s(&[OLD_A, B], draining("a", "b", false)), &over, Step::Rest),
        (s(&[A, ("b", RootState::Draining, FAR)], draining("b", "a", true)), &both, Step::Rest),
        (
            s(&[A, ("b", RootState::Draining, FAR)], draining("b", "a", true)),
            &switched,
            Step::Forward,
        ),
        (s(&[A, ("b", RootState::Draining, FAR)], draining("b", "a", true)), &one, Step::Rest),
    ] {
        assert_eq!(
            decide(&state, upstream, "upstream"),
            wanted,
            "{} {upstream:?}",
            state.phase.name()
        );
        assert_eq!(
            decide(&state, upstream, "other"),
            Step::Rest,
            "nothing of another authority is decided"
        );
    }
}

#[test]
fn a_bundle_is_applied_when_it_is_the_bundle_here_and_was_waited_for() {
    let (one, both, over) =
        (upstream(&["a"], "a"), upstream(&["a", "b"], "a"), upstream(&["b"], "b"));
    let applied = |roots: &[_], phase, upstream: &Upstream, evidence: &Evidence| {
        told(&state(roots, phase), upstream, evidence).0
    };
    assert_eq!(applied(&[A], steady(), &one, &evidence()), 7);
    assert_eq!(applied(&[A], steady(), &both, &evidence()), 0, "the new root is not trusted here");
    assert_eq!(applied(&[A, NEW_B], distributing(), &both, &evidence()), 7);
    let waits = Evidence {
        unproven: Tally { count: 1, latest: FAR.map(Timestamp::from_secs) },
        ..evidence()
    };
    assert_eq!(applied(&[A, NEW_B], distributing(), &both, &waits), 0, "somebody is waited for");
    let relying_parties = RelyingParties { unbounded: 1, ..RelyingParties::default() };
    assert_eq!(
        applied(&[A, NEW_B], distributing(), &both, &Evidence { relying_parties, ..evidence() }),
        0
    );
    assert_eq!(
        applied(
            &[A, NEW_B],
            distributing(),
            &both,
            &Evidence { sequence: Sequence(1), ..evidence() }
        ),
        0
    );
    assert_eq!(applied(&[OLD_A, B], draining("a", "b", false), &both, &evidence()), 7);
    let gone = ("a", RootState::Retired, FAR);
    let withdrawing = Phase::Withdrawing(Withdrawing {
        rotation: rotation(),
        from: root("a"),
        to: root("b"),
        bundle: bundle(),
        since: NOW,
        ending: Ending::Completed,
    });
    assert_eq!(applied(&[gone, B], withdrawing, &over, &evidence()), 0, "not converged");
    assert_eq!(applied(&[gone, B], steady(), &over, &evidence()), 7);
    let without = compose(&state(&[A], steady()), &one, None, &Policy::default());
    assert_eq!(
        (without.applied_sequence, without.unused),
        (0, Vec::new()),
        "no evidence proves nothing"
    );
}

#[test]
fn a_root_is_unused_when_it_never_signed_or_its_last_leaf_is_over() {
    let both = upstream(&["a", "b"], "b");
    let unused =
        |roots: &[_], phase, evidence: &Evidence| told(&state(roots, phase), &both, evidence).1;
    assert_eq!(unused(&[A], steady(), &evidence()), [root("b")], "unknown here");
    assert_eq!(
        unused(&[A, NEW_B], distributing(), &evidence()),
        [root("b")],
        "trusted, and never signed"
    );
    let lives = |name| Evidence {
        live: [(root(name), Tally { count: 1, latest: FAR.map(Timestamp::from_secs) })].into(),
        ..evidence()
    };
    assert!(
        unused(&[A, NEW_B], distributing(), &lives("b")).is_empty(),
        "a downstream CA may use it"
    );
    assert_eq!(unused(&[OLD_A, B], draining("a", "b", false), &evidence()), [root("a")]);
    assert!(unused(&[OLD_A, B], draining("a", "b", false), &lives("a")).is_empty(), "a leaf lives");
    let was_used = ("b", RootState::Draining, FAR);
    assert!(
        unused(&[A, was_used], distributing(), &evidence()).is_empty(),
        "after a rollback, forward again"
    );
}

#[test]
fn further_roots_of_either_side_are_no_matter_to_a_report() {
    let mut state = state(&[A], steady());
    let by = ["upstream".parse().unwrap()].into();
    let further = rotation::FurtherEntry {
        der: Der::from(b"f".as_slice()),
        not_after: NOW,
        since: NOW,
        by,
        decided: None,
    };
    state.further.insert(root("f"), further);
    let told = compose(&state, &upstream(&["a"], "a"), Some(&evidence()), &Policy::default());
    assert_eq!((told.applied_sequence, told.unused), (7, Vec::new()));
}
