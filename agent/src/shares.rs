//! How a bound is shared among user ids: nobody can take the last place of another.

use std::collections::{BTreeMap, BTreeSet};

/// A bound of things that user ids take, such as connections. Every user id with a workload has a share that others cannot
/// take: half of the bound, divided among them. What is left goes to whoever comes first.
#[derive(Debug, Clone)]
pub(crate) struct Shares {
    most: usize,
    entitled: BTreeSet<u32>,
    /// Nobody is counted apart.
    is_anybodys: bool,
}

impl Shares {
    pub(crate) fn new(most: usize, entitled: impl Iterator<Item = u32>) -> Self {
        Self { most, entitled: entitled.collect(), is_anybodys: false }
    }

    /// A bound that goes to whoever comes first.
    pub(crate) const fn of_anybody(most: usize) -> Self {
        Self { most, entitled: BTreeSet::new(), is_anybodys: true }
    }

    pub(crate) fn is_entitled(&self, uid: u32) -> bool {
        self.is_anybodys || self.entitled.contains(&uid)
    }

    /// How many of them a user id is sure to get.
    pub(crate) fn sure(&self) -> usize {
        (self.most / (2 * self.entitled.len().max(1))).max(1)
    }

    /// Whether one more may go to this user id, given what each has.
    pub(crate) fn admit(&self, uid: u32, taken: &BTreeMap<u32, usize>) -> bool {
        let has = |uid: &u32| taken.get(uid).copied().unwrap_or_default();
        let free = self.most.saturating_sub(taken.values().sum());
        if !self.is_entitled(uid) || free == 0 {
            return false;
        }
        let others = self.entitled.iter().filter(|other| **other != uid);
        let owed: usize = others.map(|other| self.sure().saturating_sub(has(other))).sum();
        has(&uid) < self.sure() || free > owed
    }
}

/// Counts things by user id.
pub(crate) fn counted(uids: impl Iterator<Item = u32>) -> BTreeMap<u32, usize> {
    uids.fold(BTreeMap::new(), |mut counts, uid| {
        *counts.entry(uid).or_default() += 1;
        counts
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(shares: &Shares, uid: u32, taken: &mut BTreeMap<u32, usize>) -> usize {
        let before = taken.get(&uid).copied().unwrap_or_default();
        while shares.admit(uid, taken) {
            *taken.entry(uid).or_default() += 1;
        }
        taken.get(&uid).copied().unwrap_or_default() - before
    }

    #[test]
    fn nobody_takes_the_share_of_others_and_nothing_lies_idle() {
        let shares = Shares::new(64, [1, 2, 3, 4].into_iter());
        let mut taken = BTreeMap::new();
        assert_eq!(take_all(&shares, 1, &mut taken), 64 - 3 * 8);
        for other in [2, 3, 4] {
            assert_eq!(take_all(&shares, other, &mut taken), 8);
        }
        assert_eq!(take_all(&shares, 9, &mut taken), 0, "who has no workload has no share");
        let alone = Shares::new(64, [1].into_iter());
        assert_eq!(take_all(&alone, 1, &mut BTreeMap::new()), 64);
        assert_eq!(take_all(&Shares::of_anybody(64), 9, &mut BTreeMap::new()), 64);
    }

    #[test]
    fn the_bound_holds_even_with_more_user_ids_than_places() {
        let shares = Shares::new(3, 0..10);
        let mut taken = BTreeMap::new();
        let all: usize = (0..10).map(|uid| take_all(&shares, uid, &mut taken)).sum();
        assert_eq!(all, 3);
    }
}
