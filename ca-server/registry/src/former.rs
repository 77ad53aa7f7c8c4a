//! `registry.redb`, the file of its own that the registry had before it moved into the shared store: how it is read, and taken
//! over.

use std::collections::HashSet;
use std::path::Path;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use redb::{
    Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError,
};
use serde::de::DeserializeOwned;
use stores::{SharedStore, settle};

use crate::ban_row::Ban;
use crate::error::TakeOverError;
use crate::row::{Kind, Row};

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
/// Rows that are written at once.
const AT_ONCE: usize = 64;

/// Takes the rows of a former file over into the store, and answers how many rows the file has. A key that is there already stays
/// as it is, so it does no harm to stop at any row and to begin anew. Once it has succeeded and a server has used the store it must
/// not be called again: what was removed since would come back.
///
/// Bans are written first, and agents after everything that refuses one.
///
/// # Errors
/// [`TakeOverError`]; the rows in the file are never changed.
pub async fn take_over(path: &Path, store: &dyn SharedStore) -> Result<u64, TakeOverError> {
    let file = path.to_owned();
    let read = tokio::task::spawn_blocking(move || rows(&file)).await;
    let unreadable = |reason| TakeOverError::File { path: path.to_owned(), reason };
    let rows = read.unwrap_or_else(|error| Err(error.to_string())).map_err(unreadable)?;
    for kind in Kind::ALL {
        let there = settle::all(store, kind.space()).await?;
        let there: HashSet<_> = there.into_iter().map(|entry| entry.id).collect();
        let missing = rows.iter().filter(|row| row.kind() == kind && !there.contains(&row.id()));
        let writes = stream::iter(missing).map(|row| written(store, row)).buffer_unordered(AT_ONCE);
        writes.try_for_each(|()| async { Ok(()) }).await?;
    }
    Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX))
}

async fn written(store: &dyn SharedStore, row: &Row) -> Result<(), TakeOverError> {
    let odd = |error: &dyn std::fmt::Display| TakeOverError::Row {
        row: format!("{}/{}", row.kind().space().name(), row.id()),
        reason: error.to_string(),
    };
    let key = row.kind().key(&row.id()).map_err(|error| odd(&error))?;
    let value = row.value(&key).map_err(|error| odd(&error))?.unwrap_or_default();
    settle::create(store, &key, &value).await?;
    Ok(())
}

/// Every row of a file. One that was altered outside redb is refused.
pub(crate) fn rows(path: &Path) -> Result<Vec<Row>, String> {
    let read = || -> Result<Vec<Row>, Box<dyn std::error::Error>> { load(&builder().open(path)?) };
    read().map_err(|error| error.to_string())
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(4 << 20).set_check_integrity_on_open(true);
    builder
}

fn load(database: &Database) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let mut rows = Vec::new();
    let transaction = database.begin_read()?;
    for row in transaction.open_table(TOKENS)?.iter()? {
        let (hash, row) = row?;
        rows.push(Row::Token(*hash.value(), Some(decoded(row.value())?)));
    }
    let named = |(name, row)| Row::Agent(name, Some(row));
    rows.extend(table(&transaction, AGENTS)?.into_iter().map(named));
    let named = |(name, row)| Row::RelyingParty(name, Some(row));
    rows.extend(table(&transaction, RELYING_PARTIES)?.into_iter().map(named));
    let named = |(name, row)| Row::Downstream(name, Some(row));
    rows.extend(table(&transaction, DOWNSTREAMS)?.into_iter().map(named));
    let named = |(name, row)| Row::Ban(name, Some(Ban::for_good(row)));
    rows.extend(table(&transaction, BANS)?.into_iter().map(named));
    for (root, row) in table(&transaction, ATTESTED)? {
        let root = root.parse().map_err(|_| format!("{root:?} is no root"))?;
        rows.push(Row::Attested(root, Some(row)));
    }
    if let Some(table) = present(transaction.open_table(ACTS))? {
        for row in table.iter()? {
            let (index, row) = row?;
            rows.push(Row::Act(index.value(), Some(decoded(row.value())?)));
        }
    }
    if let Some(table) = present(transaction.open_table(SERVED))?
        && let Some(secs) = table.get(SERVED_SECS)?
    {
        rows.push(Row::Served(Some(secs.value())));
    }
    Ok(rows)
}

/// A table that is there from its first row on.
fn present<T>(opened: Result<T, TableError>) -> Result<Option<T>, TableError> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn table<T: DeserializeOwned>(
    transaction: &redb::ReadTransaction,
    table: TableDefinition<'_, &str, &[u8]>,
) -> Result<Vec<(String, T)>, Box<dyn std::error::Error>> {
    let mut rows = Vec::new();
    let Some(table) = present(transaction.open_table(table))? else { return Ok(rows) };
    for row in table.iter()? {
        let (name, row) = row?;
        rows.push((name.value().to_owned(), decoded(row.value())?));
    }
    Ok(rows)
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes)
}
