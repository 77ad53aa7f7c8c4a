//! Opens the state that all servers of the CA share, and makes sure that it is this CA's.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ca_state::{Owner, OwnerError};
use stores::{ReadError, SharedStore, WriteError};
use stores_etcd::EtcdStore;
use stores_kubernetes::KubernetesStore;
use stores_redb::RedbStore;

use super::blocking::blocking;
use super::former;
use super::given::Given;
use super::{BootError, layout};
use crate::config::StoreConfig;

/// Pauses between tries while a store does not answer: they double up to the last.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Opens the store of the configuration, or makes it at the first start; nothing else may be made before it. A store on
/// other machines that does not answer is waited for.
pub(super) async fn open(given: Given<'_>) -> Result<Arc<dyn SharedStore>, BootError> {
    let Given { config, embedding, .. } = given;
    match config.store() {
        StoreConfig::Redb => {
            let store = embedding.store(Arc::new(in_the_directory(given).await?));
            let place = given.layout.paths.state().display().to_string();
            claimed(store.as_ref(), given).await.map_err(|error| not_ours(&place, error))?;
            Ok(store)
        }
        StoreConfig::Etcd(etcd) => {
            let store = Arc::new(EtcdStore::new(etcd.settings().clone()));
            elsewhere(given, etcd.place(), store).await
        }
        StoreConfig::Kubernetes(cluster) => {
            let store = Arc::new(KubernetesStore::new(cluster.settings().clone()));
            elsewhere(given, cluster.place(), store).await
        }
    }
}

/// The file in the data directory. What a former release kept there is taken over.
async fn in_the_directory(given: Given<'_>) -> Result<RedbStore, BootError> {
    let Given { layout, deps, .. } = given;
    let path = layout.paths.state();
    former::take_over(given).await?;
    let fresh = match exists(&path)? {
        true => false,
        false => match layout.trace()? {
            Some(found) => return Err(BootError::StateLost { state: path, found }),
            None => true,
        },
    };
    let disk = Arc::clone(&deps.disk);
    let opened = blocking(move || match fresh {
        true => RedbStore::create(disk, &path),
        false => RedbStore::open(disk, &path),
    });
    Ok(opened.await??)
}

async fn elsewhere(
    given: Given<'_>,
    place: &str,
    store: Arc<dyn SharedStore>,
) -> Result<Arc<dyn SharedStore>, BootError> {
    let Given { layout, embedding, .. } = given;
    // A state in files is another state: two would be two CAs.
    let (state, record) = (layout.paths.state(), former::record(&layout.paths));
    let here = exists(&record)? || (exists(&state)? && !went_elsewhere(given).await?);
    if here {
        let path = if exists(&record)? { record } else { state };
        return Err(BootError::StateHere { path, place: place.to_owned() });
    }
    let trace = layout.trace()?;
    let store = embedding.store(store);
    let mut pause = PAUSE_FIRST;
    loop {
        let claimed = match (ca_state::owner(store.as_ref()).await, &trace) {
            (Ok(None), Some(found)) => {
                return Err(BootError::StateElsewhereLost {
                    place: place.to_owned(),
                    found: found.clone(),
                });
            }
            (Err(error), _) => Err(error),
            _ => claimed(store.as_ref(), given).await,
        };
        let reason = match claimed {
            Ok(_) => return Ok(store),
            Err(error) if is_away(&error) => error,
            Err(error) => return Err(not_ours(place, error)),
        };
        tracing::warn!(
            store = place, %reason, again_in = pause.as_secs(),
            "the store of the CA's state cannot be used yet, for the reason that this line names: this server waits for it, and serves nothing meanwhile"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether the state in the data directory says that it was moved.
async fn went_elsewhere(given: Given<'_>) -> Result<bool, BootError> {
    let (disk, path) = (Arc::clone(&given.deps.disk), given.layout.paths.state());
    let store = blocking(move || RedbStore::open(disk, &path)).await??;
    Ok(ca_state::moved_to(&store).await.map_err(BootError::NotRead)?.is_some())
}

async fn claimed(store: &dyn SharedStore, given: Given<'_>) -> Result<Owner, OwnerError> {
    let Given { config, deps, .. } = given;
    ca_state::claim(store, config.trust_domain(), deps.randomness.as_ref()).await
}

/// Whether another try may find it otherwise.
const fn is_away(error: &OwnerError) -> bool {
    match error {
        OwnerError::Read(ReadError::Failed { .. }) => true,
        OwnerError::Write(error) => !matches!(error, WriteError::Conflict { .. }),
        _ => false,
    }
}

fn not_ours(place: &str, error: OwnerError) -> BootError {
    BootError::State { place: place.to_owned(), error }
}

fn exists(path: &Path) -> Result<bool, BootError> {
    layout::exists(path)
}
