//! The order in which one holder gets trust and leaves. Pure: given what a holder has and what it should have,
//! [`plan`] says what may be pushed next.
//!
//! A holder is one process; it may use several validation secrets and several leaves, each on a stream of its own, so
//! nothing that is pushed to it is atomic. The rules:
//!
//! 1. **Adding trust**: bundle first, acknowledged on EVERY validation secret of the holder, then the leaf.
//! 2. **Removing trust**: leaf first, acknowledged, then the bundle: no root goes while a live leaf that the holder
//!    may present chains to it.
//! 3. **Sequences skipped**: the union of what the holder has and the newest, then the leaf, then the newest. One push
//!    either only adds or only removes.
//! 4. A leaf is handed over only to a holder that trusts all of the newest bundle on every validation secret it has. A
//!    leaf that was promised to such holders only never goes to one that takes its trust from elsewhere: the CA counts on
//!    the promise.
//! 5. One push at a time per secret: until it is acknowledged the holder may have the former or the new one, and both
//!    are reckoned with.

use std::collections::{BTreeMap, BTreeSet};

use trust::{RootId, Sequence, Serial, SpiffeId, Timestamp};

/// Roots that a validation secret holds, and the bundle sequence that trusting them proves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TrustView {
    /// Who applied these roots has applied the bundle of this sequence. A union proves only the older one.
    pub(crate) proves: Sequence,
    /// The roots.
    pub(crate) roots: BTreeSet<RootId>,
}

/// What must be known of a leaf that a holder may present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HeldLeaf {
    pub(crate) serial: Serial,
    /// The root that its chain ends in.
    pub(crate) root: RootId,
    pub(crate) not_after: Timestamp,
    /// Sequence of the bundle that came with it.
    pub(crate) born: Sequence,
    /// Whether the CA has this agent's word that it goes only to holders that acknowledged that bundle.
    pub(crate) promised: bool,
}

/// One validation secret of a holder.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TrustSubscription {
    /// What the holder surely has, by its acknowledgement.
    pub(crate) applied: Option<TrustView>,
    /// Pushed and not answered yet.
    pub(crate) in_flight: Option<TrustView>,
    /// What the holder refused; it is offered something else first.
    pub(crate) refused: Option<TrustView>,
    /// What the last push carried of other trust domains; only of a secret that has all of them.
    pub(crate) others: Option<RootId>,
    /// The number of the revocation lists that the holder surely has; 0 for none.
    pub(crate) lists: u64,
    /// The same of what was pushed and not answered yet.
    pub(crate) lists_in_flight: u64,
    /// Lists that the holder refused; it gets the roots without them.
    pub(crate) lists_refused: Option<u64>,
    /// Whether something can be pushed now: there is a stream, and it waits for nothing.
    pub(crate) ready: bool,
}

/// One certificate secret of a holder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeafSubscription {
    pub(crate) identity: SpiffeId,
    /// Every leaf that the holder may present here. Each entry is durable before its leaf is pushed.
    pub(crate) may_hold: Vec<HeldLeaf>,
    /// The leaf that the holder acknowledged on its present stream.
    pub(crate) installed: Option<Serial>,
    /// Pushed and not answered yet.
    pub(crate) in_flight: Option<HeldLeaf>,
    /// The leaf that the holder refused; it is offered the next one.
    pub(crate) refused: Option<Serial>,
    /// What became of taking a revoked leaf away, where no other takes its place.
    pub(crate) taking: Taking,
    /// Whether something can be pushed now.
    pub(crate) ready: bool,
}

/// How a holder's leaf is taken away: a certificate that nobody believes takes its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Taking {
    /// Nothing is to be taken away, or nothing was tried.
    #[default]
    No,
    /// Pushed and not answered yet.
    InFlight,
    /// The holder refused it, and keeps its leaf.
    Refused,
}

/// Number of a subscription, unique in an agent's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SubscriptionId(pub(crate) u64);

/// All that one holder subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Installed {
    pub(crate) trust: BTreeMap<SubscriptionId, TrustSubscription>,
    pub(crate) leaves: BTreeMap<SubscriptionId, LeafSubscription>,
    /// It has validation secrets of other trust domains. If it has no others, it believes nobody of ours.
    pub(crate) believes_others: bool,
    /// The holder is so new that its first validation secret may still come; a leaf waits for it.
    pub(crate) trust_expected: bool,
    /// It fetched a secret without a stream, so nothing tells what it applied.
    pub(crate) unproven: bool,
    /// Names of validation secrets that stay away while the holder has others up: it may go on with what it had of them.
    pub(crate) lost: BTreeSet<String>,
}

/// What every holder should come to.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    /// The newest bundle.
    pub(crate) bundle: &'a TrustView,
    /// Roots whose certificates are at hand; only these can be in a union.
    pub(crate) known: &'a BTreeSet<RootId>,
    /// The newest leaf of each identity.
    pub(crate) leaves: &'a BTreeMap<SpiffeId, HeldLeaf>,
    pub(crate) now: Timestamp,
}

/// One push that is in order now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Push {
    /// Push these roots.
    Trust(SubscriptionId, TrustView),
    /// Push this leaf.
    Leaf(SubscriptionId, HeldLeaf),
}

/// What may be pushed to a holder now; empty when it has everything or must first answer.
pub(crate) fn plan(holder: &Installed, target: &Target<'_>) -> Vec<Push> {
    let held = holder.live_roots(target.now);
    let trust = holder.trust.iter().filter_map(|(id, secret)| {
        let view =
            secret.next(target, &held).filter(|_| secret.ready && secret.in_flight.is_none())?;
        (secret.refused.as_ref() != Some(&view)).then_some(Push::Trust(*id, view))
    });
    let leaves = holder.leaves.iter().filter_map(|(id, secret)| {
        let leaf = secret.next(target).filter(|_| secret.ready)?;
        holder.may_have(&leaf, target.bundle).then_some(Push::Leaf(*id, leaf))
    });
    trust.chain(leaves).collect()
}

impl TrustView {
    fn union(&self, roots: &BTreeSet<RootId>, proves: Sequence) -> Self {
        Self { proves, roots: self.roots.union(roots).copied().collect() }
    }
}

impl TrustSubscription {
    /// Roots that the holder trusts whatever became of the push in flight.
    fn surely(&self) -> Option<BTreeSet<RootId>> {
        let applied = &self.applied.as_ref()?.roots;
        Some(match &self.in_flight {
            Some(pushed) => applied.intersection(&pushed.roots).copied().collect(),
            None => applied.clone(),
        })
    }

    fn next(&self, target: &Target<'_>, held: &BTreeSet<RootId>) -> Option<TrustView> {
        let newest = target.bundle;
        let leaves_moved = held.is_subset(&newest.roots);
        let Some(applied) = &self.applied else {
            // Nothing is known of what it has: keep what its leaves chain to, as far as we still have it.
            let kept: BTreeSet<RootId> = held.intersection(target.known).copied().collect();
            return Some(match kept.is_subset(&newest.roots) {
                true => newest.clone(),
                false => newest.union(&kept, Sequence(0)),
            });
        };
        if applied == newest {
            return None;
        }
        let (grows, shrinks) =
            (applied.roots.is_subset(&newest.roots), newest.roots.is_subset(&applied.roots));
        match (grows, shrinks) {
            (true, _) => Some(newest.clone()),
            (false, true) => leaves_moved.then(|| newest.clone()),
            (false, false) => {
                let kept = applied.roots.intersection(target.known).copied().collect();
                Some(newest.union(&kept, applied.proves))
            }
        }
    }

    /// The stream is gone: what was in flight may or may not have been applied.
    pub(crate) fn detach(&mut self) {
        if let (Some(roots), Some(applied)) = (self.surely(), &mut self.applied) {
            applied.roots = roots;
        }
        self.in_flight = None;
        self.lists = 0;
        self.ready = false;
    }

    /// The holder applied what was in flight.
    pub(crate) fn acknowledge(&mut self) {
        if let Some(view) = self.in_flight.take() {
            self.applied = Some(view);
            self.refused = None;
            self.lists = self.lists_in_flight;
        }
    }

    /// The holder refused what was in flight, and keeps what it has.
    pub(crate) fn refuse(&mut self) {
        let refused = self.in_flight.take();
        match self.lists_in_flight {
            0 => self.refused = refused,
            // Perhaps it was the lists: the roots are what matters, so they are tried without.
            number => self.lists_refused = Some(number),
        }
    }
}

impl LeafSubscription {
    fn next(&self, target: &Target<'_>) -> Option<HeldLeaf> {
        let leaf = target.leaves.get(&self.identity)?;
        let usable = leaf.not_after > target.now && target.bundle.roots.contains(&leaf.root);
        let news = self.installed != Some(leaf.serial) && self.refused != Some(leaf.serial);
        let is_free = self.in_flight.is_none() && self.taking != Taking::InFlight;
        (usable && news && is_free).then_some(*leaf)
    }

    /// The stream is gone: the holder goes on with any leaf that it was given.
    pub(crate) fn detach(&mut self) {
        self.in_flight = None;
        self.installed = None;
        self.taking = Taking::No;
        self.ready = false;
    }

    /// Notes a leaf as handed over; done, and made durable, before it is.
    pub(crate) fn note(&mut self, leaf: HeldLeaf) {
        if !self.may_hold.contains(&leaf) {
            self.may_hold.push(leaf);
        }
    }

    /// The holder applied what was in flight, and presents nothing older from now on.
    pub(crate) fn acknowledge(&mut self) {
        if self.taking == Taking::InFlight {
            // It presents nothing of ours any more.
            (self.taking, self.installed) = (Taking::No, None);
            self.may_hold.clear();
        }
        if let Some(leaf) = self.in_flight.take() {
            self.installed = Some(leaf.serial);
            self.refused = None;
            self.may_hold = vec![leaf];
        }
    }

    /// The holder refused what was in flight, and goes on with what it has.
    ///
    /// The refused leaf stays in the account until another is acknowledged: it may be one that the holder took on a
    /// former stream, whose acknowledgement was lost.
    pub(crate) fn refuse(&mut self) {
        if self.taking == Taking::InFlight {
            self.taking = Taking::Refused;
        }
        if let Some(leaf) = self.in_flight.take() {
            self.refused = Some(leaf.serial);
        }
    }
}

impl Installed {
    /// Whether the holder takes its trust from elsewhere than from this agent, as far as can be seen.
    pub(crate) fn has_trust_of_its_own(&self) -> bool {
        self.unproven || !self.lost.is_empty() || !self.validates_here()
    }

    /// Whether it has validation secrets here, or still may come to have some. One that has those of other trust domains alone
    /// believes nobody of ours, and so has all of our bundle that it needs.
    fn validates_here(&self) -> bool {
        !self.trust.is_empty() || self.believes_others || self.trust_expected
    }

    /// Whether a leaf may be handed to this holder while this bundle is the newest.
    pub(crate) fn may_have(&self, leaf: &HeldLeaf, newest: &TrustView) -> bool {
        let applied = |secret: &TrustSubscription| {
            secret.surely().is_some_and(|roots| newest.roots.is_subset(&roots))
        };
        let known = !self.trust.is_empty() || self.believes_others || !self.trust_expected;
        let kept = !(leaf.promised && self.has_trust_of_its_own());
        known && kept && self.trust.values().all(applied)
    }

    fn live_roots(&self, now: Timestamp) -> BTreeSet<RootId> {
        let held = self.leaves.values().flat_map(|secret| &secret.may_hold);
        held.filter(|leaf| leaf.not_after > now).map(|leaf| leaf.root).collect()
    }
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
