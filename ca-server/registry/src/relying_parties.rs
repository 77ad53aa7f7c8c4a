//! Relying parties: who relies on the bundle without a leaf of this CA, such as a mounted file of roots or a place where the
//! bundle is published. Gates wait for their word, or for the end of their staleness bound.

use std::collections::BTreeSet;
use std::time::Duration;

use rotation::evidence::{RelyingParties, Tally};
use trust::{Cover, Sequence, Timestamp};

use crate::cache::Write;
use crate::coverage::Coverage;
use crate::error::RegistryError;
use crate::registry::AgentRegistry;
use crate::row::{Kind, Row};
use crate::rows::{Confirmation, RelyingPartyRow};

/// How the names of relying parties begin that are neighbors: each confirms by itself what everybody there trusts.
pub const NEIGHBOR_PARTY: &str = "ca/";
/// Relying parties that there may be.
pub(crate) const RELYING_PARTIES_MAX: usize = 10_000;

impl AgentRegistry {
    /// All relying parties, by name.
    pub fn relying_parties(&self) -> Vec<(String, RelyingPartyRow)> {
        self.read().relying_parties.iter().map(|(name, row)| (name.clone(), row.clone())).collect()
    }

    /// Adds a relying party, or changes the bound of one that is there, and whom it covers unless that is to stay. What it
    /// confirmed stays, unless it covers somebody now whom that word was not about.
    pub async fn add_relying_party(
        &self,
        name: String,
        staleness: Option<Duration>,
        covers: Option<BTreeSet<Cover>>,
        now: Timestamp,
    ) -> Result<RelyingPartyRow, RegistryError> {
        self.change(move |tables| {
            let row = match tables.relying_parties.get(&name) {
                Some(known) => {
                    let covers = covers.as_ref().unwrap_or(&known.covers).clone();
                    let was_about = |cover| known.covers.iter().any(|known| known.includes(cover));
                    let same = covers.iter().all(was_about);
                    let confirmed = known.confirmed.clone().filter(|_| same);
                    RelyingPartyRow { staleness, covers, confirmed, added: known.added }
                }
                None if tables.relying_parties.len() >= RELYING_PARTIES_MAX => {
                    return Err(RegistryError::Full("relying parties"));
                }
                None => {
                    let covers = covers.clone().unwrap_or_default();
                    RelyingPartyRow { staleness, covers, added: now, confirmed: None }
                }
            };
            Ok((vec![Write::of(Row::RelyingParty(name.clone(), Some(row.clone())))], row))
        })
        .await
    }

    /// Takes somebody's word that a relying party has a bundle. What was confirmed of a later one stays.
    pub async fn confirm_relying_party(
        &self,
        name: String,
        word: Confirmation,
        present: Sequence,
    ) -> Result<RelyingPartyRow, RegistryError> {
        self.change(move |tables| {
            let known = tables.relying_parties.get(&name).cloned();
            let mut row = known.ok_or_else(|| RegistryError::RelyingPartyUnknown(name.clone()))?;
            // Whom it covers is not known, so nobody's word can be about them.
            if tables.is_unreadable(Kind::RelyingParties, &name) {
                return Err(RegistryError::RowUnreadable(name.clone()));
            }
            if word.sequence > present {
                return Err(RegistryError::BundleOfTheFuture(word.sequence));
            }
            if row.confirmed.as_ref().is_none_or(|known| known.sequence < word.sequence) {
                row.confirmed = Some(word.clone());
            }
            Ok((vec![Write::of(Row::RelyingParty(name.clone(), Some(row.clone())))], row))
        })
        .await
    }

    /// Removes a relying party: no gate waits for it any more.
    pub async fn remove_relying_party(&self, name: String) -> Result<(), RegistryError> {
        self.change(move |tables| {
            if !tables.relying_parties.contains_key(&name) {
                return Err(RegistryError::RelyingPartyUnknown(name.clone()));
            }
            Ok((vec![Write::of(Row::RelyingParty(name.clone(), None))], ()))
        })
        .await
    }

    /// Whom relying parties cover.
    pub fn coverage(&self) -> Coverage {
        Coverage::of(self.read().relying_parties.iter())
    }

    /// The relying parties that are not known to have a bundle, as gates count them.
    pub fn unconfirmed(&self, wanted: Sequence, in_force_since: Timestamp) -> RelyingParties {
        self.unconfirmed_of(wanted, in_force_since, |_| true)
    }

    /// The same without neighbors: what everybody here trusts does not depend on what is trusted there.
    pub fn unconfirmed_here(&self, wanted: Sequence, in_force_since: Timestamp) -> RelyingParties {
        self.unconfirmed_of(wanted, in_force_since, |name| !name.starts_with(NEIGHBOR_PARTY))
    }

    /// Whether a downstream CA is a neighbor: it gets no issuer, and is waited for by its word.
    pub fn is_neighbor(&self, downstream: &str) -> bool {
        self.read().relying_parties.contains_key(&format!("{NEIGHBOR_PARTY}{downstream}"))
    }

    fn unconfirmed_of(
        &self,
        wanted: Sequence,
        in_force_since: Timestamp,
        counts: impl Fn(&str) -> bool,
    ) -> RelyingParties {
        let tables = self.read();
        let parties = tables.relying_parties.iter();
        let missing = parties.filter(|(name, row)| counts(name) && !row.has(wanted));
        missing.fold(RelyingParties::default(), |mut sum, (_, row)| {
            match row.until(in_force_since) {
                Some(end) => {
                    let Tally { count, latest } = sum.bounded;
                    sum.bounded = Tally { count: count + 1, latest: latest.max(Some(end)) };
                }
                None => sum.unbounded += 1,
            }
            sum
        })
    }
}

impl RelyingPartyRow {
    /// Whether somebody said that it has this bundle or a later one.
    pub fn has(&self, wanted: Sequence) -> bool {
        self.confirmed.as_ref().is_some_and(|word| word.sequence >= wanted)
    }

    /// When it has a bundle at the latest that is in force since then; `None` if only a word proves it.
    pub fn until(&self, in_force_since: Timestamp) -> Option<Timestamp> {
        self.staleness.map(|staleness| in_force_since.max(self.added).plus(staleness))
    }
}

#[cfg(test)]
mod tests {
    use stores::fake::FakeStore;

    use trust::SpiffeId;

    use super::*;
    use crate::fixture::open;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[tokio::test]
    async fn a_gate_waits_for_a_word_or_for_the_end_of_the_bound_and_a_restart_forgets_neither() {
        let store = FakeStore::new();
        let registry = open(&store).await;
        let hour = Duration::from_secs(3_600);
        registry.add_relying_party("mount".to_owned(), Some(hour), None, NOW).await.unwrap();
        registry.add_relying_party("partner".to_owned(), None, None, NOW).await.unwrap();
        let word = |sequence| {
            let word =
                Confirmation { sequence: Sequence(sequence), by: "uid 0".to_owned(), at: NOW };
            registry.confirm_relying_party("partner".to_owned(), word, Sequence(2))
        };
        assert_eq!(word(3).await, Err(RegistryError::BundleOfTheFuture(Sequence(3))));
        word(1).await.unwrap();
        let bounded = Tally { count: 1, latest: Some(NOW.plus(hour)) };
        assert_eq!(
            registry.unconfirmed(Sequence(2), NOW),
            RelyingParties { bounded, unbounded: 1 }
        );
        word(2).await.unwrap();
        word(1).await.unwrap();
        assert_eq!(
            registry.unconfirmed(Sequence(2), NOW),
            RelyingParties { bounded, unbounded: 0 }
        );
        drop(registry);
        let registry = open(&store).await;
        assert_eq!(
            registry.unconfirmed(Sequence(2), NOW),
            RelyingParties { bounded, unbounded: 0 }
        );
        registry.remove_relying_party("mount".to_owned()).await.unwrap();
        assert_eq!(registry.unconfirmed(Sequence(2), NOW), RelyingParties::default());
        let gone = registry.remove_relying_party("mount".to_owned()).await;
        assert_eq!(gone, Err(RegistryError::RelyingPartyUnknown("mount".to_owned())));
    }

    #[tokio::test]
    async fn a_word_is_about_those_who_were_covered_when_it_was_given_and_no_others() {
        let store = FakeStore::new();
        let registry = open(&store).await;
        let add = |covers: Option<&[&str]>| {
            let all = |covers: &[&str]| covers.iter().map(|text| text.parse().unwrap()).collect();
            registry.add_relying_party("file".to_owned(), None, covers.map(all), NOW)
        };
        let confirm = || {
            let word = Confirmation { sequence: Sequence(2), by: "ops".to_owned(), at: NOW };
            registry.confirm_relying_party("file".to_owned(), word, Sequence(2))
        };
        let (one, two) = ("spiffe://example.org/ns/a/one", "spiffe://example.org/ns/a/two");
        let (a, all) = ("spiffe://example.org/ns/a/*", "spiffe://example.org/*");
        add(Some(&[one, two])).await.unwrap();
        confirm().await.unwrap();
        let (fewer, same) = (add(Some(&[one])).await.unwrap(), add(None).await.unwrap());
        assert!(fewer.has(Sequence(2)) && same.has(Sequence(2)));
        assert_eq!(same.covers, fewer.covers, "none named leaves those that it has");
        assert!(!add(Some(&[one, two])).await.unwrap().has(Sequence(2)), "it was not about two");
        confirm().await.unwrap();
        assert!(!add(Some(&[a])).await.unwrap().has(Sequence(2)), "nor about all of them");
        confirm().await.unwrap();
        assert!(add(Some(&[one, two])).await.unwrap().has(Sequence(2)), "it was about these too");
        assert!(!add(Some(&[all])).await.unwrap().has(Sequence(2)));
        let nobody = add(Some(&[])).await.unwrap();
        assert!(nobody.covers.is_empty());
        add(Some(&[a])).await.unwrap();
        drop(registry);
        let coverage = open(&store).await.coverage();
        assert_eq!(coverage.by(&SpiffeId::parse(two).unwrap())[0].0, "file");
    }
}
