//! The registry's file: `registry.redb`, one table each for tokens, agents, relying parties and words about shared roots.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use host::Disk;
use redb::{
    Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trust::RootId;

use crate::rows::{
    ActRow, AgentRow, AttestedRow, BanRow, DownstreamRow, RelyingPartyRow, TokenHash, TokenRow,
};

const TOKENS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("join_tokens_v1");
const AGENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("agents_v1");
/// Files of the first releases have none; it is made with the first relying party.
const RELYING_PARTIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("subscribers_v1");
/// As for relying parties: made with the first word. By fingerprint.
const ATTESTED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("vouched_roots_v1");
/// As for relying parties: made with the first downstream CA.
const DOWNSTREAMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tiers_v1");
/// As for relying parties: made with the first ban. By name.
const BANS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bans_v1");
/// As for relying parties: made with the first act of an operator.
const ACTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("agent_acts_v1");
/// As for relying parties: made when it is first written.
const SERVED: TableDefinition<'_, &str, u64> = TableDefinition::new("served_v1");
const SERVED_SECS: &str = "secs";
/// Acts that are kept.
const ACTS_MAX: usize = 1_000;

/// Everything in the registry. It is small, so all of it is in memory too.
#[derive(Debug, Default, Clone)]
pub(super) struct Tables {
    pub(super) tokens: HashMap<TokenHash, TokenRow>,
    pub(super) agents: BTreeMap<String, AgentRow>,
    /// The agents of each JWT caller. Follows from `agents`.
    pub(super) callers: HashMap<String, BTreeSet<String>>,
    pub(super) bans: BTreeMap<String, BanRow>,
    /// What operators did, oldest first.
    pub(super) acts: VecDeque<(u64, ActRow)>,
    /// For how many seconds servers had served this registry when it was last written down.
    pub(super) served: u64,
    pub(super) relying_parties: BTreeMap<String, RelyingPartyRow>,
    pub(super) attested: BTreeMap<RootId, AttestedRow>,
    pub(super) downstreams: BTreeMap<String, DownstreamRow>,
}

/// What one write changes.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Tokens to store, or to remove.
    pub(super) tokens: Vec<(TokenHash, Option<TokenRow>)>,
    /// Agents to store, or to remove.
    pub(super) agents: Vec<(String, Option<AgentRow>)>,
    /// Bans to store, or to remove.
    pub(super) bans: Vec<(String, Option<BanRow>)>,
    /// Something that an operator did, to be noted with it.
    pub(super) act: Option<ActRow>,
    /// The time served so far.
    pub(super) served: Option<u64>,
    /// Relying parties to store, or to remove.
    pub(super) relying_parties: Vec<(String, Option<RelyingPartyRow>)>,
    /// Words to store.
    pub(super) attested: Vec<(RootId, AttestedRow)>,
    /// Downstream CAs to store, or to remove.
    pub(super) downstreams: Vec<(String, Option<DownstreamRow>)>,
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
        tables.put_agent(name.value().to_owned(), decoded(row.value())?);
    }
    tables.relying_parties = named(&transaction, RELYING_PARTIES)?;
    tables.downstreams = named(&transaction, DOWNSTREAMS)?;
    tables.bans = named(&transaction, BANS)?;
    for (root, row) in named(&transaction, ATTESTED)? {
        tables.attested.insert(root.parse().map_err(|_| format!("{root:?} is no root"))?, row);
    }
    if let Some(table) = present(transaction.open_table(ACTS))? {
        for row in table.iter()? {
            let (index, row) = row?;
            tables.acts.push_back((index.value(), decoded(row.value())?));
        }
    }
    if let Some(table) = present(transaction.open_table(SERVED))? {
        tables.served = table.get(SERVED_SECS)?.map_or(0, |secs| secs.value());
    }
    Ok(tables)
}

/// A table that is there from its first row on.
fn present<T>(opened: Result<T, TableError>) -> Result<Option<T>, TableError> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn named<T: DeserializeOwned>(
    transaction: &redb::ReadTransaction,
    table: TableDefinition<'_, &str, &[u8]>,
) -> Result<BTreeMap<String, T>, Box<dyn std::error::Error>> {
    let mut rows = BTreeMap::new();
    let Some(table) = present(transaction.open_table(table))? else { return Ok(rows) };
    for row in table.iter()? {
        let (name, row) = row?;
        rows.insert(name.value().to_owned(), decoded(row.value())?);
    }
    Ok(rows)
}

/// Stores a change durably, all of it or nothing.
pub(super) fn write(
    database: &Database,
    tables: &Tables,
    change: &Change,
) -> Result<(), Box<dyn std::error::Error>> {
    let transaction = database.begin_write()?;
    {
        let mut tokens = transaction.open_table(TOKENS)?;
        for (hash, row) in &change.tokens {
            match row {
                Some(row) => drop(tokens.insert(hash, encoded(row)?.as_slice())?),
                None => drop(tokens.remove(hash)?),
            }
        }
    }
    put(&transaction, AGENTS, &change.agents)?;
    put(&transaction, BANS, &change.bans)?;
    put(&transaction, RELYING_PARTIES, &change.relying_parties)?;
    put(&transaction, DOWNSTREAMS, &change.downstreams)?;
    let attested: Vec<_> =
        change.attested.iter().map(|(root, row)| (root.to_string(), Some(row.clone()))).collect();
    put(&transaction, ATTESTED, &attested)?;
    if let Some(act) = &change.act {
        let mut acts = transaction.open_table(ACTS)?;
        acts.insert(tables.next_act(), encoded(act)?.as_slice())?;
        for (index, _) in tables.acts.iter().take((tables.acts.len() + 1).saturating_sub(ACTS_MAX))
        {
            acts.remove(index)?;
        }
    }
    if let Some(secs) = change.served {
        transaction.open_table(SERVED)?.insert(SERVED_SECS, secs)?;
    }
    Ok(transaction.commit()?)
}

fn put<T: Serialize>(
    transaction: &redb::WriteTransaction,
    table: TableDefinition<'_, &str, &[u8]>,
    rows: &[(String, Option<T>)],
) -> Result<(), Box<dyn std::error::Error>> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(table)?;
    for (name, row) in rows {
        match row {
            Some(row) => drop(table.insert(name.as_str(), encoded(row)?.as_slice())?),
            None => drop(table.remove(name.as_str())?),
        }
    }
    Ok(())
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
        for (name, row) in change.agents {
            self.drop_agent(&name);
            if let Some(row) = row {
                self.put_agent(name, row);
            }
        }
        if let Some(act) = change.act {
            self.acts.push_back((self.next_act(), act));
            while self.acts.len() > ACTS_MAX {
                self.acts.pop_front();
            }
        }
        self.served = change.served.unwrap_or(self.served);
        self.attested.extend(change.attested);
        applied(&mut self.bans, change.bans);
        applied(&mut self.downstreams, change.downstreams);
        applied(&mut self.relying_parties, change.relying_parties);
    }

    fn next_act(&self) -> u64 {
        self.acts.back().map_or(1, |(index, _)| index + 1)
    }

    fn put_agent(&mut self, name: String, row: AgentRow) {
        if let Some(caller) = &row.caller {
            self.callers.entry(caller.clone()).or_default().insert(name.clone());
        }
        self.agents.insert(name, row);
    }

    fn drop_agent(&mut self, name: &str) {
        let Some(caller) = self.agents.remove(name).and_then(|row| row.caller) else { return };
        if let Some(names) = self.callers.get_mut(&caller) {
            names.remove(name);
            if names.is_empty() {
                self.callers.remove(&caller);
            }
        }
    }
}

fn applied<T>(rows: &mut BTreeMap<String, T>, change: Vec<(String, Option<T>)>) {
    for (name, row) in change {
        match row {
            Some(row) => rows.insert(name, row),
            None => rows.remove(&name),
        };
    }
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes)
}

fn encoded<T: Serialize>(row: &T) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(row)
}
