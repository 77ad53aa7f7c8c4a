//! How a bound is shared among user ids, or among Pods: nobody can take the last place of another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::pods::PodUid;

/// Whose share something is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// Of a user id.
    User(u32),
    /// Of a Pod, whatever the user ids in it are.
    Pod(PodUid),
}

/// A bound of things that their owners take, such as connections. Every user id with a workload, or every Pod of the node, has a
/// share that others cannot take: half of the bound, divided among them. What is left goes to whoever comes first.
#[derive(Debug, Clone)]
pub(crate) struct Shares {
    most: usize,
    entitled: BTreeSet<Owner>,
    /// Nobody is counted apart.
    is_anybodys: bool,
}

impl Shares {
    pub(crate) fn new(most: usize, entitled: impl Iterator<Item = Owner>) -> Self {
        Self { most, entitled: entitled.collect(), is_anybodys: false }
    }

    /// A bound that goes to whoever comes first.
    pub(crate) const fn of_anybody(most: usize) -> Self {
        Self { most, entitled: BTreeSet::new(), is_anybodys: true }
    }

    pub(crate) fn is_entitled(&self, owner: &Owner) -> bool {
        self.is_anybodys || self.entitled.contains(owner)
    }

    /// The same bound, with a share for this one too.
    pub(crate) fn with(mut self, owner: Owner) -> Self {
        self.entitled.insert(owner);
        self
    }

    /// How many of them one is sure to get.
    pub(crate) fn sure(&self) -> usize {
        (self.most / (2 * self.entitled.len().max(1))).max(1)
    }

    /// Whether one more may go to this one, given what each has.
    pub(crate) fn admit(&self, owner: &Owner, taken: &BTreeMap<Owner, usize>) -> bool {
        let has = |owner: &Owner| taken.get(owner).copied().unwrap_or_default();
        let free = self.most.saturating_sub(taken.values().sum());
        if !self.is_entitled(owner) || free == 0 {
            return false;
        }
        let others = self.entitled.iter().filter(|other| *other != owner);
        let owed: usize = others.map(|other| self.sure().saturating_sub(has(other))).sum();
        has(owner) < self.sure() || free > owed
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "user id {uid}"),
            Self::Pod(uid) => write!(f, "Pod {uid}"),
        }
    }
}

/// Counts things by whose they are.
pub(crate) fn counted(owners: impl Iterator<Item = Owner>) -> BTreeMap<Owner, usize> {
    owners.fold(BTreeMap::new(), |mut counts, owner| {
        *counts.entry(owner).or_default() += 1;
        counts
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(uids: impl IntoIterator<Item = u32>) -> impl Iterator<Item = Owner> {
        uids.into_iter().map(Owner::User)
    }

    fn take_all(shares: &Shares, uid: u32, taken: &mut BTreeMap<Owner, usize>) -> usize {
        let uid = Owner::User(uid);
        let before = taken.get(&uid).copied().unwrap_or_default();
        while shares.admit(&uid, taken) {
            *taken.entry(uid.clone()).or_default() += 1;
        }
        taken.get(&uid).copied().unwrap_or_default() - before
    }

    #[test]
    fn nobody_takes_the_share_of_others_and_nothing_lies_idle() {
        let shares = Shares::new(64, users([1, 2, 3, 4]));
        let mut taken = BTreeMap::new();
        assert_eq!(take_all(&shares, 1, &mut taken), 64 - 3 * 8);
        for other in [2, 3, 4] {
            assert_eq!(take_all(&shares, other, &mut taken), 8);
        }
        assert_eq!(take_all(&shares, 9, &mut taken), 0, "who has no workload has no share");
        let alone = Shares::new(64, users([1]));
        assert_eq!(take_all(&alone, 1, &mut BTreeMap::new()), 64);
        assert_eq!(take_all(&Shares::of_anybody(64), 9, &mut BTreeMap::new()), 64);
    }

    #[test]
    fn the_bound_holds_even_with_more_user_ids_than_places() {
        let shares = Shares::new(3, users(0..10));
        let mut taken = BTreeMap::new();
        let all: usize = (0..10).map(|uid| take_all(&shares, uid, &mut taken)).sum();
        assert_eq!(all, 3);
    }
}
