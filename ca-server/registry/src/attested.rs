//! Words about shared roots: that nobody else issues under one any more. The leaf gate of such a root rests on them.

use trust::RootId;

use crate::cache::Write;
use crate::error::RegistryError;
use crate::registry::AgentRegistry;
use crate::row::Row;
use crate::rows::AttestedRow;

impl AgentRegistry {
    /// Somebody's word about a root.
    pub fn attested(&self, root: &RootId) -> Option<AttestedRow> {
        self.read().attested.get(root).cloned()
    }

    /// Takes somebody's word that nobody else has issued under a root since a time. A word of an earlier time than one
    /// that was given changes nothing: whoever said the later one had seen a leaf.
    pub async fn attest(
        &self,
        root: RootId,
        word: AttestedRow,
    ) -> Result<AttestedRow, RegistryError> {
        self.change(move |tables| {
            let known =
                tables.attested.get(&root).filter(|known| known.since >= word.since).cloned();
            let row = known.unwrap_or_else(|| word.clone());
            Ok((vec![Write::of(Row::Attested(root, Some(row.clone())))], row))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use stores::fake::FakeStore;
    use trust::Timestamp;

    use super::*;
    use crate::fixture::open;

    #[tokio::test]
    async fn the_latest_time_that_was_attested_stands_and_a_restart_forgets_it_not() {
        let store = FakeStore::new();
        let registry = open(&store).await;
        let (root, other) = (RootId::of(b"root"), RootId::of(b"other"));
        let at = Timestamp::from_secs;
        let word = |secs, by: &str| {
            registry.attest(root, AttestedRow { since: at(secs), by: by.to_owned(), at: at(900) })
        };
        assert_eq!(registry.attested(&root), None);
        word(500, "ann").await.unwrap();
        let later = word(600, "bob").await.unwrap();
        assert_eq!((later.since, later.by.as_str()), (at(600), "bob"));
        assert_eq!(word(400, "ann").await.unwrap(), later);
        drop(registry);
        let registry = open(&store).await;
        assert_eq!(registry.attested(&root), Some(later));
        assert_eq!(registry.attested(&other), None);
    }
}
