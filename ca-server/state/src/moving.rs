//! A state goes from one store to another, and the CA stays the same: the same roots, agents and numbers.
//!
//! The target is marked as unfinished first and named last; between lies a copy that is compared with the source, key by key.
//! Only when both are the same is the source marked as moved. A move that breaks off anywhere is run again: until the source
//! is marked it may be used, and what it has by then is copied.

use std::collections::BTreeMap;

use stores::{SharedStore, spaces};

use crate::copying::{are_the_same, keys, made_the_same};
use crate::error::OwnerError;
use crate::marks::{self, MOVED, MOVING, Mark, RESTORED, RESTORING};
use crate::owner::{self, Owner};

/// How often a copy is made anew because something else writes to the target.
const TRIES: usize = 3;

/// A store, and how people call it.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The store.
    pub store: &'a dyn SharedStore,
    /// How people call it.
    pub name: &'a str,
}

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Whose state it is.
    pub owner: Owner,
    /// How many keys each space has, those without any left out.
    pub keys: BTreeMap<&'static str, usize>,
}

/// Why a state was not moved. The source is as it was, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A store cannot be used.
    #[error("{place}: {error}")]
    Store {
        /// Which.
        place: String,
        /// What is wrong, and what can be done.
        error: OwnerError,
    },
    /// There is nothing to move.
    #[error("{place} holds no CA: nothing is moved")]
    Empty {
        /// The source.
        place: String,
    },
    /// It went elsewhere before.
    #[error("the state in {place} went to {to} before: move it from there")]
    Gone {
        /// The source.
        place: String,
        /// Where it went.
        to: String,
    },
    /// The target holds something else.
    #[error("{place} holds a CA already: name an empty place")]
    Occupied {
        /// The target.
        place: String,
    },
    /// The copy is not what was copied.
    #[error(
        "{place} does not hold what was written to it: something else writes there; stop it, and run the move again"
    )]
    Differs {
        /// The target.
        place: String,
    },
}

/// Moves the state of a CA whose servers are all stopped.
///
/// # Errors
/// [`MoveError`]; run it again.
pub async fn move_state(from: Place<'_>, to: Place<'_>) -> Result<Moved, MoveError> {
    let source = of(from, owner::named(from.store).await)?;
    let source = source.ok_or_else(|| MoveError::Empty { place: from.name.to_owned() })?;
    let went = of(from, marks::read(from.store, MOVED).await.map_err(Into::into))?;
    let fits = of(to, may_be_filled(to.store, &source).await)?;
    if let Some(mark) = went
        && (mark.place != to.name || !fits)
    {
        return Err(MoveError::Gone { place: from.name.to_owned(), to: mark.place });
    }
    if of(from, marks::read(from.store, MOVING).await.map_err(Into::into))?.is_some() {
        let error = OwnerError::Unfinished { from: "elsewhere".to_owned() };
        return Err(MoveError::Store { place: from.name.to_owned(), error });
    }
    if let Some(mark) = of(from, marks::read(from.store, RESTORING).await.map_err(Into::into))? {
        let error = OwnerError::Restoring { backup: mark.place };
        return Err(MoveError::Store { place: from.name.to_owned(), error });
    }
    if !fits {
        return Err(MoveError::Occupied { place: to.name.to_owned() });
    }
    let ca = source.ca.clone();
    let comes = Mark { place: from.name.to_owned(), ca: ca.clone() };
    of(to, marks::write(to.store, MOVING, Some(&comes)).await)?;
    let keys = copied(from, to).await?;
    // What no server has counted yet is to be counted there.
    let restored = of(from, marks::read(from.store, RESTORED).await.map_err(Into::into))?;
    of(to, marks::write(to.store, RESTORED, restored.as_ref()).await)?;
    let goes = Mark { place: to.name.to_owned(), ca };
    of(from, marks::write(from.store, MOVED, Some(&goes)).await)?;
    let named = match restored {
        Some(_) => owner::name_restored(to.store, &source).await,
        None => owner::name(to.store, &source).await,
    };
    of(to, named)?;
    of(to, marks::write(to.store, MOVED, None).await)?;
    of(to, marks::write(to.store, MOVING, None).await)?;
    Ok(Moved { owner: source, keys })
}

fn of<T>(place: Place<'_>, done: Result<T, OwnerError>) -> Result<T, MoveError> {
    done.map_err(|error| MoveError::Store { place: place.name.to_owned(), error })
}

/// Whether nothing is there, or what this CA left there.
async fn may_be_filled(store: &dyn SharedStore, source: &Owner) -> Result<bool, OwnerError> {
    for name in [MOVING, MOVED] {
        if let Some(mark) = marks::read(store, name).await? {
            return Ok(mark.ca == source.ca);
        }
    }
    Ok(owner::owner(store).await?.is_none())
}

async fn copied(
    from: Place<'_>,
    to: Place<'_>,
) -> Result<BTreeMap<&'static str, usize>, MoveError> {
    for _ in 0..TRIES {
        let mut counts = BTreeMap::new();
        for space in spaces::ALL.into_iter().filter(|space| *space != spaces::META) {
            let wanted = of(from, keys(from.store, space).await.map_err(Into::into))?;
            of(to, made_the_same(to.store, space, &wanted).await)?;
            if !wanted.is_empty() {
                counts.insert(space.name(), wanted.len());
            }
        }
        if of(from, are_the_same(from.store, to.store).await.map_err(Into::into))? {
            return Ok(counts);
        }
    }
    Err(MoveError::Differs { place: to.name.to_owned() })
}

#[cfg(test)]
mod tests {
    use stores::fake::{FakeStore, Fault};
    use stores::{Space, settle};
    use trust::{Randomness, TrustDomain};

    use super::*;
    use crate::claim;

    #[derive(Debug)]
    struct Always(u8);

    impl Randomness for Always {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }

    async fn claimed(number: u8) -> FakeStore {
        let store = FakeStore::new();
        let domain = TrustDomain::parse("example.org").unwrap();
        claim(&store, &domain, &Always(number)).await.unwrap();
        store
    }

    async fn put(store: &FakeStore, space: Space, id: &str, value: &[u8]) {
        let key = space.key(id).unwrap();
        let there = store.get(&key).await.unwrap().map(|there| there.version);
        settle::put(store, &key, value, there.as_ref()).await.unwrap();
    }

    fn at<'a>(store: &'a FakeStore, name: &'a str) -> Place<'a> {
        Place { store, name }
    }

    #[tokio::test]
    async fn a_state_moves_there_and_back_whole_and_each_old_place_says_where_it_went() {
        let (one, two) = (claimed(1).await, FakeStore::new());
        let ca = owner::owner(&one).await.unwrap();
        for space in spaces::ALL.into_iter().filter(|space| *space != spaces::META) {
            put(&one, space, "a", space.name().as_bytes()).await;
        }
        let moved = move_state(at(&one, "one"), at(&two, "two")).await.unwrap();
        assert_eq!(moved.keys.len(), spaces::ALL.len() - 1, "{moved:?}");
        assert_eq!(owner::owner(&two).await.unwrap(), ca);
        let said = owner::owner(&one).await.unwrap_err().to_string();
        assert!(said.contains("moved to two"), "{said}");
        assert_eq!(marks::moved_to(&one).await.unwrap().as_deref(), Some("two"));

        put(&two, spaces::AGENTS, "b", b"new").await;
        let gone = spaces::TOKENS.key("a").unwrap();
        let version = two.get(&gone).await.unwrap().unwrap().version;
        two.delete(&gone, &version).await.unwrap();
        move_state(at(&two, "two"), at(&one, "one")).await.unwrap();
        assert_eq!(owner::owner(&one).await.unwrap(), ca);
        assert!(are_the_same(&one, &two).await.unwrap());
        assert_eq!(one.get(&gone).await, Ok(None), "what was deleted does not come back");
        let said = owner::owner(&two).await.unwrap_err().to_string();
        assert!(said.contains("moved to one"), "{said}");
        let said = move_state(at(&two, "two"), at(&claimed(2).await, "three")).await.unwrap_err();
        assert!(said.to_string().contains("went to one"), "{said}");
    }

    #[tokio::test]
    async fn a_move_that_breaks_off_at_any_write_is_run_again_and_nobody_starts_on_half_of_it() {
        for nth in 0.. {
            let (one, two) = (claimed(1).await, FakeStore::new());
            for n in 0..3 {
                put(&one, spaces::AGENTS, &n.to_string(), b"agent").await;
            }
            let (mut breaks, cut) = (false, two.clone());
            cut.fail_write_after(nth, Fault::Failed);
            if let Err(error) = move_state(at(&one, "one"), at(&two, "two")).await {
                breaks = true;
                assert!(error.to_string().contains("two"), "{error}");
                let usable =
                    |found: Result<Option<Owner>, OwnerError>| matches!(found, Ok(Some(_)));
                let both = [owner::owner(&one).await, owner::owner(&two).await];
                assert!(both.into_iter().map(usable).filter(|usable| *usable).count() < 2);
                // Until it is marked, the source may be used.
                if owner::owner(&one).await.is_ok() {
                    put(&one, spaces::AGENTS, "1", b"changed").await;
                }
            }
            cut.fail_write_after(u64::MAX, Fault::Failed);
            let again = move_state(at(&one, "one"), at(&two, "two")).await;
            match breaks {
                true => _ = again.unwrap(),
                false => assert!(again.unwrap_err().to_string().contains("went to two before")),
            }
            assert!(owner::owner(&two).await.unwrap().is_some());
            assert!(are_the_same(&one, &two).await.unwrap(), "broken off at {nth}");
            if !breaks {
                assert!(nth > 4, "only {nth} writes were failed");
                break;
            }
        }
    }

    #[tokio::test]
    async fn a_place_that_holds_another_ca_is_refused_and_left_alone() {
        let (one, other) = (claimed(1).await, claimed(2).await);
        put(&other, spaces::AGENTS, "a", b"theirs").await;
        let said = move_state(at(&one, "one"), at(&other, "two")).await.unwrap_err().to_string();
        assert!(said.contains("two holds a CA already"), "{said}");
        assert_eq!(keys(&other, spaces::AGENTS).await.unwrap().len(), 1);
        let said = move_state(at(&FakeStore::new(), "three"), at(&one, "one")).await.unwrap_err();
        assert!(said.to_string().contains("three holds no CA"), "{said}");
    }
}
