//! What the agent may claim about its holders. Pure: the CA opens gates on these claims.

use std::collections::{BTreeMap, BTreeSet};

use proto::banyan::agent::v1 as wire;
use trust::{Sequence, Serial, SpiffeId};

use crate::counted::Counted;
use crate::holders::Holder;
use crate::install::HeldLeaf;
use crate::probed::Seen;

/// Everything that the CA should know, as a level: after a reconnect all of it is said again.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Evidence {
    /// Sequence and digest of the bundle in force.
    pub(crate) bundle: Option<(Sequence, Vec<u8>)>,
    /// Serials of leaves that somebody may still present, or that wait here with their keys.
    pub(crate) held: BTreeSet<Serial>,
    /// What the holders of each leaf have applied.
    pub(crate) applied: BTreeMap<Serial, Applied>,
    /// What was seen at the listeners of the holders of each leaf.
    pub(crate) probed: BTreeMap<Serial, Seen>,
    /// What Envoys count of handshakes. No evidence: it opens no gate.
    pub(crate) counted: BTreeMap<SpiffeId, Counted>,
    /// Where holders listen. No evidence either.
    pub(crate) listeners: Vec<wire::Listener>,
    /// The number of the revocation lists that the holders of each leaf have. It opens no gate.
    pub(crate) lists: BTreeMap<Serial, u64>,
    /// Serials whose keys are gone.
    pub(crate) released: BTreeSet<Serial>,
    /// What is refused now: by the holder of a leaf, or by this agent.
    pub(crate) refusing: Vec<(Option<Serial>, String)>,
    /// Refusals, numbered.
    pub(crate) nacks: Vec<(u64, wire::Nack)>,
    pub(crate) health: wire::Health,
}

/// A claim about one leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) sequence: Sequence,
    pub(crate) class: wire::EvidenceClass,
}

/// What all holders of each leaf have applied; the weakest of them counts.
///
/// A holder without validation secret takes its trust from elsewhere, and proves nothing. A leaf that was promised to
/// trusting holders and that nobody holds goes only to one that has the newest bundle: that is as good as applied.
pub(crate) fn applied<'a>(
    holders: impl Iterator<Item = &'a Holder>,
    waiting: impl Iterator<Item = HeldLeaf>,
    newest: Sequence,
) -> BTreeMap<Serial, Applied> {
    let mut weakest: BTreeMap<Serial, Option<Applied>> = BTreeMap::new();
    for holder in holders {
        for leaf in holder.may_hold() {
            let claim = applied_by(holder, newest).map(Applied::by_ack);
            weakest
                .entry(leaf.serial)
                .and_modify(|known| *known = weaker(*known, claim))
                .or_insert(claim);
        }
    }
    for leaf in waiting.filter(|leaf| leaf.promised && newest > Sequence(0)) {
        weakest.entry(leaf.serial).or_insert(Some(Applied::by_ack(newest)));
    }
    weakest.into_iter().filter_map(|(serial, claim)| Some((serial, claim?))).collect()
}

/// Sequence that a holder has applied on every validation secret; `None` if it proves nothing, such as while one of them
/// stays away: the others say nothing about that one. One that believes other trust domains alone needs no root of ours.
pub(crate) fn applied_by(holder: &Holder, newest: Sequence) -> Option<Sequence> {
    if holder.installed.unproven || !holder.installed.lost.is_empty() {
        return None;
    }
    if holder.installed.trust.is_empty() && holder.installed.believes_others {
        return Some(newest).filter(|newest| *newest > Sequence(0));
    }
    let secrets = holder.installed.trust.values();
    let sequences =
        secrets.map(|secret| secret.applied.as_ref().map_or(Sequence(0), |view| view.proves));
    sequences.min().filter(|sequence| *sequence > Sequence(0))
}

impl Applied {
    /// By acknowledgements on every validation secret.
    pub(crate) const fn by_ack(sequence: Sequence) -> Self {
        Self { sequence, class: wire::EvidenceClass::Applied }
    }
}

fn weaker(a: Option<Applied>, b: Option<Applied>) -> Option<Applied> {
    let (a, b) = (a?, b?);
    Some(if (a.class as i32, a.sequence) <= (b.class as i32, b.sequence) { a } else { b })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::{SubscriptionId, TrustView};
    use crate::secret_name::{SecretKind, SecretName};
    use std::time::Duration;
    use trust::{RootId, SpiffeId, Timestamp};

    fn leaf(number: u8) -> HeldLeaf {
        HeldLeaf {
            serial: Serial::from_bytes(&[0x40 + number; 16]).unwrap(),
            root: RootId::of(b"root"),
            not_after: Timestamp::from_secs(9),
            born: Sequence(1),
            promised: true,
        }
    }

    fn holder(leaves: &[u8], applied: &[Option<u64>]) -> Holder {
        let mut holder = Holder::new(1, Duration::ZERO);
        holder.installed.trust_expected = false;
        let identity = SpiffeId::parse("spiffe://example.org/a").unwrap();
        let name = |kind| SecretName { text: "x".to_owned(), kind };
        holder.subscribe(SubscriptionId(0), name(SecretKind::Leaf(identity)), Duration::ZERO);
        for number in leaves {
            holder.installed.leaves.get_mut(&SubscriptionId(0)).unwrap().note(leaf(*number));
        }
        for (id, sequence) in (1..).zip(applied) {
            holder.subscribe(SubscriptionId(id), name(SecretKind::Roots), Duration::ZERO);
            let view =
                |sequence: u64| TrustView { proves: Sequence(sequence), roots: BTreeSet::new() };
            holder.installed.trust.get_mut(&SubscriptionId(id)).unwrap().applied =
                sequence.map(view);
        }
        holder
    }

    fn claims(holders: &[Holder]) -> Vec<(u8, u64, wire::EvidenceClass)> {
        let one = |(serial, claim): (Serial, Applied)| {
            (serial.as_bytes()[0] - 0x40, claim.sequence.0, claim.class)
        };
        applied(holders.iter(), std::iter::empty(), Sequence(9)).into_iter().map(one).collect()
    }

    use wire::EvidenceClass::Applied as Proven;

    #[test]
    fn the_last_validation_secret_of_the_last_holder_counts() {
        assert_eq!(claims(&[holder(&[1], &[Some(5), Some(3)])]), [(1, 3, Proven)]);
        assert_eq!(claims(&[holder(&[1], &[Some(5), None])]), []);
        assert_eq!(
            claims(&[holder(&[1, 2], &[Some(5)]), holder(&[2], &[Some(4)])]),
            [(1, 5, Proven), (2, 4, Proven)]
        );
        assert_eq!(claims(&[holder(&[1], &[Some(5)]), holder(&[1], &[None])]), []);
    }

    #[test]
    fn a_holder_without_validation_secret_proves_nothing_and_takes_the_others_word_away() {
        assert_eq!(claims(&[holder(&[1], &[])]), []);
        assert_eq!(claims(&[holder(&[1], &[Some(7)]), holder(&[1], &[])]), []);
        let mut fetched = holder(&[1], &[Some(7)]);
        fetched.installed.unproven = true;
        assert_eq!(claims(&[fetched]), []);
    }

    #[test]
    fn a_promised_leaf_that_nobody_holds_is_as_good_as_applied_and_no_other_is() {
        let waiting = [leaf(1), leaf(2), HeldLeaf { promised: false, ..leaf(3) }];
        let holders = [holder(&[2], &[None])];
        let claims = applied(holders.iter(), waiting.into_iter(), Sequence(9));
        assert_eq!(claims, BTreeMap::from([(leaf(1).serial, Applied::by_ack(Sequence(9)))]));
        let before_first_contact = applied([].iter(), waiting.into_iter(), Sequence(0));
        assert!(before_first_contact.is_empty());
    }

    #[test]
    fn a_validation_secret_that_stays_away_is_not_answered_for_by_the_others() {
        let mut away = holder(&[1], &[Some(7), Some(7)]);
        assert_eq!(claims(&[away]), [(1, 7, Proven)]);
        away = holder(&[1], &[Some(8), Some(7)]);
        away.lose(SubscriptionId(2));
        assert_eq!(claims(&[away]), []);
    }

    #[test]
    fn a_union_that_proves_nothing_is_not_claimed() {
        assert_eq!(claims(&[holder(&[1], &[Some(0)])]), []);
    }
}
