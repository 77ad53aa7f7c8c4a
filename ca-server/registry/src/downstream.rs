//! Downstream CAs: CAs that issue under roots of this one. Each has a token, of which the hash is kept, and its issuers with
//! their ends: as long as one lives, gates wait for the downstream CA.

use std::collections::BTreeMap;
use std::time::Duration;

use trust::Timestamp;

use crate::cache::{Cache, Write};
use crate::error::RegistryError;
use crate::registry::AgentRegistry;
use crate::row::{Kind, Row};
use crate::rows::{DownstreamIssuer, DownstreamRow, TokenHash};

/// Downstream CAs that there may be.
pub(crate) const DOWNSTREAMS_MAX: usize = 1_000;
/// Issuers of one downstream CA that may be alive at once.
pub(crate) const DOWNSTREAM_ISSUERS_MAX: usize = 1_000;
/// An issuer is forgotten so long after its end: twice any skew that can be configured.
const FORGET_ISSUERS_AFTER: Duration = Duration::from_secs(2 * 86_400);

impl AgentRegistry {
    /// Whether a name is free for one, or is that of one that there is.
    ///
    /// # Errors
    /// [`RegistryError`] names which of the two it is not.
    pub fn downstream_named(&self, name: &str, shall_exist: bool) -> Result<(), RegistryError> {
        match (self.read().downstreams.contains_key(name), shall_exist) {
            (false, true) => Err(RegistryError::DownstreamUnknown(name.to_owned())),
            (true, false) => Err(RegistryError::DownstreamExists(name.to_owned())),
            _ => Ok(()),
        }
    }

    /// All downstream CAs, by name.
    pub fn downstreams(&self) -> Vec<(String, DownstreamRow)> {
        self.read().downstreams.iter().map(|(name, row)| (name.clone(), row.clone())).collect()
    }

    /// The name of the downstream CA with this token.
    pub fn downstream_of(&self, token: &TokenHash) -> Option<String> {
        self.read()
            .downstreams
            .iter()
            .find(|(_, row)| row.token == *token)
            .map(|(name, _)| name.clone())
    }

    /// Adds a downstream CA.
    pub async fn add_downstream(
        &self,
        name: String,
        token: TokenHash,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.change(move |tables| {
            if tables.downstreams.contains_key(&name) {
                return Err(RegistryError::DownstreamExists(name.clone()));
            }
            if tables.downstreams.len() >= DOWNSTREAMS_MAX {
                return Err(RegistryError::Full("downstream CAs"));
            }
            let row = DownstreamRow { token, added: now, issuers: BTreeMap::new() };
            Ok((vec![Write::of(Row::Downstream(name.clone(), Some(row)))], ()))
        })
        .await
    }

    /// Removes a downstream CA: no gate waits for it any more, and its token is void.
    pub async fn remove_downstream(&self, name: String) -> Result<(), RegistryError> {
        self.change(move |tables| {
            let unreadable = tables.is_unreadable(Kind::Downstreams, &name);
            if !tables.downstreams.contains_key(&name) && !unreadable {
                return Err(RegistryError::DownstreamUnknown(name.clone()));
            }
            Ok((vec![Write::of(Row::Downstream(name.clone(), None))], ()))
        })
        .await
    }

    /// Counts an issuer of a downstream CA, before it is signed. The same request again keeps the later end. True if the request is
    /// a new one.
    pub async fn count_issuer(
        &self,
        downstream: String,
        request: String,
        issuer: DownstreamIssuer,
        now: Timestamp,
    ) -> Result<bool, RegistryError> {
        self.change(move |tables| {
            let mut row = readable(tables, &downstream)?;
            let former = row.issuers.get(&request).copied();
            if former.is_some_and(|former| former.root != issuer.root) {
                return Err(RegistryError::DownstreamRequestReused(request.clone()));
            }
            if former.is_none_or(|former| former.ends < issuer.ends) {
                row.issuers.retain(|_, issuer| now.since(issuer.ends) <= FORGET_ISSUERS_AFTER);
                if former.is_none() && row.issuers.len() >= DOWNSTREAM_ISSUERS_MAX {
                    return Err(RegistryError::Full("issuers of a downstream CA"));
                }
                row.issuers.insert(request.clone(), issuer);
            }
            // What is signed must be counted in the store, and not only be remembered as counted.
            let write = Write::confirming(Row::Downstream(downstream.clone(), Some(row)));
            Ok((vec![write], former.is_none()))
        })
        .await
    }

    /// Takes back what was counted for a request that surely got no issuer.
    pub async fn discount_issuer(
        &self,
        downstream: String,
        request: String,
    ) -> Result<(), RegistryError> {
        self.change(move |tables| {
            let Some(mut row) = tables.downstreams.get(&downstream).cloned() else {
                return Ok((Vec::new(), ()));
            };
            if tables.is_unreadable(Kind::Downstreams, &downstream) {
                return Err(RegistryError::RowUnreadable(downstream.clone()));
            }
            row.issuers.remove(&request);
            Ok((vec![Write::of(Row::Downstream(downstream.clone(), Some(row)))], ()))
        })
        .await
    }
}

/// The row of one that there is. What cannot be read is not written over with what was there before.
fn readable(tables: &Cache, downstream: &str) -> Result<DownstreamRow, RegistryError> {
    if tables.is_unreadable(Kind::Downstreams, downstream) {
        return Err(RegistryError::RowUnreadable(downstream.to_owned()));
    }
    let known = tables.downstreams.get(downstream).cloned();
    known.ok_or_else(|| RegistryError::DownstreamUnknown(downstream.to_owned()))
}

#[cfg(test)]
mod tests {
    use stores::fake::FakeStore;
    use trust::RootId;

    use super::*;
    use crate::fixture::open;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn issuer(root: &str, secs: u64) -> DownstreamIssuer {
        DownstreamIssuer {
            root: RootId::of(root.as_bytes()),
            ends: NOW.plus(Duration::from_secs(secs)),
        }
    }

    #[tokio::test]
    async fn issuers_are_counted_before_they_are_signed_and_a_restart_forgets_none() {
        let store = FakeStore::new();
        let registry = open(&store).await;
        let east = || "east".to_owned();
        registry.add_downstream(east(), [7; 32], NOW).await.unwrap();
        assert_eq!(
            registry.add_downstream(east(), [8; 32], NOW).await,
            Err(RegistryError::DownstreamExists(east()))
        );
        let count = |root: &'static str, secs| {
            registry.count_issuer(east(), "one".to_owned(), issuer(root, secs), NOW)
        };
        assert_eq!(count("a", 60).await, Ok(true));
        assert_eq!(
            count("a", 90).await,
            Ok(false),
            "a repetition is no new issuer, and may end later"
        );
        assert_eq!(count("a", 10).await, Ok(false), "and never earlier");
        assert_eq!(
            count("b", 60).await,
            Err(RegistryError::DownstreamRequestReused("one".to_owned()))
        );
        drop(registry);
        let registry = open(&store).await;
        assert_eq!(registry.downstream_of(&[7; 32]), Some(east()));
        assert_eq!(registry.downstream_of(&[8; 32]), None);
        assert_eq!(registry.downstreams()[0].1.issuers["one"], issuer("a", 90));
        registry.discount_issuer(east(), "one".to_owned()).await.unwrap();
        assert!(registry.downstreams()[0].1.issuers.is_empty());
        registry.remove_downstream(east()).await.unwrap();
        assert_eq!(
            registry.remove_downstream(east()).await,
            Err(RegistryError::DownstreamUnknown(east()))
        );
        assert_eq!(registry.downstream_of(&[7; 32]), None, "its token is void");
    }

    #[tokio::test]
    async fn ended_issuers_are_forgotten_long_after_their_end() {
        let store = FakeStore::new();
        let registry = open(&store).await;
        registry.add_downstream("east".to_owned(), [7; 32], NOW).await.unwrap();
        let count = |id: &str, issuer, now| {
            registry.count_issuer("east".to_owned(), id.to_owned(), issuer, now)
        };
        count("old", issuer("a", 60), NOW).await.unwrap();
        let late = NOW.plus(FORGET_ISSUERS_AFTER).plus(Duration::from_secs(60));
        count("kept", issuer("a", 400_000), late).await.unwrap();
        assert_eq!(registry.downstreams()[0].1.issuers.len(), 2);
        count("new", issuer("a", 400_000), late.plus(Duration::from_secs(1))).await.unwrap();
        assert!(!registry.downstreams()[0].1.issuers.contains_key("old"));
    }
}
