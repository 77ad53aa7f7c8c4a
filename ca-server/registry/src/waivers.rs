//! Waivers: somebody's word that gates do not wait until some holders are known to trust a bundle, for a time.

use std::collections::BTreeSet;

use trust::{Cover, Timestamp};

use crate::cache::Write;
use crate::error::RegistryError;
use crate::registry::AgentRegistry;
use crate::row::Row;
use crate::waiver_row::WaiverRow;

/// Waivers that there may be, those that are over included.
pub(crate) const WAIVERS_MAX: usize = 1_000;

impl AgentRegistry {
    /// All waivers by name, also those that are over.
    pub fn waivers(&self) -> Vec<(String, WaiverRow)> {
        self.read().waivers.iter().map(|(name, row)| (name.clone(), row.clone())).collect()
    }

    /// Whose trust is not waited for now.
    pub fn waived(&self, now: Timestamp) -> BTreeSet<Cover> {
        let tables = self.read();
        let standing = tables.waivers.values().filter(|row| row.stands(now));
        standing.flat_map(|row| row.covers.iter().cloned()).collect()
    }

    /// Adds a waiver, or puts it in the place of the one of that name.
    pub async fn add_waiver(&self, name: String, row: WaiverRow) -> Result<(), RegistryError> {
        self.change(move |tables| {
            let is_new = !tables.waivers.contains_key(&name);
            if is_new && tables.waivers.len() >= WAIVERS_MAX {
                return Err(RegistryError::Full("waivers"));
            }
            Ok((vec![Write::of(Row::Waiver(name.clone(), Some(row.clone())))], ()))
        })
        .await
    }

    /// Removes a waiver: gates wait again for whom it covered.
    pub async fn remove_waiver(&self, name: String) -> Result<(), RegistryError> {
        self.change(move |tables| {
            if !tables.waivers.contains_key(&name) {
                return Err(RegistryError::WaiverUnknown(name.clone()));
            }
            Ok((vec![Write::of(Row::Waiver(name.clone(), None))], ()))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use stores::fake::FakeStore;

    use super::*;
    use crate::fixture::open;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_waiver_stands_until_its_time_or_its_removal_and_a_restart_forgets_neither() {
        let store = FakeStore::new();
        let registry = open(&store).await;
        let waiver = |covers: &str, until| WaiverRow {
            covers: BTreeSet::from([covers.parse().unwrap()]),
            until,
            by: "ann".to_owned(),
            reason: "they are switched off".to_owned(),
            at: NOW,
        };
        let (shop, web) = ("spiffe://example.org/ns/shop/*", "spiffe://example.org/web");
        registry.add_waiver("shop".to_owned(), waiver(shop, NOW.plus(HOUR))).await.unwrap();
        registry.add_waiver("web".to_owned(), waiver(web, NOW.plus(HOUR * 2))).await.unwrap();
        drop(registry);
        let registry = open(&store).await;
        let texts = |at: Timestamp| -> Vec<_> {
            registry.waived(at).iter().map(ToString::to_string).collect()
        };
        assert_eq!(texts(NOW), [shop, web]);
        assert_eq!(texts(NOW.plus(HOUR)), [web], "the second at which it is over is over");
        assert_eq!(registry.waivers().len(), 2, "what is over is told until it is removed");
        registry.remove_waiver("web".to_owned()).await.unwrap();
        assert_eq!(texts(NOW.plus(HOUR)), [""; 0]);
        let gone = registry.remove_waiver("web".to_owned()).await;
        assert_eq!(gone, Err(RegistryError::WaiverUnknown("web".to_owned())));
    }
}
