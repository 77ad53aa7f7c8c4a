//! A backup becomes the state of a store that no server uses.
//!
//! A mark comes first and goes last: while it is there no server starts on the store, and the same restore goes on with what is
//! there. Before it goes another mark says that the state was restored: the first server that starts counts what was released
//! since the backup, before it serves anybody. From the first mark until that is counted the state has a format that no release
//! reads which knows nothing of the two.

use std::collections::BTreeMap;

use rotation_driver::SharedRecord;
use stores::spaces::{self, RECORD};
use stores::{SharedStore, Space, WriteError, settle};

use crate::backup::Backup;
use crate::copying::{Keys, keys, made_the_same};
use crate::error::{OwnerError, short};
use crate::marks::{self, MOVED, MOVING, Mark, RESTORED, RESTORING};
use crate::moving::Place;
use crate::owner::{self, Owner};

/// How the state is named whose record cannot be read.
const DAMAGED: &str = "damaged";
/// How the state is named that went elsewhere.
const GONE: &str = "moved";
/// How what another restore has begun is named.
const UNFINISHED: &str = "unfinished";

/// What is to be restored, and where.
#[derive(Debug, Clone, Copy)]
pub struct Restoring<'a> {
    /// What.
    pub backup: &'a Backup,
    /// Where.
    pub into: Place<'a>,
    /// The state that may be thrown away for it, as the refusal named it.
    pub replaces: Option<&'a str>,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Whose state it is.
    pub owner: Owner,
    /// How many keys each space has, those without any left out.
    pub keys: BTreeMap<&'static str, usize>,
    /// Whether it went on with what a restore before had begun.
    pub resumed: bool,
}

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store cannot be used. What was begun goes on when it is run again.
    #[error("{place}: {error}")]
    Store {
        /// Where.
        place: String,
        /// What is wrong.
        error: OwnerError,
    },
    /// The backup is of another trust domain than what is there.
    #[error(
        "{place} holds the state of trust domain {found}, and the backup is of {backup}: give each trust domain a place of its own"
    )]
    Foreign {
        /// Where.
        place: String,
        /// Whose it is.
        found: String,
        /// Whose the backup is.
        backup: String,
    },
    /// There is a state.
    #[error(
        "{place} holds {what}: nothing was changed. Restore into an empty place; or, to throw away for good what is there, run the \
         same with `--replace {word}`"
    )]
    Occupied {
        /// Where.
        place: String,
        /// What is there.
        what: String,
        /// How it is named.
        word: String,
    },
    /// Another state was to be replaced than the one that is there.
    #[error(
        "{place} holds {what}, which is not \"{named}\": nothing was changed; look again what is there"
    )]
    Other {
        /// Where.
        place: String,
        /// What is there.
        what: String,
        /// What was to be replaced.
        named: String,
    },
    /// Something else writes there.
    #[error(
        "{place} does not hold what was written to it: something else writes there; stop it, and run the same restore again"
    )]
    Differs {
        /// Where.
        place: String,
    },
}

/// What is there.
enum Found {
    Nothing,
    /// The same restore broke off.
    Begun,
    State {
        what: String,
        word: String,
    },
}

impl Restoring<'_> {
    /// Restores the backup. Nobody may use the store meanwhile.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub async fn run(&self) -> Result<Restored, RestoreError> {
        let found = self.look().await?;
        let resumed = matches!(found, Found::Begun);
        self.may_replace(found)?;
        let store = self.into.store;
        let mark = Mark { place: self.backup.id.clone(), ca: self.backup.header.ca.clone() };
        self.of(marks::write(store, RESTORING, Some(&mark)).await)?;
        let header = &self.backup.header;
        let owner = Owner {
            format: header.state_format,
            trust_domain: header.trust_domain.clone(),
            ca: header.ca.clone(),
        };
        self.of(owner::name_restored(store, &owner).await)?;
        let mut counts = BTreeMap::new();
        for space in spaces::ALL.into_iter().filter(|space| *space != spaces::META) {
            let wanted = self.wanted(space);
            self.of(made_the_same(store, space, &wanted).await)?;
            if self.of(keys(store, space).await.map_err(Into::into))? != wanted {
                return Err(RestoreError::Differs { place: self.into.name.to_owned() });
            }
            if !wanted.is_empty() {
                counts.insert(space.name(), wanted.len());
            }
        }
        self.of(marks::write(store, RESTORED, Some(&mark)).await)?;
        self.of(marks::write(store, MOVED, None).await)?;
        self.of(marks::write(store, RESTORING, None).await)?;
        Ok(Restored { owner, keys: counts, resumed })
    }

    fn wanted(&self, space: Space) -> Keys {
        self.backup.of(space).map(|(id, value)| (id.clone(), value.clone())).collect()
    }

    fn of<T>(&self, done: Result<T, OwnerError>) -> Result<T, RestoreError> {
        done.map_err(|error| RestoreError::Store { place: self.into.name.to_owned(), error })
    }

    fn may_replace(&self, found: Found) -> Result<(), RestoreError> {
        let Found::State { what, word } = found else { return Ok(()) };
        let place = self.into.name.to_owned();
        match self.replaces {
            Some(named) if named == word => Ok(()),
            Some(named) => Err(RestoreError::Other { place, what, named: named.to_owned() }),
            None => Err(RestoreError::Occupied { place, what, word }),
        }
    }

    async fn look(&self) -> Result<Found, RestoreError> {
        let store = self.into.store;
        let mark = async |name| self.of(marks::read(store, name).await.map_err(Into::into));
        if let Some(begun) = mark(RESTORING).await? {
            if begun.place == self.backup.id {
                return Ok(Found::Begun);
            }
            let what =
                format!("what a restore of another backup ({}) has begun", short(&begun.place));
            return Ok(Found::State { what, word: UNFINISHED.to_owned() });
        }
        if let Some(moving) = mark(MOVING).await? {
            return self.of(Err(OwnerError::Unfinished { from: moving.place }));
        }
        let owner = match owner::named(store).await {
            Err(OwnerError::Nameless { space }) => {
                let what = format!("the space {space}, and does not say whose it is");
                return Ok(Found::State { what, word: DAMAGED.to_owned() });
            }
            other => self.of(other)?,
        };
        let Some(owner) = owner else { return Ok(Found::Nothing) };
        let header = &self.backup.header;
        if owner.trust_domain != header.trust_domain {
            return Err(RestoreError::Foreign {
                place: self.into.name.to_owned(),
                found: owner.trust_domain,
                backup: header.trust_domain.clone(),
            });
        }
        if let Some(moved) = mark(MOVED).await? {
            let what = format!("a state that was moved to {}", moved.place);
            return Ok(Found::State { what, word: GONE.to_owned() });
        }
        self.of_a_ca().await
    }

    /// The state of a CA: its generation names it.
    async fn of_a_ca(&self) -> Result<Found, RestoreError> {
        let record = settle::all(self.into.store, RECORD).await;
        let record = self.of(record.map_err(Into::into))?;
        let generation = record.first().map(|entry| {
            let kept = SharedRecord::kept(&entry.value).ok()?;
            rotation::record::decode(&kept.stored.record).ok().map(|state| state.generation)
        });
        let (what, word) = match generation {
            None => ("a CA that has no record yet".to_owned(), "0".to_owned()),
            Some(Some(generation)) => (
                format!("the state of this trust domain at generation {generation}"),
                generation.to_string(),
            ),
            Some(None) => ("a state whose record cannot be read".to_owned(), DAMAGED.to_owned()),
        };
        Ok(Found::State { what, word })
    }
}

/// What was released since the backup is counted in the record: the state is one like any other.
///
/// # Errors
/// [`OwnerError`]; the next start does it again.
pub async fn recovered(store: &dyn SharedStore) -> Result<(), OwnerError> {
    match counted(store).await {
        // Another server was first.
        Err(OwnerError::Write(WriteError::Conflict { .. })) => Ok(()),
        done => done,
    }
}

async fn counted(store: &dyn SharedStore) -> Result<(), OwnerError> {
    if marks::read(store, RESTORED).await?.is_none() {
        return Ok(());
    }
    // From here on a former release may start on it.
    if let Some(owner) = owner::named(store).await? {
        owner::name(store, &owner).await?;
    }
    marks::write(store, RESTORED, None).await
}
