//! Whose state a store holds: one key, made once, and compared at each start.

use serde::{Deserialize, Serialize};
use stores::marked::{mark, unmark};
use stores::settle::{self, Created};
use stores::{Key, ReadError, SharedStore, WriteError, spaces};
use trust::randomness::random_bytes;
use trust::{Randomness, TrustDomain};

use crate::error::{FORMAT, FORMAT_RESTORED, OwnerError, TRUST_DOMAIN};
use crate::marks::{self, MOVED, MOVING, RESTORING};

/// Whose state it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The format of all of it.
    pub format: u64,
    /// The trust domain of the CA.
    pub trust_domain: String,
    /// Tells this CA from every other, also of the same trust domain.
    pub ca: String,
}

/// Whose state a store holds; `None` if nobody's yet.
///
/// # Errors
/// [`OwnerError`]; a store that holds anything without saying whose it is counts as damaged.
pub async fn owner(store: &dyn SharedStore) -> Result<Option<Owner>, OwnerError> {
    if let Some(mark) = marks::read(store, MOVING).await? {
        return Err(OwnerError::Unfinished { from: mark.place });
    }
    if let Some(mark) = marks::read(store, RESTORING).await? {
        return Err(OwnerError::Restoring { backup: mark.place });
    }
    if let Some(mark) = marks::read(store, MOVED).await? {
        return Err(OwnerError::Moved { to: mark.place });
    }
    named(store).await
}

/// Whose state a store holds, wherever it went.
pub(crate) async fn named(store: &dyn SharedStore) -> Result<Option<Owner>, OwnerError> {
    let key = key()?;
    let Some(found) = store.get(&key).await? else {
        for space in spaces::ALL {
            if store.list(space, None, 1).await?.entries.is_empty() {
                continue;
            }
            // Another server of this CA may have begun it since.
            return match store.get(&key).await? {
                Some(found) => decoded(&key, &found.value).map(Some),
                None => Err(OwnerError::Nameless { space: space.name() }),
            };
        }
        return Ok(None);
    };
    decoded(&key, &found.value).map(Some)
}

/// Makes the state of a store this trust domain's: as a new CA, unless it is one already.
///
/// # Errors
/// [`OwnerError`]; nothing is changed then, as far as is known.
pub async fn claim(
    store: &dyn SharedStore,
    trust_domain: &TrustDomain,
    randomness: &dyn Randomness,
) -> Result<Owner, OwnerError> {
    let ours = trust_domain.clone();
    if let Some(found) = owner(store).await? {
        return same(found, ours);
    }
    let id: [u8; 16] = random_bytes(randomness);
    let ca = format!("{:032x}", u128::from_be_bytes(id));
    let new = Owner { format: FORMAT, trust_domain: trust_domain.to_string(), ca };
    let key = key()?;
    match settle::create(store, &key, &encoded(&key, &new)?).await? {
        Created::Done(_) => Ok(new),
        // Another server of this CA was first.
        Created::There(there) => same(decoded(&key, &there.value)?, ours),
    }
}

/// As [`name`], of a state in which nobody has counted yet what was released since its backup.
pub(crate) async fn name_restored(
    store: &dyn SharedStore,
    owner: &Owner,
) -> Result<(), OwnerError> {
    name(store, &Owner { format: FORMAT_RESTORED, ..owner.clone() }).await
}

/// Says whose state a store holds, in place of what it said.
pub(crate) async fn name(store: &dyn SharedStore, owner: &Owner) -> Result<(), OwnerError> {
    let key = key()?;
    let there = store.get(&key).await?.map(|there| there.version);
    settle::put(store, &key, &encoded(&key, owner)?, there.as_ref()).await?;
    Ok(())
}

fn same(found: Owner, ours: TrustDomain) -> Result<Owner, OwnerError> {
    match found.trust_domain == ours.as_str() {
        true => Ok(found),
        false => Err(OwnerError::Foreign { found: found.trust_domain, ours }),
    }
}

fn key() -> Result<Key, ReadError> {
    let odd = |error: stores::InvalidKey| ReadError::Failed { reason: error.to_string() };
    spaces::META.key(TRUST_DOMAIN).map_err(odd)
}

fn encoded(key: &Key, owner: &Owner) -> Result<Vec<u8>, OwnerError> {
    let odd = |error: serde_json::Error| WriteError::failed(key, error.to_string());
    Ok(mark(key, &serde_json::to_vec(owner).map_err(odd)?))
}

/// Of a newer format only the format is read: the rest may be anything.
fn decoded(key: &Key, value: &[u8]) -> Result<Owner, OwnerError> {
    #[derive(Deserialize)]
    struct Form {
        format: u64,
    }
    let odd = |error: serde_json::Error| ReadError::Unreadable {
        key: key.to_string(),
        reason: format!("{error}; restore a backup"),
    };
    let body = unmark(key, value)?;
    let form: Form = serde_json::from_slice(body).map_err(odd)?;
    if form.format > FORMAT_RESTORED {
        return Err(OwnerError::Newer { found: form.format });
    }
    let owner: Owner = serde_json::from_slice(body).map_err(odd)?;
    // That it was restored is said by a mark.
    Ok(Owner { format: FORMAT, ..owner })
}

#[cfg(test)]
mod tests {
    use stores::fake::{FakeStore, Fault};
    use stores::{Hints, Page, Space, Version, Versioned};

    use super::*;

    fn domain(name: &str) -> TrustDomain {
        TrustDomain::parse(name).unwrap()
    }

    #[derive(Debug)]
    struct Always(u8);

    impl Randomness for Always {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }

    fn id(byte: u8) -> String {
        format!("{byte:02x}").repeat(16)
    }

    #[tokio::test]
    async fn a_store_is_claimed_once_and_another_trust_domain_is_refused_by_name() {
        let store = FakeStore::new();
        assert_eq!(owner(&store).await.unwrap(), None);
        for fault in [Fault::UnknownStored, Fault::UnknownNotStored] {
            store.fail_next_write(fault);
            assert_eq!(claim(&store, &domain("example.org"), &Always(1)).await.unwrap().ca, id(1));
        }
        assert_eq!(claim(&store, &domain("example.org"), &Always(2)).await.unwrap().ca, id(1));
        let said = claim(&store, &domain("example.com"), &Always(3)).await.unwrap_err().to_string();
        assert!(
            said.contains("trust domain example.org") && said.contains("example.com"),
            "{said}"
        );
    }

    /// A store that another server claims as soon as this one has found nothing.
    #[derive(Debug)]
    struct Overtaken(FakeStore);

    #[async_trait::async_trait]
    impl SharedStore for Overtaken {
        async fn get(&self, key: &Key) -> Result<Option<Versioned>, ReadError> {
            let found = self.0.get(key).await?;
            if *key == super::key()? && found.is_none() {
                claim(&self.0, &domain("example.org"), &Always(1)).await.unwrap();
            }
            Ok(found)
        }

        async fn create(&self, key: &Key, value: &[u8]) -> Result<Version, WriteError> {
            self.0.create(key, value).await
        }

        async fn put(
            &self,
            key: &Key,
            value: &[u8],
            expected: &Version,
        ) -> Result<Version, WriteError> {
            self.0.put(key, value, expected).await
        }

        async fn delete(&self, key: &Key, expected: &Version) -> Result<(), WriteError> {
            self.0.delete(key, expected).await
        }

        async fn list(
            &self,
            space: Space,
            from: Option<&str>,
            limit: usize,
        ) -> Result<Page, ReadError> {
            self.0.list(space, from, limit).await
        }

        async fn watch(&self, space: Space) -> Result<Hints, ReadError> {
            self.0.watch(space).await
        }
    }

    #[tokio::test]
    async fn of_servers_that_start_at_once_one_makes_the_state_and_the_others_take_it() {
        let store = Overtaken(FakeStore::new());
        let taken = claim(&store, &domain("example.org"), &Always(2)).await.unwrap();
        assert_eq!(taken.ca, id(1));
    }

    #[tokio::test]
    async fn a_newer_format_is_refused_by_name_whatever_else_it_holds() {
        let store = FakeStore::new();
        let key = key().unwrap();
        store.create(&key, &mark(&key, br#"{"format":3,"owners":[]}"#)).await.unwrap();
        let said = owner(&store).await.unwrap_err().to_string();
        assert!(said.contains("format 3") && said.contains("newer"), "{said}");
    }

    #[tokio::test]
    async fn what_says_whose_state_it_is_is_refused_when_it_was_edited_or_is_gone() {
        let store = FakeStore::new();
        claim(&store, &domain("example.org"), &Always(1)).await.unwrap();
        let key = key().unwrap();
        let there = store.get(&key).await.unwrap().unwrap();
        let edited = String::from_utf8(there.value).unwrap().replace("example.org", "example.com");
        let version = store.put(&key, edited.as_bytes(), &there.version).await.unwrap();
        let said = owner(&store).await.unwrap_err().to_string();
        assert!(said.contains("meta/trust-domain") && said.contains("checksum"), "{said}");
        store.create(&spaces::AGENTS.key("a").unwrap(), b"x").await.unwrap();
        store.delete(&key, &version).await.unwrap();
        let said = claim(&store, &domain("example.org"), &Always(2)).await.unwrap_err().to_string();
        assert!(said.contains("agents") && said.contains("restore a backup"), "{said}");
    }
}
