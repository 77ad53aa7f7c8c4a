//! Counts over the rows that still hold gates closed, kept up to date with every change.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use trust::{Cover, RootId, Sequence, SpiffeId, Timestamp};

use crate::row::{Applied, EvidenceClass, LiveRow, Probe, RowKind};
use crate::store::Number;

/// What gates tell rows apart by. Few differ at a time: roots and sequences change with rotations, not with leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Standing {
    /// The root that the leaves chain to.
    pub root: RootId,
    /// Who holds them.
    pub kind: RowKind,
    /// Sequence of the bundle they were born under.
    pub born: Sequence,
    /// The sequences that their holders are known to have applied, by class of evidence.
    pub applied: Applied,
    /// Whether a holder takes its trust from elsewhere than from its agent.
    pub own_trust: bool,
    /// Whether an operator said by name that the trust of its holders is not waited for.
    pub waived: bool,
    /// What its agent says of its holders' listeners, if it shakes hands with them.
    pub listening: Option<Probe>,
}

/// What a gate asks of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Required {
    /// The weakest class of evidence that it takes.
    pub class: EvidenceClass,
    /// Whether it asks besides that holders with a listener were seen to verify the root that shall sign, as far as they can be
    /// probed.
    pub probe: bool,
}

impl From<EvidenceClass> for Required {
    fn from(class: EvidenceClass) -> Self {
        Self { class, probe: false }
    }
}

impl Standing {
    /// Where a row stands of which no operator said anything.
    #[must_use]
    pub fn of(live: &LiveRow) -> Self {
        let row = &live.row;
        let (root, kind, born, own_trust) = (row.root, row.kind, row.born, live.is_own_trust());
        let listening = live.is_listening().then_some(live.evidence.probe);
        let applied = live.evidence.applied;
        Self { root, kind, born, applied, own_trust, waived: false, listening }
    }

    /// Whether rows like this one keep the trust gate of sequence `s` closed: their holders are not known to have
    /// applied it by evidence of class `at_least` or stronger, nor by how their leaves came to them; or it is not known whether
    /// they can verify what it brings.
    #[must_use]
    pub fn is_unproven(&self, s: Sequence, at_least: impl Into<Required>) -> bool {
        let Required { class, probe } = at_least.into();
        let proven_by_birth = self.kind.is_proven_by_birth() && self.born >= s;
        !proven_by_birth && self.applied.by(class) < s || probe && self.is_unprobed(s)
    }

    /// Whether its holders have listeners and were not seen yet to verify the root that the bundle of sequence `s` brings. Where a
    /// listener cannot be probed, what they acknowledged stands; one that was seen to refuse is not believed again for being away.
    #[must_use]
    pub fn is_unprobed(&self, s: Sequence) -> bool {
        let Some(probe) = self.listening else { return false };
        let away = probe.not_probeable >= s && probe.unable < s;
        self.applied.by(EvidenceClass::HandshakeObserved) < s && !away
    }

    /// Whether some holder acknowledged the bundle of sequence `s` and was seen not to verify the root that it brings. Its next leaf
    /// is no better.
    #[must_use]
    pub fn is_unable(&self, s: Sequence) -> bool {
        self.is_unprobed(s) && self.listening.is_some_and(|probe| probe.unable >= s)
    }
}

/// How many rows, and when the last of their leaves expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub rows: u64,
    /// The latest end of validity among them; `None` when there is none.
    pub latest_not_after: Option<Timestamp>,
}

impl Tally {
    fn add(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            latest_not_after: self.latest_not_after.max(other.latest_not_after),
        }
    }
}

/// The counts at one moment, apart from the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregates {
    groups: BTreeMap<Standing, Tally>,
}

impl Aggregates {
    /// All groups of rows that stand alike.
    pub fn groups(&self) -> impl Iterator<Item = (&Standing, &Tally)> {
        self.groups.iter()
    }

    /// Adds the counts of another ledger.
    pub fn join(&mut self, other: &Self) {
        for (standing, tally) in &other.groups {
            self.add(*standing, *tally);
        }
    }

    /// Adds rows that stand alike.
    pub fn add(&mut self, standing: Standing, tally: Tally) {
        let group = self.groups.entry(standing).or_default();
        *group = group.add(tally);
    }

    /// The rows that match.
    pub fn tally(&self, matches: impl Fn(&Standing) -> bool) -> Tally {
        let matching = self.groups.iter().filter(|(standing, _)| matches(standing));
        matching.fold(Tally::default(), |sum, (_, tally)| sum.add(*tally))
    }

    /// All rows.
    #[must_use]
    pub fn all(&self) -> Tally {
        self.tally(|_| true)
    }

    /// The rows under a root.
    #[must_use]
    pub fn under(&self, root: &RootId) -> Tally {
        self.tally(|standing| standing.root == *root)
    }

    /// The rows that keep the trust gate of sequence `s` closed, whatever the class of the evidence.
    #[must_use]
    pub fn unproven(&self, s: Sequence) -> Tally {
        self.unproven_by(s, |_| EvidenceClass::Assumed)
    }

    /// The rows that keep the trust gate of sequence `s` closed, where policy asks of each kind for evidence of a
    /// class. Rows born at `s` or later need none where leaf and bundle come in one reply.
    pub fn unproven_by<R: Into<Required>>(
        &self,
        s: Sequence,
        at_least: impl Fn(RowKind) -> R,
    ) -> Tally {
        self.tally(|standing| standing.is_unproven(s, at_least(standing.kind)))
    }
}

/// The rows that count, by where they stand; and how many each agent and each identity has.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    groups: Groups,
    agents: HashMap<String, BTreeSet<Number>>,
    identities: HashMap<SpiffeId, u64>,
    /// Rows whose holders take their trust from elsewhere, by identity.
    own_trust: BTreeMap<SpiffeId, Groups>,
    /// Whose trust is not waited for.
    waivers: BTreeSet<Cover>,
}

/// Rows by where they stand.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<Standing, Ends>);

/// Rows by the ends of their validity. So the one that ends last, which holds a gate longest, is found at once. They are named by
/// the numbers of their slots: a serial would take four times the room.
pub(crate) type Ends = BTreeSet<Place>;
type Place = (Timestamp, Number);

impl Groups {
    /// The counts, at the price of as many steps as there are groups.
    pub(crate) fn snapshot(&self) -> Aggregates {
        let tally = |ends: &Ends| Tally {
            rows: ends.len() as u64,
            latest_not_after: ends.last().map(|(not_after, _)| *not_after),
        };
        Aggregates {
            groups: self.0.iter().map(|(standing, ends)| (*standing, tally(ends))).collect(),
        }
    }

    /// Where the rows are.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = Number> {
        self.0.values().flatten().map(|(_, number)| *number)
    }

    fn add(&mut self, standing: Standing, place: Place) {
        self.0.entry(standing).or_default().insert(place);
    }

    fn remove(&mut self, standing: &Standing, place: Place) {
        let Some(ends) = self.0.get_mut(standing) else { return };
        ends.remove(&place);
        if ends.is_empty() {
            self.0.remove(standing);
        }
    }
}

impl Counts {
    pub(crate) fn add(&mut self, number: Number, live: &LiveRow) {
        if !live.counts() {
            return;
        }
        self.add_standing(number, live);
        match self.identities.get_mut(&live.row.identity) {
            Some(rows) => *rows += 1,
            None => _ = self.identities.insert(live.row.identity.clone(), 1),
        }
        if let Some(agent) = &live.row.agent {
            match self.agents.get_mut(agent) {
                Some(rows) => _ = rows.insert(number),
                None => _ = self.agents.insert(agent.clone(), BTreeSet::from([number])),
            }
        }
    }

    pub(crate) fn remove(&mut self, number: Number, live: &LiveRow) {
        if !live.counts() {
            return;
        }
        self.remove_standing(number, live);
        if let Some(rows) = self.identities.get_mut(&live.row.identity) {
            *rows = rows.saturating_sub(1);
            if *rows == 0 {
                self.identities.remove(&live.row.identity);
            }
        }
        if let Some(agent) = &live.row.agent
            && let Some(rows) = self.agents.get_mut(agent)
        {
            rows.remove(&number);
            if rows.is_empty() {
                self.agents.remove(agent);
            }
        }
    }

    /// Takes the place of what was known of a row.
    pub(crate) fn replace(&mut self, number: Number, old: &LiveRow, new: &LiveRow) {
        if old.counts() && new.counts() {
            let (before, after) = (self.standing(old), self.standing(new));
            // That a leaf was signed moves no row, nor does a piece of evidence that says what was known.
            if before != after {
                self.remove_from(number, old, &before);
                self.add_to(number, new, after);
            }
        } else {
            self.remove(number, old);
            self.add(number, new);
        }
    }

    pub(crate) fn snapshot(&self) -> Aggregates {
        self.groups.snapshot()
    }

    /// The rows of all groups whose standing matches.
    pub(crate) fn ends(&self, matches: impl Fn(&Standing) -> bool) -> impl Iterator<Item = &Ends> {
        self.groups.0.iter().filter(move |(standing, _)| matches(standing)).map(|(_, ends)| ends)
    }

    pub(crate) fn rows_of(&self, agent: &str) -> u64 {
        self.numbers_of(agent).map_or(0, |rows| rows.len() as u64)
    }

    pub(crate) fn numbers_of(&self, agent: &str) -> Option<&BTreeSet<Number>> {
        self.agents.get(agent)
    }

    pub(crate) const fn own_trust(&self) -> &BTreeMap<SpiffeId, Groups> {
        &self.own_trust
    }

    pub(crate) fn rows_as(&self, identity: &SpiffeId) -> u64 {
        self.identities.get(identity).copied().unwrap_or(0)
    }

    pub(crate) fn agents(&self) -> usize {
        self.agents.len()
    }

    /// Where a row stands.
    pub(crate) fn standing(&self, live: &LiveRow) -> Standing {
        Standing { waived: self.waives(&live.row.identity), ..Standing::of(live) }
    }

    pub(crate) const fn waivers(&self) -> &BTreeSet<Cover> {
        &self.waivers
    }

    /// From now on no trust is waited for of whom these cover, and of nobody else; `rows` are all that count.
    pub(crate) fn set_waivers(
        &mut self,
        waivers: BTreeSet<Cover>,
        rows: impl Iterator<Item = (Number, LiveRow)>,
    ) {
        let before = std::mem::replace(&mut self.waivers, waivers);
        for (number, live) in rows {
            let was = covered(&before, &live.row.identity);
            if live.counts() && was != self.waives(&live.row.identity) {
                let standing = self.standing(&live);
                self.remove_from(number, &live, &Standing { waived: was, ..standing });
                self.add_standing(number, &live);
            }
        }
    }

    fn waives(&self, identity: &SpiffeId) -> bool {
        covered(&self.waivers, identity)
    }

    fn add_standing(&mut self, number: Number, live: &LiveRow) {
        self.add_to(number, live, self.standing(live));
    }

    fn add_to(&mut self, number: Number, live: &LiveRow, standing: Standing) {
        let place = (live.row.not_after, number);
        self.groups.add(standing, place);
        if standing.own_trust {
            self.own_trust.entry(live.row.identity.clone()).or_default().add(standing, place);
        }
    }

    fn remove_standing(&mut self, number: Number, live: &LiveRow) {
        let standing = self.standing(live);
        self.remove_from(number, live, &standing);
    }

    fn remove_from(&mut self, number: Number, live: &LiveRow, standing: &Standing) {
        let place = (live.row.not_after, number);
        self.groups.remove(standing, place);
        if standing.own_trust
            && let Some(groups) = self.own_trust.get_mut(&live.row.identity)
        {
            groups.remove(standing, place);
            if groups.0.is_empty() {
                self.own_trust.remove(&live.row.identity);
            }
        }
    }
}

fn covered(covers: &BTreeSet<Cover>, identity: &SpiffeId) -> bool {
    // There is none most of the time, and then nothing has to be taken apart.
    !covers.is_empty() && Cover::of(identity).any(|cover| covers.contains(&cover))
}
