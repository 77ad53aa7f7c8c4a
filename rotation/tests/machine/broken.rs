//! Each rule, broken by hand: the check must name it. A rule whose check is removed makes its line fail.

use rotation::invariants::{Property, check, check_next};
use rotation::{
    BootstrapStep, Bootstrapping, Contents, Effect, Event, Mode, PendingEffect, Phase, RootState,
    SegmentState, State, step,
};
use trust::{Generation, Sequence, TrustDomain};

use crate::words::*;

fn with_segment() -> State {
    let events = [opened("ca", "s1", &[]), horizon("A", "s1", 2_000)];
    events.iter().fold(bootstrapped(), |state, event| {
        step(&state, event, at(1_000), &policy()).unwrap().next
    })
}

fn segment_mut(state: &mut State) -> &mut rotation::Segment {
    state.segments.values_mut().next().unwrap()
}

fn root_mut(state: &mut State) -> &mut rotation::RootEntry {
    state.roots.values_mut().next().unwrap()
}

fn trusted(name: &str) -> rotation::FurtherEntry {
    let by = ["main".parse().unwrap()].into();
    rotation::FurtherEntry {
        der: name.as_bytes().into(),
        not_after: at(ROOT_END),
        since: at(1_000),
        by,
        decided: None,
    }
}

#[test]
fn every_rule_of_one_state_is_checked() {
    type Break = fn(&mut State);
    let rules: [(Property, &str, Break); 17] = [
        (Property::S2, "past its horizon", |s| root_mut(s).horizon = Some(at(1_999))),
        (Property::S2, "past its horizon", |s| root_mut(s).horizon = None),
        (Property::S3, "1 roots sign", |s| s.phase = Phase::Bootstrapping(publishing())),
        (Property::S3, "0 roots sign", |s| root_mut(s).state = RootState::Published),
        (Property::S3, "has 0 roots", |s| root_mut(s).state = RootState::Retired),
        (Property::S3, "has 1 roots", |s| s.sequence = Sequence(0)),
        (Property::S3, "does not fit its root", |s| root_mut(s).active_issuer = Some(issuer("x"))),
        (Property::S3, "without an issuer", |s| root_mut(s).active_issuer = None),
        (Property::S3, "does not fit its root", |s| root_mut(s).not_after = at(ISSUER_END - 1)),
        (Property::S3, "past its end", |s| root_mut(s).horizon = Some(at(ROOT_END + 1))),
        (Property::S4, "does not fit the record", |s| {
            s.further.insert(root("F"), rotation::FurtherEntry { by: [].into(), ..trusted("F") });
        }),
        (Property::S4, "does not fit the record", |s| {
            root_mut(s).tainted = true;
            s.further.insert(root("A"), trusted("A"));
        }),
        (Property::S4, "does not fit the record", |s| {
            let names: Vec<_> =
                (0..=rotation::FURTHER_ROOTS_MAX).map(|n| format!("F{n}")).collect();
            s.further.extend(names.iter().map(|name| (root(name), trusted(name))));
        }),
        (Property::S8, "publish_bundle", |s| {
            let effect = Effect::PublishBundle { sequence: Sequence(2) };
            s.pending.push(PendingEffect { generation: s.generation, effect });
        }),
        (Property::S8, "switch_signer", |s| {
            let effect = Effect::SwitchSigner { root: root("A"), issuer: Some(issuer("a")) };
            let twice = PendingEffect { generation: s.generation, effect };
            s.pending.extend([twice.clone(), twice]);
        }),
        (Property::S8, "stage_root", |s| {
            let (request_id, authority) = ("g".parse().unwrap(), "main".parse().unwrap());
            let effect = Effect::StageRoot { request_id, authority };
            s.pending.push(PendingEffect { generation: s.generation, effect });
        }),
        (Property::S8, "request_issuer", |s| {
            let (request_id, requested_at) = ("r".parse().unwrap(), at(1_000));
            root_mut(s).renewal = Some(rotation::IssuerRenewal { request_id, requested_at });
        }),
    ];
    assert_eq!(check(&with_segment()), Ok(()));
    for (number, (property, text, break_it)) in rules.into_iter().enumerate() {
        let mut state = with_segment();
        break_it(&mut state);
        let violation = check(&state).expect_err(&format!("rule {number} ({text})"));
        assert_eq!(violation.property(), property, "{violation}");
        assert!(violation.to_string().contains(text), "{violation} of rule {number} ({text})");
    }
}

#[test]
fn every_rule_of_two_states_is_checked() {
    type Break = fn(&mut State);
    let rules: [(Property, &str, Break); 12] = [
        (Property::S4, "trust domain", |s| {
            s.trust_domain = TrustDomain::parse("other.org").unwrap()
        }),
        (Property::S4, "generation", |s| s.generation = Generation(s.generation.0 + 1)),
        (Property::S4, "generation", |s| s.generation = Generation(s.generation.0 - 1)),
        (Property::S4, "bundle 2 follows 1", |s| s.sequence = Sequence(2)),
        (Property::S4, "changed against its state", |s| root_mut(s).der = [0_u8].as_slice().into()),
        (Property::S4, "changed against its state", |s| {
            root_mut(s).authority = "other".parse().unwrap()
        }),
        (Property::S6, "adds and removes roots", |s| {
            let entry = root_mut(s).clone();
            s.segments.clear();
            s.roots = [(root("B"), entry)].into();
            s.sequence = Sequence(2);
        }),
        (Property::S2, "was lowered", |s| {
            segment_mut(s).bounds.insert(root("A"), at(1_500));
        }),
        (Property::S2, "was lowered", |s| {
            segment_mut(s).bounds.clear();
            root_mut(s).horizon = Some(at(1_999));
        }),
        (Property::S2, "changed against its state", |s| s.segments.clear()),
        (Property::S6, "together with another change", |s| {
            s.further.insert(root("F"), trusted("F"));
            s.sequence = Sequence(2);
            s.phase = Phase::Steady(rotation::Steady { since: at(1_001), ended: None });
        }),
        (Property::S4, "bundle 1 follows 1", |s| drop(s.further.insert(root("F"), trusted("F")))),
    ];
    for (number, (property, text, break_it)) in rules.into_iter().enumerate() {
        let former = with_segment();
        let mut next = following(&former);
        assert_eq!(check_next(&former, &next), Ok(()));
        break_it(&mut next);
        let violation = check_next(&former, &next).expect_err(&format!("rule {number} ({text})"));
        assert_eq!(violation.property(), property, "{violation}");
        assert!(violation.to_string().contains(text), "{violation} of rule {number} ({text})");
    }
}

#[test]
fn a_compromised_root_does_not_vanish() {
    let mut former = with_segment();
    let retired = rotation::RootEntry {
        state: RootState::Retired,
        tainted: true,
        horizon: None,
        ..root_mut(&mut former).clone()
    };
    former.roots.insert(root("B"), retired);
    let mut next = following(&former);
    assert_eq!(check_next(&former, &next), Ok(()));
    next.roots.remove(&root("B"));
    assert_eq!(check_next(&former, &next).unwrap_err().property(), Property::S4);
}

#[test]
fn a_closed_segment_is_neither_opened_nor_extended() {
    let mut former = with_segment();
    segment_mut(&mut former).state = SegmentState::Closed(Contents::Read);
    let mut opened = following(&former);
    segment_mut(&mut opened).state = SegmentState::Open;
    assert_eq!(check_next(&former, &opened).unwrap_err().property(), Property::S2);
    let mut extended = following(&former);
    root_mut(&mut extended).horizon = Some(at(2_100));
    segment_mut(&mut extended).bounds.insert(root("A"), at(2_100));
    assert_eq!(check_next(&former, &extended).unwrap_err().property(), Property::S2);
}

/// The same state, one generation later.
fn following(former: &State) -> State {
    State { generation: former.generation.next(), ..former.clone() }
}

#[test]
fn a_bootstrap_has_no_root_but_its_own() {
    let mut state = step(&start(), &bootstrap("f"), at(1_000), &policy()).unwrap().next;
    state.roots = bootstrapped().roots;
    root_mut(&mut state).state = RootState::Staged;
    assert_eq!(check(&state).unwrap_err().property(), Property::S8);
    let mut without_effect = step(&start(), &bootstrap("f"), at(1_000), &policy()).unwrap().next;
    without_effect.pending.clear();
    assert_eq!(check(&without_effect).unwrap_err().property(), Property::S8);
}

#[test]
fn a_horizon_is_not_raised_before_the_root_signs() {
    let events: [Event; 3] = [bootstrap("f"), prepared("f", "A"), signed("f", "A", "a")];
    let former = events
        .iter()
        .fold(start(), |state, event| step(&state, event, at(1_000), &policy()).unwrap().next);
    let mut next = following(&former);
    root_mut(&mut next).horizon = Some(at(2_000));
    assert_eq!(check_next(&former, &next).unwrap_err().property(), Property::S2);
}

fn publishing() -> Bootstrapping {
    Bootstrapping {
        request_id: "f".parse().unwrap(),
        authority: "main".parse().unwrap(),
        requested_at: at(1_000),
        step: BootstrapStep::Publishing { root: root("A") },
    }
}

fn set(state: &mut State, name: &str, to: RootState) {
    state.roots.get_mut(&root(name)).unwrap().state = to;
}

fn draining_mut(state: &mut State) -> &mut rotation::Draining {
    let Phase::Draining(phase) = &mut state.phase else { panic!("not draining") };
    phase
}

#[test]
fn every_rule_of_a_rotation_is_checked() {
    type Break = fn(&mut State);
    let staging = || after(signing(), 1_000, &[rotation("r", Mode::Auto), prepared("r", "B")]);
    let ready = || after(staging(), 1_000, &[hold("h"), signed("r", "B", "b")]);
    let withdrawing = || after(distributed(Mode::Auto), 1_000, &[abort("x")]);
    let rules: [(State, Break); 11] = [
        (after(signing(), 1_000, &[rotation("r", Mode::Auto)]), |s| s.pending.clear()),
        (staging(), |s| s.pending.clear()),
        (staging(), |s| set(s, "B", RootState::Retired)),
        (ready(), |s| s.roots.get_mut(&root("B")).unwrap().active_issuer = None),
        (distributed(Mode::Auto), |s| s.sequence = Sequence(3)),
        (distributed(Mode::Auto), |s| set(s, "B", RootState::Retired)),
        (drained(), |s| draining_mut(s).switched = Generation(s.generation.0 + 1)),
        (drained(), |s| draining_mut(s).from = root("B")),
        (drained(), |s| set(s, "A", RootState::Published)),
        (withdrawing(), |s| set(s, "B", RootState::Published)),
        (drained(), |s| {
            s.phase = Phase::Steady(rotation::Steady { since: at(1_000), ended: None })
        }),
    ];
    for (number, (state, break_it)) in rules.into_iter().enumerate() {
        let mut broken = state.clone();
        break_it(&mut broken);
        assert_eq!(check(&state), Ok(()), "rule {number}");
        let violation = check(&broken).expect_err(&format!("rule {number}"));
        assert_eq!(violation.property(), Property::S4, "{violation} of rule {number}");
    }
}

/// Each pair could be written by a machine without the gate between the two states.
#[test]
fn no_state_follows_past_a_closed_gate() {
    let pass = |state: State, next: State| {
        let next = State { generation: state.generation.next(), ..next };
        check_next(&state, &next).map_err(|violation| violation.property())
    };
    let events = [reported(evidence(1_130, 2, 10))];
    let settling = after(distributed(Mode::Auto), 1_100, &[reported(evidence(1_100, 2, 10))]);
    let switched = after(settling.clone(), 1_130, &events);
    assert_eq!(pass(settling, switched.clone()), Ok(()));
    let mut early = switched;
    draining_mut(&mut early).switched = Generation(13);
    early.pending[0].generation = Generation(13);
    assert_eq!(pass(distributed(Mode::Auto), early), Err(Property::S1));

    let settling = after(drained(), 1_130, &[reported(evidence(1_130, 2, 14))]);
    let gone = after(settling.clone(), 1_160, &[reported(evidence(1_160, 2, 14))]);
    assert_eq!(pass(settling, gone.clone()), Ok(()));
    let mut early = gone;
    let Phase::Withdrawing(phase) = &mut early.phase else { panic!("not withdrawing") };
    phase.bundle.generation = Generation(18);
    early.pending[0].generation = Generation(18);
    assert_eq!(pass(drained(), early), Err(Property::S2));

    let other = after(signing(), 1_000, &[rotation("q", Mode::Auto)]);
    let one = after(signing(), 1_000, &[rotation("r", Mode::Auto)]);
    assert_eq!(pass(one.clone(), other), Err(Property::S4), "one rotation at a time");
    assert_eq!(pass(drained(), one), Err(Property::S4), "no way back to an earlier phase");
}

#[test]
fn the_table_of_root_states_leads_back_from_retirement_to_staging_alone() {
    use RootState::{Active, Canary, Draining, Published, Retired, Staged};
    let all = [Staged, Published, Canary, Active, Draining, Retired];
    let table: Vec<String> = all
        .iter()
        .map(|from| all.map(|to| if from.may_become(to) { 'x' } else { '.' }).iter().collect())
        .collect();
    assert_eq!(table, ["xx...x", ".xxx.x", "..xxx.", "...xx.", "..xxxx", "x....x"]);
}
