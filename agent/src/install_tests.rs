//! Every state that a holder can come to, over rotations that it may follow or sleep through, with lost streams and
//! refusals: the rules of `install` hold in each, and from each the holder gets to the end.

use super::*;

fn root(number: u8) -> RootId {
    RootId::of(&[number])
}

fn view(sequence: u64, roots: &[u8]) -> TrustView {
    TrustView {
        proves: Sequence(sequence),
        roots: roots.iter().map(|number| root(*number)).collect(),
    }
}

fn leaf(number: u8, under: u8, born: u64) -> HeldLeaf {
    let mut bytes = [number; 16];
    bytes[0] = 0x40;
    HeldLeaf {
        serial: Serial::from_bytes(&bytes).unwrap(),
        root: root(under),
        not_after: Timestamp::from_secs(100),
        born: Sequence(born),
        promised: true,
    }
}

fn identity() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/ns/a/sa/b").unwrap()
}

/// The agent's side: which bundle and leaf are the newest, step by step through two rotations.
fn history() -> Vec<(TrustView, HeldLeaf)> {
    vec![
        (view(1, &[1]), leaf(1, 1, 1)),
        (view(2, &[1, 2]), leaf(1, 1, 1)),
        (view(2, &[1, 2]), leaf(2, 2, 2)),
        (view(3, &[2]), leaf(2, 2, 2)),
        (view(4, &[2, 3]), leaf(2, 2, 2)),
        (view(4, &[2, 3]), leaf(3, 3, 4)),
        (view(5, &[3]), leaf(3, 3, 4)),
    ]
}

fn empty_leaf() -> LeafSubscription {
    LeafSubscription {
        identity: identity(),
        may_hold: Vec::new(),
        installed: None,
        in_flight: None,
        refused: None,
        taking: Taking::No,
        ready: true,
    }
}

/// What the holder really has, which the agent only learns by acknowledgements.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct World {
    step: usize,
    /// Steps of the history that this world goes through.
    steps: usize,
    agent: Installed,
    trust: BTreeMap<SubscriptionId, Option<TrustView>>,
    leaves: BTreeMap<SubscriptionId, Option<HeldLeaf>>,
}

const TRUST: [SubscriptionId; 2] = [SubscriptionId(1), SubscriptionId(2)];
const LEAVES: [SubscriptionId; 2] = [SubscriptionId(3), SubscriptionId(4)];

impl World {
    fn start(trust: usize, leaves: usize, steps: usize) -> Self {
        let secret = TrustSubscription { ready: true, ..TrustSubscription::default() };
        let (trust, leaves) = (&TRUST[..trust], &LEAVES[..leaves]);
        Self {
            step: 0,
            steps,
            agent: Installed {
                trust: trust.iter().map(|id| (*id, secret.clone())).collect(),
                leaves: leaves.iter().map(|id| (*id, empty_leaf())).collect(),
                trust_expected: false,
                unproven: false,
                lost: BTreeSet::new(),
                believes_others: false,
            },
            trust: trust.iter().map(|id| (*id, None)).collect(),
            leaves: leaves.iter().map(|id| (*id, None)).collect(),
        }
    }

    fn pushes(&self) -> Vec<Push> {
        let (bundle, newest) = history()[self.step].clone();
        let known = (1..=3).map(root).collect();
        let leaves = BTreeMap::from([(identity(), newest)]);
        let now = Timestamp::from_secs(10);
        plan(&self.agent, &Target { bundle: &bundle, known: &known, leaves: &leaves, now })
    }

    fn pushed(&self, push: &Push) -> Self {
        let mut next = self.clone();
        match push {
            Push::Trust(id, view) => {
                if let Some(has) = &self.agent.trust[id].applied {
                    let (grows, shrinks) =
                        (has.roots.is_subset(&view.roots), view.roots.is_subset(&has.roots));
                    assert!(grows || shrinks, "a push adds or removes: {has:?} to {view:?}");
                    assert!(view.proves >= has.proves, "no lower sequence: {has:?} to {view:?}");
                }
                next.agent.trust.get_mut(id).unwrap().in_flight = Some(view.clone());
            }
            Push::Leaf(id, leaf) => {
                let newest = &history()[self.step].0;
                for has in self.trust.values() {
                    let has = has.as_ref().expect("trust before leaf");
                    assert!(newest.roots.is_subset(&has.roots), "{leaf:?} handed to {has:?}");
                }
                let secret = next.agent.leaves.get_mut(id).unwrap();
                secret.note(*leaf);
                secret.in_flight = Some(*leaf);
            }
        }
        next
    }

    /// What the world can do: the CA moves on, the holder answers, refuses, applies and loses its stream, or reconnects.
    fn successors(&self, faults: bool) -> Vec<Self> {
        let mut all: Vec<Self> = self.pushes().iter().map(|push| self.pushed(push)).collect();
        if faults && self.step + 1 < self.steps {
            all.push(Self { step: self.step + 1, ..self.clone() });
        }
        for id in self.trust.keys().copied() {
            self.trust_moves(id, faults, &mut all);
        }
        for id in self.leaves.keys().copied() {
            self.leaf_moves(id, faults, &mut all);
        }
        all
    }

    fn trust_moves(&self, id: SubscriptionId, faults: bool, all: &mut Vec<Self>) {
        let secret = &self.agent.trust[&id];
        let with = |change: &dyn Fn(&mut Self)| {
            let mut next = self.clone();
            change(&mut next);
            next
        };
        if let Some(view) = &secret.in_flight {
            all.push(with(&|next| {
                next.trust.insert(id, Some(view.clone()));
                next.agent.trust.get_mut(&id).unwrap().acknowledge();
            }));
            if faults {
                // Applied, and the acknowledgement is lost with the stream; or lost without having been applied.
                all.push(with(&|next| {
                    next.trust.insert(id, Some(view.clone()));
                    next.agent.trust.get_mut(&id).unwrap().detach();
                }));
                all.push(with(&|next| next.agent.trust.get_mut(&id).unwrap().detach()));
                all.push(with(&|next| next.agent.trust.get_mut(&id).unwrap().refuse()));
            }
        }
        if !secret.ready {
            all.push(with(&|next| next.agent.trust.get_mut(&id).unwrap().ready = true));
        }
    }

    fn leaf_moves(&self, id: SubscriptionId, faults: bool, all: &mut Vec<Self>) {
        let secret = &self.agent.leaves[&id];
        let with = |change: &dyn Fn(&mut Self)| {
            let mut next = self.clone();
            change(&mut next);
            next
        };
        if let Some(leaf) = secret.in_flight {
            all.push(with(&|next| {
                next.leaves.insert(id, Some(leaf));
                next.agent.leaves.get_mut(&id).unwrap().acknowledge();
            }));
            if faults {
                all.push(with(&|next| {
                    next.leaves.insert(id, Some(leaf));
                    next.agent.leaves.get_mut(&id).unwrap().detach();
                }));
                all.push(with(&|next| next.agent.leaves.get_mut(&id).unwrap().refuse()));
            }
        }
        if !secret.ready {
            all.push(with(&|next| next.agent.leaves.get_mut(&id).unwrap().ready = true));
        }
    }

    fn check(&self) {
        let newest = &history()[self.step].0;
        for (id, leaf) in &self.leaves {
            let Some(leaf) = leaf else { continue };
            assert!(
                self.agent.leaves[id].may_hold.contains(leaf),
                "an unknown leaf is in use: {self:?}"
            );
            for has in self.trust.values().flatten() {
                assert!(
                    has.roots.contains(&leaf.root),
                    "{leaf:?} is presented by one who trusts {has:?}"
                );
            }
        }
        for (id, secret) in &self.agent.trust {
            if let Some(applied) = &secret.applied {
                let has = self.trust[id].as_ref().unwrap();
                assert!(
                    applied.proves <= has.proves,
                    "evidence that is not true: {applied:?} for {has:?}"
                );
                assert!(applied.proves <= newest.proves);
            }
        }
    }

    fn at_the_end(&self) -> bool {
        let (bundle, leaf) = &history()[self.step];
        let refused = self.agent.trust.values().any(|secret| secret.refused.is_some())
            || self.agent.leaves.values().any(|secret| secret.refused.is_some());
        refused
            || (self.trust.values().all(|has| has.as_ref() == Some(bundle))
                && self.leaves.values().all(|has| *has == Some(*leaf)))
    }
}

fn reachable(start: &World) -> BTreeSet<World> {
    let mut seen = BTreeSet::from([start.clone()]);
    let mut open = vec![start.clone()];
    while let Some(world) = open.pop() {
        world.check();
        for next in world.successors(true) {
            if seen.insert(next.clone()) {
                assert!(seen.len() < 200_000, "more states than expected");
                open.push(next);
            }
        }
    }
    seen
}

/// Explores everything, and lets the holder behave from each state on; returns how many states there are.
fn explore(start: &World) -> usize {
    let all = reachable(start);
    for world in &all {
        let mut world = world.clone();
        for _ in 0..40 {
            match world.successors(false).into_iter().next() {
                Some(next) => world = next,
                None => break,
            }
            world.check();
        }
        assert!(world.successors(false).is_empty() && world.at_the_end(), "stuck: {world:?}");
    }
    all.len()
}

#[test]
fn through_two_rotations_the_order_holds_in_every_state_and_the_holder_gets_to_the_end() {
    let states = explore(&World::start(1, 1, 7));
    assert!(states > 300, "only {states} states: the model lost its faults");
}

#[test]
fn a_second_validation_secret_on_a_stream_of_its_own_changes_nothing_about_the_order() {
    let states = explore(&World::start(2, 1, 3));
    assert!(states > 1_000, "only {states} states: the model lost its faults");
}

#[test]
fn a_second_leaf_on_a_stream_of_its_own_changes_nothing_about_the_order() {
    let states = explore(&World::start(1, 2, 4));
    assert!(states > 1_000, "only {states} states: the model lost its faults");
}

fn one_of_each(applied: Option<TrustView>, held: Option<HeldLeaf>) -> Installed {
    let trust = TrustSubscription { applied, ready: true, ..TrustSubscription::default() };
    let mut secret = empty_leaf();
    secret.may_hold.extend(held);
    secret.installed = held.map(|leaf| leaf.serial);
    Installed {
        trust: BTreeMap::from([(TRUST[0], trust)]),
        leaves: BTreeMap::from([(LEAVES[0], secret)]),
        trust_expected: false,
        unproven: false,
        lost: BTreeSet::new(),
        believes_others: false,
    }
}

fn planned(
    holder: &Installed,
    bundle: &TrustView,
    newest: Option<HeldLeaf>,
    now: i64,
) -> Vec<Push> {
    let known = (1..=3).map(root).collect();
    let leaves = newest.map(|leaf| (identity(), leaf)).into_iter().collect();
    plan(holder, &Target { bundle, known: &known, leaves: &leaves, now: Timestamp::from_secs(now) })
}

#[test]
fn a_holder_that_skipped_sequences_gets_the_union_then_the_leaf_then_the_newest() {
    let mut holder = one_of_each(Some(view(1, &[1])), Some(leaf(1, 1, 1)));
    let (newest, new) = (view(3, &[2]), Some(leaf(2, 2, 3)));
    let union = view(1, &[1, 2]);
    assert_eq!(planned(&holder, &newest, new, 10), [Push::Trust(TRUST[0], union.clone())]);
    holder.trust.get_mut(&TRUST[0]).unwrap().applied = Some(union);
    assert_eq!(planned(&holder, &newest, new, 10), [Push::Leaf(LEAVES[0], new.unwrap())]);
    let secret = holder.leaves.get_mut(&LEAVES[0]).unwrap();
    secret.note(new.unwrap());
    secret.in_flight = new;
    assert_eq!(
        planned(&holder, &newest, new, 10),
        [],
        "the old root stays until the leaf is acknowledged"
    );
    holder.leaves.get_mut(&LEAVES[0]).unwrap().acknowledge();
    assert_eq!(planned(&holder, &newest, new, 10), [Push::Trust(TRUST[0], newest.clone())]);
}

#[test]
fn a_leaf_that_expired_holds_no_root_back() {
    let holder = one_of_each(Some(view(2, &[1, 2])), Some(leaf(1, 1, 1)));
    let newest = view(3, &[2]);
    assert_eq!(planned(&holder, &newest, None, 99), []);
    assert_eq!(planned(&holder, &newest, None, 100), [Push::Trust(TRUST[0], newest.clone())]);
}

#[test]
fn a_leaf_that_expired_or_whose_root_is_gone_is_not_pushed() {
    let holder = one_of_each(Some(view(1, &[1])), None);
    let newest = view(1, &[1]);
    assert_eq!(
        planned(&holder, &newest, Some(leaf(1, 1, 1)), 99),
        [Push::Leaf(LEAVES[0], leaf(1, 1, 1))]
    );
    assert_eq!(planned(&holder, &newest, Some(leaf(1, 1, 1)), 100), []);
    assert_eq!(planned(&holder, &newest, Some(leaf(2, 2, 1)), 10), []);
}

#[test]
fn a_restored_holder_keeps_the_root_of_its_leaf_until_the_leaf_moved() {
    let holder = one_of_each(None, Some(leaf(1, 1, 1)));
    let newest = view(3, &[2]);
    assert_eq!(planned(&holder, &newest, None, 10), [Push::Trust(TRUST[0], view(0, &[1, 2]))]);
}

#[test]
fn a_new_holder_waits_for_its_first_validation_secret_but_not_for_ever() {
    let mut holder = one_of_each(None, None);
    holder.trust.clear();
    holder.trust_expected = true;
    let unpromised = HeldLeaf { promised: false, ..leaf(1, 1, 1) };
    let (newest, new) = (view(1, &[1]), Some(unpromised));
    assert_eq!(planned(&holder, &newest, new, 10), []);
    holder.trust_expected = false;
    assert_eq!(planned(&holder, &newest, new, 10), [Push::Leaf(LEAVES[0], unpromised)]);
}

#[test]
fn a_promised_leaf_never_goes_to_a_holder_that_takes_its_trust_from_elsewhere() {
    let (newest, promised) = (view(1, &[1]), leaf(1, 1, 1));
    let unpromised = HeldLeaf { promised: false, ..promised };
    let mut holder = one_of_each(None, None);
    holder.trust.clear();
    assert!(holder.has_trust_of_its_own());
    assert_eq!(planned(&holder, &newest, Some(promised), 10), []);
    assert_eq!(
        planned(&holder, &newest, Some(unpromised), 10),
        [Push::Leaf(LEAVES[0], unpromised)]
    );
    let mut fetched = one_of_each(Some(newest.clone()), None);
    assert_eq!(planned(&fetched, &newest, Some(promised), 10), [Push::Leaf(LEAVES[0], promised)]);
    fetched.unproven = true;
    assert_eq!(planned(&fetched, &newest, Some(promised), 10), []);
    assert_eq!(
        planned(&fetched, &newest, Some(unpromised), 10),
        [Push::Leaf(LEAVES[0], unpromised)]
    );
}

#[test]
fn one_validation_secret_that_lags_or_refuses_holds_the_leaf_back() {
    let mut holder = one_of_each(Some(view(2, &[1, 2])), Some(leaf(1, 1, 1)));
    let late = TrustSubscription { applied: Some(view(1, &[1])), ..TrustSubscription::default() };
    holder.trust.insert(TRUST[1], late);
    let (newest, new) = (view(2, &[1, 2]), Some(leaf(2, 2, 2)));
    assert_eq!(planned(&holder, &newest, new, 10), []);
    let secret = holder.trust.get_mut(&TRUST[1]).unwrap();
    secret.in_flight = Some(newest.clone());
    secret.refuse();
    secret.ready = true;
    assert_eq!(planned(&holder, &newest, new, 10), [], "neither the leaf nor what was refused");
    let after = view(3, &[2]);
    let union = view(1, &[1, 2]);
    assert_eq!(
        planned(&holder, &after, new, 10),
        [Push::Trust(TRUST[1], union)],
        "the next change is offered"
    );
}
