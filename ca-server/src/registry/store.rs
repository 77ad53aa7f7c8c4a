//! The registry's file: `registry.redb`, one table each for tokens, agents, subscribers and words about shared roots.

use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use host::Disk;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trust::RootId;

use super::rows::{AgentRow, SubscriberRow, TokenHash, TokenRow, VouchedRow};
use super::tiers::TierRow;

const TOKENS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("join_tokens_v1");
const AGENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("agents_v1");
/// Files of the first releases have none; it is made with the first subscriber.
const SUBSCRIBERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("subscribers_v1");
/// As for subscribers: made with the first word. By fingerprint.
const VOUCHED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("vouched_roots_v1");
/// As for subscribers: made with the first tier.
const TIERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tiers_v1");

/// Everything in the registry. It is small, so all of it is in memory too.
#[derive(Debug, Default, Clone)]
pub(super) struct Tables {
    pub(super) tokens: HashMap<TokenHash, TokenRow>,
    pub(super) agents: HashMap<String, AgentRow>,
    pub(super) subscribers: BTreeMap<String, SubscriberRow>,
    pub(super) vouched: BTreeMap<RootId, VouchedRow>,
    pub(super) tiers: BTreeMap<String, TierRow>,
}

/// What one write changes.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Tokens to store, or to remove.
    pub(super) tokens: Vec<(TokenHash, Option<TokenRow>)>,
    /// Agents to store.
    pub(super) agents: Vec<(String, AgentRow)>,
    /// Subscribers to store, or to remove.
    pub(super) subscribers: Vec<(String, Option<SubscriberRow>)>,
    /// Words to store.
    pub(super) vouched: Vec<(RootId, VouchedRow)>,
    /// Tiers to store, or to remove.
    pub(super) tiers: Vec<(String, Option<TierRow>)>,
}

/// The registry's file could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("the registry of agents {} cannot be read ({reason}): keep the file and restore the latest backup of the data directory", path.display())]
pub struct RegistryUnreadable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

/// Opens the file and reads all of it. A file that was altered outside redb is refused and not trusted.
pub(super) fn open(path: &Path) -> Result<(Database, Tables), RegistryUnreadable> {
    let read = || -> Result<(Database, Tables), Box<dyn std::error::Error>> {
        let database = builder().open(path)?;
        let tables = load(&database)?;
        Ok((database, tables))
    };
    read().map_err(|error| unreadable(path, error.as_ref()))
}

/// Makes the file when there is none: under another name first, so that a crash leaves no file that is there and not
/// complete.
pub(super) fn create_if_missing(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    if path.try_exists()? {
        return Ok(());
    }
    let unfinished = path.with_extension("redb.unfinished");
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).open(&unfinished)?;
    lay_out(&unfinished).map_err(io::Error::other)?;
    disk.rename(&unfinished, path)
}

fn lay_out(path: &Path) -> Result<(), redb::Error> {
    let database = builder().create(path)?;
    let transaction = database.begin_write()?;
    transaction.open_table(TOKENS)?;
    transaction.open_table(AGENTS)?;
    transaction.commit()?;
    Ok(database.close()?)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(4 << 20).set_check_integrity_on_open(true);
    builder
}

fn unreadable(path: &Path, error: &dyn std::error::Error) -> RegistryUnreadable {
    RegistryUnreadable { path: path.to_owned(), reason: error.to_string() }
}

fn load(database: &Database) -> Result<Tables, Box<dyn std::error::Error>> {
    let mut tables = Tables::default();
    let transaction = database.begin_read()?;
    for row in transaction.open_table(TOKENS)?.iter()? {
        let (hash, row) = row?;
        tables.tokens.insert(*hash.value(), decoded(row.value())?);
    }
    for row in transaction.open_table(AGENTS)?.iter()? {
        let (name, row) = row?;
        tables.agents.insert(name.value().to_owned(), decoded(row.value())?);
    }
    match transaction.open_table(SUBSCRIBERS) {
        Ok(table) => {
            for row in table.iter()? {
                let (name, row) = row?;
                tables.subscribers.insert(name.value().to_owned(), decoded(row.value())?);
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    match transaction.open_table(VOUCHED) {
        Ok(table) => {
            for row in table.iter()? {
                let (root, row) = row?;
                let root = root.value().parse().map_err(|_| format!("{:?} is no root", root.value()))?;
                tables.vouched.insert(root, decoded(row.value())?);
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    match transaction.open_table(TIERS) {
        Ok(table) => {
            for row in table.iter()? {
                let (name, row) = row?;
                tables.tiers.insert(name.value().to_owned(), decoded(row.value())?);
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(tables)
}

/// Stores a change durably, all of it or nothing.
pub(super) fn write(database: &Database, change: &Change) -> Result<(), Box<dyn std::error::Error>> {
    let transaction = database.begin_write()?;
    {
        let mut tokens = transaction.open_table(TOKENS)?;
        for (hash, row) in &change.tokens {
            match row {
                Some(row) => drop(tokens.insert(hash, encoded(row)?.as_slice())?),
                None => drop(tokens.remove(hash)?),
            }
        }
        let mut agents = transaction.open_table(AGENTS)?;
        for (name, row) in &change.agents {
            agents.insert(name.as_str(), encoded(row)?.as_slice())?;
        }
        let mut subscribers = transaction.open_table(SUBSCRIBERS)?;
        for (name, row) in &change.subscribers {
            match row {
                Some(row) => drop(subscribers.insert(name.as_str(), encoded(row)?.as_slice())?),
                None => drop(subscribers.remove(name.as_str())?),
            }
        }
        let mut vouched = transaction.open_table(VOUCHED)?;
        for (root, row) in &change.vouched {
            vouched.insert(root.to_string().as_str(), encoded(row)?.as_slice())?;
        }
        let mut tiers = transaction.open_table(TIERS)?;
        for (name, row) in &change.tiers {
            match row {
                Some(row) => drop(tiers.insert(name.as_str(), encoded(row)?.as_slice())?),
                None => drop(tiers.remove(name.as_str())?),
            }
        }
    }
    Ok(transaction.commit()?)
}

impl Tables {
    /// Takes over a change that is durable.
    pub(super) fn apply(&mut self, change: Change) {
        for (hash, row) in change.tokens {
            match row {
                Some(row) => self.tokens.insert(hash, row),
                None => self.tokens.remove(&hash),
            };
        }
        self.agents.extend(change.agents);
        self.vouched.extend(change.vouched);
        for (name, row) in change.tiers {
            match row {
                Some(row) => self.tiers.insert(name, row),
                None => self.tiers.remove(&name),
            };
        }
        for (name, row) in change.subscribers {
            match row {
                Some(row) => self.subscribers.insert(name, row),
                None => self.subscribers.remove(&name),
            };
        }
    }
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes)
}

fn encoded<T: Serialize>(row: &T) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(row)
}
