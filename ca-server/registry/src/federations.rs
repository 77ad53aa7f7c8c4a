//! Federations: other trust domains whose members are believed by their own bundles, and the last good one of each.

use std::time::Duration;

use trust::{Timestamp, TrustDomain};

use crate::cache::Write;
use crate::error::RegistryError;
use crate::federation_row::{Checked, FederationRow, ForeignBundle, ForeignRefused};
use crate::registry::AgentRegistry;
use crate::row::{Kind, Row};

/// Trust domains that there may be: the bundles of all of them fit into one message to an agent.
pub const FEDERATIONS_MAX: usize = 32;
/// What the relying party of a trust domain that reads our bundle is called, before that domain's name.
pub const FEDERATED_PARTY: &str = "federation/";
/// A bundle that is read again and is the same is noted so often at most.
const NOTED_EVERY_SECS: i64 = 30;

/// What became of an addition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederationAdded {
    /// As it is now.
    pub row: FederationRow,
    /// Whether the bundle that was given is the one that is there now.
    pub bundle_taken: bool,
}

impl AgentRegistry {
    /// All federations, by trust domain.
    pub fn federations(&self) -> Vec<(String, FederationRow)> {
        self.read().federations.iter().map(|(name, row)| (name.clone(), row.clone())).collect()
    }

    /// The same, unless a row cannot be read: then nobody is told that a trust domain is gone.
    pub fn readable_federations(&self) -> Option<Vec<(String, FederationRow)>> {
        let unreadable = self.read().first_unreadable(Kind::Federations).is_some();
        (!unreadable).then(|| self.federations())
    }

    /// Adds a federation, or puts it in the place of the one with that domain. `row.bundle` is one that was given by hand and takes
    /// the place of the one that is there, whatever its sequence; with `once`, not if the same one was given last. Without it the
    /// one that is there stays.
    pub async fn add_federation(
        &self,
        domain: TrustDomain,
        row: FederationRow,
        once: bool,
        force: bool,
    ) -> Result<FederationAdded, RegistryError> {
        let name = domain.as_str().to_owned();
        self.change(move |tables| {
            let known = tables.federations.get(&name);
            if known.is_none() && tables.federations.len() >= FEDERATIONS_MAX {
                return Err(RegistryError::Full("federations"));
            }
            if let Some(known) = known
                && known.owner != row.owner
                && !force
            {
                return Err(owned(&name, known));
            }
            let given_before = known.is_some_and(|known| known.given == row.given) && once;
            let given = row.bundle.clone().filter(|_| !given_before);
            let mut added = row.clone();
            let bundle_taken = given.is_some();
            if let (None, Some(known)) = (&given, known) {
                added.given = known.given.clone();
            }
            added.bundle = given.or_else(|| known.and_then(|known| known.bundle.clone()));
            let answer = FederationAdded { row: added.clone(), bundle_taken };
            Ok((vec![Write::of(Row::Federation(name.clone(), Some(added)))], answer))
        })
        .await
    }

    /// Removes a federation: nobody here believes that domain's members any more.
    pub async fn remove_federation(
        &self,
        domain: String,
        owner: String,
        force: bool,
    ) -> Result<(), RegistryError> {
        self.change(move |tables| {
            // One that cannot be read is removed too.
            let unreadable = tables.is_unreadable(Kind::Federations, &domain);
            match tables.federations.get(&domain) {
                None if !unreadable => {
                    return Err(RegistryError::FederationUnknown(domain.clone()));
                }
                Some(known) if known.owner != owner && !force => return Err(owned(&domain, known)),
                _ => {}
            }
            Ok((vec![Write::of(Row::Federation(domain.clone(), None))], ()))
        })
        .await
    }

    /// Trust domains that read our bundle and are not waited for as they should be, each with its bound.
    pub fn federated_parties_missing(&self) -> Vec<(String, Duration)> {
        let tables = self.read();
        let reading =
            tables.federations.iter().filter_map(|(name, row)| Some((name, row.reads_within?)));
        let missing = reading.filter(|(name, within)| {
            let party = tables.relying_parties.get(&format!("{FEDERATED_PARTY}{name}"));
            party.is_none_or(|party| party.staleness != Some(*within))
        });
        missing.map(|(name, within)| (name.clone(), within)).collect()
    }

    /// Takes a bundle that was read at the endpoint of `asked`, unless it is older than the one that is there.
    pub async fn take_foreign(
        &self,
        domain: String,
        asked: FederationRow,
        read: ForeignBundle,
        now: Timestamp,
    ) -> Result<Result<Checked, ForeignRefused>, RegistryError> {
        self.change(move |tables| {
            let known = tables.federations.get(&domain).filter(|known| known.asks_like(&asked));
            let Some(known) = known else { return Ok((Vec::new(), Ok(Checked::Overtaken))) };
            let judged =
                known.bundle.as_ref().map_or(Ok(Checked::Newer), |there| there.yields_to(&read));
            let mut row = known.clone();
            match (&judged, &mut row.bundle) {
                (Ok(Checked::Newer), bundle) => {
                    *bundle =
                        Some(ForeignBundle { taken: now, checked: Some(now), ..read.clone() });
                }
                (Ok(Checked::Same), Some(there)) => {
                    let noted = there.checked.map_or(i64::MIN, Timestamp::as_secs);
                    let same_hint = there.refresh_hint == read.refresh_hint;
                    if same_hint && now.as_secs() < noted.saturating_add(NOTED_EVERY_SECS) {
                        return Ok((Vec::new(), judged));
                    }
                    there.checked = Some(now);
                    there.refresh_hint = read.refresh_hint;
                }
                _ => return Ok((Vec::new(), judged)),
            }
            Ok((vec![Write::of(Row::Federation(domain.clone(), Some(row)))], judged))
        })
        .await
    }
}

fn owned(domain: &str, known: &FederationRow) -> RegistryError {
    let owner = match known.owner.as_str() {
        "" => "operators".to_owned(),
        owner => owner.to_owned(),
    };
    RegistryError::FederationOwned { domain: domain.to_owned(), owner }
}

#[cfg(test)]
mod tests {
    use stores::fake::FakeStore;

    use super::*;
    use crate::federation_row::EndpointProfile;
    use crate::fixture::open;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn domain() -> TrustDomain {
        TrustDomain::parse("other.org").unwrap()
    }

    fn row(bundle: Option<ForeignBundle>, given: &str) -> FederationRow {
        FederationRow {
            endpoint: "https://ca.other.org/bundle.json".to_owned(),
            profile: EndpointProfile::Web(None),
            reads_within: None,
            owner: String::new(),
            by: "ann".to_owned(),
            reason: "partners".to_owned(),
            at: NOW,
            given: given.to_owned(),
            bundle,
        }
    }

    fn bundle(sequence: u64, root: u8) -> ForeignBundle {
        ForeignBundle {
            sequence: Some(sequence),
            refresh_hint: None,
            roots: vec![vec![root]],
            taken: NOW,
            checked: None,
        }
    }

    #[tokio::test]
    async fn what_is_read_never_goes_back_and_a_restart_forgets_nothing() {
        let store = FakeStore::new();
        let registry = open(&store).await;
        registry.add_federation(domain(), row(None, ""), false, false).await.unwrap();
        let take = async |registry: &AgentRegistry, sequence, root| {
            let name = "other.org".to_owned();
            let asked = row(None, "");
            registry.take_foreign(name, asked, bundle(sequence, root), NOW).await.unwrap()
        };
        assert_eq!(take(&registry, 7, 1).await, Ok(Checked::Newer));
        assert_eq!(take(&registry, 7, 1).await, Ok(Checked::Same));
        assert_eq!(take(&registry, 7, 2).await, Err(ForeignRefused::Ambiguous(7)));
        assert_eq!(take(&registry, 6, 1).await, Err(ForeignRefused::Older { known: 7, read: 6 }));
        assert_eq!(take(&registry, 0, 2).await, Err(ForeignRefused::Unnumbered(7)));
        drop(registry);
        let registry = open(&store).await;
        let kept = registry.federations().remove(0).1.bundle.unwrap();
        assert_eq!((kept.sequence, kept.roots), (Some(7), vec![vec![1]]));
        // By hand it goes back, and once is once.
        let given = || row(Some(bundle(3, 3)), "abc");
        let added = registry.add_federation(domain(), given(), true, false).await.unwrap();
        assert!(added.bundle_taken);
        assert_eq!(take(&registry, 4, 4).await, Ok(Checked::Newer));
        let again = registry.add_federation(domain(), given(), true, false).await.unwrap();
        assert_eq!((again.bundle_taken, again.row.bundle.unwrap().sequence), (false, Some(4)));
        registry.remove_federation("other.org".to_owned(), String::new(), false).await.unwrap();
        assert_eq!(take(&registry, 9, 9).await, Ok(Checked::Overtaken));
        assert!(registry.federations().is_empty());
    }

    #[tokio::test]
    async fn what_somebody_else_keeps_is_changed_by_force_alone() {
        let registry = open(&FakeStore::new()).await;
        let theirs = FederationRow { owner: "kubernetes/mesh/other".to_owned(), ..row(None, "") };
        registry.add_federation(domain(), theirs.clone(), false, false).await.unwrap();
        let changed = registry.add_federation(domain(), row(None, ""), false, false).await;
        assert!(matches!(changed, Err(RegistryError::FederationOwned { .. })), "{changed:?}");
        let remove =
            |force| registry.remove_federation("other.org".to_owned(), String::new(), force);
        assert!(matches!(remove(false).await, Err(RegistryError::FederationOwned { .. })));
        assert_eq!(registry.federations(), [("other.org".to_owned(), theirs)]);
        remove(true).await.unwrap();
        let gone = remove(true).await;
        assert_eq!(gone, Err(RegistryError::FederationUnknown("other.org".to_owned())));
    }
}
