//! The state of a CA goes to another store while no server of it runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ca_state::{MoveError, Moved, Place};
use host::{DirLock, DirLockError};
use replicas::{ReplicaRow, Standing, UnreadableRow};
use stores::spaces::REPLICAS;
use stores::{Entry, ReadError, SharedStore, settle};
use stores_etcd::EtcdStore;
use stores_kubernetes::KubernetesStore;
use stores_redb::RedbStore;

use super::HostDeps;
use super::blocking::blocking;
use super::error::BootError;
use crate::config::{Config, StoreConfig};

/// Why a state was not moved.
#[derive(Debug, thiserror::Error)]
pub enum StateMoveError {
    /// What a server wrote of itself cannot be read, so nobody knows whether it runs.
    #[error(transparent)]
    Server(#[from] UnreadableRow),
    /// The two files are about more than two places.
    #[error("{0}: the two files may differ in [store] alone")]
    Different(&'static str),
    /// They name one place.
    #[error(
        "both files name {0}: write the section [store] of the place that the state shall go to"
    )]
    SamePlace(String),
    /// A server runs.
    #[error(transparent)]
    Locked(#[from] DirLockError),
    /// A server of this CA runs on another machine.
    #[error("the server {name} of this CA runs: stop it first (it wrote to {place} just now)")]
    Runs {
        /// Its name.
        name: String,
        /// The store.
        place: String,
    },
    /// A store could not be opened.
    #[error(transparent)]
    Store(#[from] BootError),
    /// A store could not be read.
    #[error("{place}: {error}")]
    Read {
        /// Which.
        place: String,
        /// Why not.
        error: ReadError,
    },
    /// It could not be moved.
    #[error(transparent)]
    Move(#[from] MoveError),
}

/// Moves the state of a CA from the store of one configuration to that of another.
///
/// # Errors
/// [`StateMoveError`]; run it again.
pub(super) async fn move_state(
    config: &Config,
    target: &Config,
    deps: &HostDeps,
) -> Result<Moved, StateMoveError> {
    if config.trust_domain() != target.trust_domain() {
        return Err(StateMoveError::Different("the trust domains differ"));
    }
    if config.data_dir() != target.data_dir() {
        return Err(StateMoveError::Different("the data directories differ"));
    }
    if config.store() == target.store() {
        return Err(StateMoveError::SamePlace(name(config)));
    }
    let _lock = DirLock::acquire(config.data_dir())?;
    let (from_name, to_name) = (name(config), name(target));
    let from = opened(config, deps, false).await?;
    let to = opened(target, deps, true).await?;
    for (place, store) in [(&from_name, &from), (&to_name, &to)] {
        nobody_runs(place, store.as_ref()).await?;
    }
    let from = Place { store: from.as_ref(), name: &from_name };
    let to = Place { store: to.as_ref(), name: &to_name };
    Ok(ca_state::move_state(from, to).await?)
}

/// How people call the place of the state.
pub(super) fn name(config: &Config) -> String {
    match config.store() {
        StoreConfig::Redb => path(config).display().to_string(),
        StoreConfig::Etcd(etcd) => etcd.place().to_owned(),
        StoreConfig::Kubernetes(cluster) => cluster.place().to_owned(),
    }
}

fn path(config: &Config) -> std::path::PathBuf {
    control::paths::Paths::below(config.data_dir().to_owned()).state()
}

/// The store of a configuration; a file that is missing is made if wanted.
pub(super) async fn opened(
    config: &Config,
    deps: &HostDeps,
    make: bool,
) -> Result<Arc<dyn SharedStore>, BootError> {
    match config.store() {
        StoreConfig::Etcd(etcd) => Ok(Arc::new(EtcdStore::new(etcd.settings().clone()))),
        StoreConfig::Kubernetes(cluster) => {
            Ok(Arc::new(KubernetesStore::new(cluster.settings().clone())))
        }
        StoreConfig::Redb => {
            let (disk, path) = (Arc::clone(&deps.disk), path(config));
            let opened = blocking(move || match make && !Path::exists(&path) {
                true => RedbStore::create(disk, &path),
                false => RedbStore::open(disk, &path),
            });
            Ok(Arc::new(opened.await??))
        }
    }
}

/// That no server renews its lease. The lock of the data directory says it of one machine alone.
pub(super) async fn nobody_runs(
    place: &str,
    store: &dyn SharedStore,
) -> Result<(), StateMoveError> {
    let rows = || async {
        let rows = settle::all(store, REPLICAS).await;
        let rows = rows.map_err(|error| StateMoveError::Read { place: place.to_owned(), error })?;
        Ok::<Vec<Entry>, StateMoveError>(rows)
    };
    let versions = |rows: Vec<Entry>| -> BTreeMap<_, _> {
        rows.into_iter().map(|row| (row.id, row.version)).collect()
    };
    let before = rows().await?;
    let lease = longest_silence(&before)?;
    let before = versions(before);
    if !lease.is_zero() {
        tracing::info!(
            place,
            seconds = lease.as_secs(),
            "looking whether a server of this CA runs"
        );
        tokio::time::sleep(lease).await;
    }
    let now = versions(rows().await?);
    match now.into_iter().find(|(name, version)| before.get(name) != Some(version)) {
        None => Ok(()),
        Some((name, _)) => Err(StateMoveError::Runs { name, place: place.to_owned() }),
    }
}

/// How long a server that lives may say nothing: the longest lease of those that did not stop in order.
fn longest_silence(rows: &[Entry]) -> Result<Duration, UnreadableRow> {
    let leases = rows.iter().map(|row| {
        let row = ReplicaRow::decode(&row.id, &row.value)?;
        Ok(if row.standing == Standing::Stopped { Duration::ZERO } else { row.lease() })
    });
    let leases = leases.collect::<Result<Vec<_>, _>>()?;
    Ok(leases.into_iter().max().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use stores::Version;

    use super::*;

    fn row(name: &str, lease_millis: u64, standing: &str) -> Entry {
        let value = format!(
            "{{\"holder\":\"h\",\"place\":\"p\",\"version\":\"1\",\"reads\":5,\"lease_millis\":{lease_millis},\
             \"beat\":3,\"wall_millis\":0,\"standing\":\"{standing}\"}}"
        );
        Entry { id: name.to_owned(), value: value.into_bytes(), version: Version::new("1") }
    }

    #[test]
    fn a_server_is_waited_for_as_long_as_its_lease_unless_it_stopped_in_order() {
        let silence = |rows: &[Entry]| longest_silence(rows).unwrap().as_secs();
        assert_eq!(silence(&[]), 0);
        assert_eq!(silence(&[row("a", 600_000, "stopped")]), 0);
        assert_eq!(silence(&[row("a", 30_000, "serves"), row("b", 600_000, "drains")]), 600);
        let edited = Entry { value: b"{}".to_vec(), ..row("a", 1, "serves") };
        let said = longest_silence(&[edited]).unwrap_err().to_string();
        assert!(said.contains("replicas/a"), "{said}");
    }
}
