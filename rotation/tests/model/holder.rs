//! One holder as its agent sees it: the agent's own code says what is pushed, and what an answer means.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use trust::SpiffeId;

use crate::entities::{Bundle, Leaf, Root, row_of};
use crate::fingerprint::Fingerprints;
use crate::install::{
    Installed, LeafSubscription, Push, SubscriptionId, Target, TrustSubscription, TrustView, plan,
};
use crate::kept::Kept;
use crate::mesh::Without;
use crate::words::at;

/// Subscriptions: the validation secrets, then the leaf.
pub(crate) const TRUST: [SubscriptionId; 2] = [SubscriptionId(0), SubscriptionId(1)];
pub(crate) const LEAF: SubscriptionId = SubscriptionId(2);

/// What may happen to a holder in the eyes of its agent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Change {
    /// Everything that is in order is pushed.
    Push {
        newest: Bundle,
        leaf: Option<Leaf>,
        tick: i64,
        without: Without,
    },
    Acknowledged(usize),
    /// What one secret acknowledged is taken for the word of all of them.
    AcknowledgedByOne(usize),
    Refused(usize),
    Lost(usize),
    /// The stream is back, and the holder says which bundle it has, if it is one.
    Back(usize, Option<Bundle>),
    /// The stream stayed away while that of the leaf is up.
    Forgotten(usize),
    LeafAcknowledged,
    LeafRefused,
    LeafLost,
    LeafBack,
    /// The agent starts, and reads what its account says.
    Restored,
}

type Changes = HashMap<(Kept<Installed>, Change), Kept<Installed>, Fingerprints>;

thread_local! {
    static KNOWN: RefCell<Changes> = RefCell::default();
}

/// The holder after a change.
pub(crate) fn after(holder: Kept<Installed>, change: Change) -> Kept<Installed> {
    if let Some(known) = KNOWN.with_borrow(|known| known.get(&(holder, change)).copied()) {
        return known;
    }
    let mut next = Installed::clone(&holder);
    changed(&mut next, change);
    let next = Kept::holder(next);
    KNOWN.with_borrow_mut(|known| known.insert((holder, change), next));
    next
}

fn changed(holder: &mut Installed, change: Change) {
    match change {
        Change::Push { newest, leaf, tick, without } => push(holder, newest, leaf, tick, without),
        Change::Acknowledged(secret) => answered(holder, secret, TrustSubscription::acknowledge),
        Change::AcknowledgedByOne(secret) => {
            let word = holder.trust[&TRUST[secret]].in_flight.clone();
            answered(holder, secret, TrustSubscription::acknowledge);
            holder.trust.values_mut().for_each(|other| {
                *other = TrustSubscription {
                    applied: word.clone(),
                    ready: true,
                    ..TrustSubscription::default()
                };
            });
        }
        Change::Refused(secret) => answered(holder, secret, TrustSubscription::refuse),
        Change::Lost(secret) => holder.trust.get_mut(&TRUST[secret]).unwrap().detach(),
        Change::Back(secret, word) => {
            let known = holder.trust.entry(TRUST[secret]).or_default();
            known.applied = word.map(Bundle::view);
            known.refused = None;
            known.ready = true;
        }
        Change::Forgotten(secret) => {
            holder.trust.remove(&TRUST[secret]);
        }
        Change::LeafAcknowledged => leaf_answered(holder, LeafSubscription::acknowledge),
        Change::LeafRefused => leaf_answered(holder, LeafSubscription::refuse),
        Change::LeafLost => holder.leaves.get_mut(&LEAF).unwrap().detach(),
        Change::LeafBack => {
            let leaf = holder.leaves.get_mut(&LEAF).unwrap();
            leaf.refused = None;
            leaf.ready = true;
        }
        Change::Restored => {
            holder.trust.values_mut().for_each(|secret| *secret = TrustSubscription::default());
            holder.leaves.values_mut().for_each(|leaf| {
                leaf.detach();
                leaf.refused = None;
            });
        }
    }
}

fn answered(holder: &mut Installed, secret: usize, answer: fn(&mut TrustSubscription)) {
    let secret = holder.trust.get_mut(&TRUST[secret]).unwrap();
    answer(secret);
    secret.ready = true;
}

fn leaf_answered(holder: &mut Installed, answer: fn(&mut LeafSubscription)) {
    let leaf = holder.leaves.get_mut(&LEAF).unwrap();
    answer(leaf);
    leaf.ready = true;
}

/// What the agent's hub does with the plan: each secret has a stream of its own and waits for its answer.
fn push(holder: &mut Installed, newest: Bundle, leaf: Option<Leaf>, tick: i64, without: Without) {
    let view = newest.view();
    let known = BTreeSet::from([Root::A.id(), Root::B.id(), Root::S.id()]);
    let leaf = leaf.map(|leaf| match without {
        // The agent has forgotten what it said.
        Without::Promise => Leaf { promised: false, ..leaf },
        _ => leaf,
    });
    let leaves: BTreeMap<_, _> = leaf.map(|leaf| (identity(), leaf.held())).into_iter().collect();
    let target = Target { bundle: &view, known: &known, leaves: &leaves, now: at(tick) };
    let mut pushes = plan(holder, &target);
    if without == Without::BundleBeforeLeaf {
        let waits = &holder.leaves[&LEAF];
        let news =
            leaf.map(Leaf::held).filter(|leaf| waits.installed != Some(leaf.serial) && waits.ready);
        pushes.extend(news.map(|leaf| Push::Leaf(LEAF, leaf)));
    }
    for push in pushes {
        match push {
            Push::Trust(id, mut wanted) => {
                if without == Without::Union && wanted.roots.is_superset(&view.roots) {
                    wanted = view.clone();
                }
                let secret = holder.trust.get_mut(&id).unwrap();
                secret.in_flight = Some(wanted);
                secret.ready = false;
            }
            Push::Leaf(id, wanted) => {
                let leaf = holder.leaves.get_mut(&id).unwrap();
                leaf.note(wanted);
                leaf.in_flight = Some(wanted);
                leaf.ready = false;
            }
        }
    }
}

/// The bundle that every validation secret has acknowledged; `None` if one has not said a word, or there is none.
pub(crate) fn proven(holder: &Installed) -> Option<u8> {
    let proves = |secret: &TrustSubscription| {
        secret.applied.as_ref().map_or(0, |view: &TrustView| view.proves.0)
    };
    let least = holder.trust.values().map(proves).min()?;
    u8::try_from(least).ok().filter(|least| *least > 0)
}

/// Whether the account names the leaf with this row.
pub(crate) fn knows(holder: &Installed, row: usize) -> bool {
    let leaf = &holder.leaves[&LEAF];
    let held = leaf.may_hold.iter().chain(&leaf.in_flight).map(|leaf| leaf.serial);
    let mut serials = held.chain(leaf.installed).chain(leaf.refused);
    serials.any(|serial| usize::from(row_of(&serial)) == row)
}

/// A holder whose validation secrets all have this bundle, and which may present this leaf.
pub(crate) fn start(secrets: usize, has: Bundle, leaf: Option<Leaf>) -> Installed {
    let secret = TrustSubscription {
        applied: Some(has.view()),
        ready: true,
        ..TrustSubscription::default()
    };
    let leaf = leaf.map(Leaf::held);
    let subscription = LeafSubscription {
        identity: identity(),
        may_hold: leaf.into_iter().collect(),
        installed: leaf.map(|leaf| leaf.serial),
        in_flight: None,
        refused: None,
        taking: Default::default(),
        ready: true,
    };
    Installed {
        trust: TRUST[..secrets].iter().map(|id| (*id, secret.clone())).collect(),
        leaves: BTreeMap::from([(LEAF, subscription)]),
        trust_expected: false,
        unproven: false,
        lost: BTreeSet::new(),
        believes_others: false,
    }
}

/// What is in flight to a validation secret.
pub(crate) fn in_flight(holder: &Installed, secret: usize) -> Option<&TrustView> {
    holder.trust.get(&TRUST[secret])?.in_flight.as_ref()
}

fn identity() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/a").unwrap()
}
