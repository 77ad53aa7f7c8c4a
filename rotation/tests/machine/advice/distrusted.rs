//! Standby roots and distrusted ones, in every state that verbs and events lead to: every move keeps the rules, every advice
//! is legal, and a distrusted root goes by itself.

use super::*;

/// Names of what an operator may ask about roots, beside the verbs of a rotation.
fn asked_of_roots(world: &World) -> Vec<Event> {
    let state = &world.state;
    let id = || fresh(state);
    let authority = || "main".parse::<AuthorityName>().unwrap();
    let mut asked = vec![
        rotation(id().as_str(), Mode::Standby),
        rotation(id().as_str(), Mode::Auto),
        rotation(id().as_str(), Mode::Manual),
        activate(id().as_str(), good(world)),
        hold(id().as_str()),
        resume(id().as_str()),
        abort(id().as_str()),
        rollback(id().as_str()),
        Event::SightingDismissed { request_id: id(), agent: "b".to_owned(), reason: String::new() },
    ];
    for root in state.roots.keys().copied().chain([RootId::of(b"nobody's")]) {
        let (by, reason) = ("ann".to_owned(), "seen elsewhere".to_owned());
        let request_id = id();
        let distrusts = |authority| Event::RootDistrusted {
            request_id: request_id.clone(),
            root,
            authority,
            by: by.clone(),
            reason: reason.clone(),
        };
        asked.extend([
            distrusts(authority()),
            distrusts("other".parse().unwrap()),
            Event::RootTrustedAgain {
                request_id: id(),
                root,
                by: by.clone(),
                reason: reason.clone(),
            },
            Event::DistrustedRootCut { request_id: id(), root, by, reason },
            Event::StandbyPromoted { request_id: id(), root, mode: Mode::Auto },
            Event::StandbyDropped { request_id: id(), root },
        ]);
    }
    asked
}

fn is_rid(world: &World) -> bool {
    is_steady(world) && !world.state.roots.values().any(|root| root.is_distrusted())
}

/// Nobody holds what is under way, and no agent says what this record does not know.
fn unheld(world: &World) -> World {
    let mut world = world.clone();
    for agent in ["a", "b"] {
        let dismissed = Event::SightingDismissed {
            request_id: fresh(&world.state),
            agent: agent.to_owned(),
            reason: String::new(),
        };
        world = moved(&world, &dismissed).unwrap_or(world);
    }
    moved(&world, &resume(fresh(&world.state).as_str())).unwrap_or(world)
}

#[test]
fn a_distrusted_root_goes_by_itself_from_every_state_and_every_advice_on_the_way_is_legal() {
    let (mut causes, mut distrusted, mut phases) = (BTreeSet::new(), 0, BTreeSet::new());
    let worlds = reached_by(World { state: signing(), now: 1_000 }, asked_of_roots);
    for world in &worlds {
        let mut waited_for = BTreeSet::new();
        for event in asked_of_roots(world) {
            let Err(refusal) = step(&world.state, &event, at(world.now), &policy()) else {
                continue;
            };
            follow(world, &event, &refusal, &mut waited_for);
            let cause = format!("{:?}", refusal.cause);
            causes.insert(cause.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned());
        }
        let by_hand = world.state.phase.rotation().is_some_and(|one| one.mode == Mode::Manual);
        if !world.state.roots.values().any(|root| root.is_distrusted()) || by_hand {
            continue;
        }
        distrusted += 1;
        phases.insert(world.state.phase.name());
        // What was said while agents held what the record never published is taken up when it is said again.
        let mut end = waited(unheld(world), is_rid);
        let stays = end.state.roots.iter().find(|(_, root)| root.is_distrusted());
        if let Some((root, _)) = stays.map(|(id, root)| (*id, root)) {
            let again = Event::RootDistrusted {
                request_id: fresh(&end.state),
                root,
                authority: "main".parse().unwrap(),
                by: "ann".to_owned(),
                reason: "still".to_owned(),
            };
            end = waited(moved(&end, &again).unwrap_or(end), is_rid);
        }
        assert!(is_rid(&end), "{} ends in {}", line(&world.state), line(&end.state));
    }
    assert!(worlds.len() > 500, "the world has shrunk to {} states", worlds.len());
    assert!(distrusted > 200, "only {distrusted} states have a distrusted root");
    let expected = ["distributing", "draining", "staging", "withdrawing"];
    assert!(expected.iter().all(|phase| phases.contains(phase)), "{phases:?}");
    for cause in ["Distrusted", "NotDistrusted", "NotReplaced", "NotStandby", "UnknownRoot"] {
        assert!(causes.contains(cause), "{cause} is not among {causes:?}");
    }
    println!("{} states, {distrusted} with a distrusted root", worlds.len());
}
