//! Opens the state that all servers of the CA share, and makes sure that it is this CA's.

use std::path::Path;
use std::sync::Arc;

use ca_state::{Owner, OwnerError};
use stores::SharedStore;
use stores_etcd::EtcdStore;
use stores_kubernetes::KubernetesStore;
use stores_redb::RedbStore;

use super::blocking::blocking;
use super::former;
use super::given::Given;
use super::patience::Patient;
use super::{BootError, layout};
use crate::config::StoreConfig;

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
    let Given { layout, embedding, patience, .. } = given;
    // A state in files is another state: two would be two CAs.
    let (state, record) = (layout.paths.state(), former::record(&layout.paths));
    let here = exists(&record)? || (exists(&state)? && !went_elsewhere(given).await?);
    if here {
        let path = if exists(&record)? { record } else { state };
        return Err(BootError::StateHere { path, place: place.to_owned() });
    }
    let trace = layout.trace()?;
    let store = Patient::new(embedding.store(store), place, patience.clone());
    let claimed = match (ca_state::owner(&store).await, &trace) {
        (Ok(None), Some(found)) => {
            return Err(BootError::StateElsewhereLost {
                place: place.to_owned(),
                found: found.clone(),
            });
        }
        (Err(error), _) => Err(error),
        _ => claimed(&store, given).await,
    };
    claimed.map_err(|error| not_ours(place, error))?;
    Ok(Arc::new(store))
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

fn not_ours(place: &str, error: OwnerError) -> BootError {
    BootError::State { place: place.to_owned(), error }
}

fn exists(path: &Path) -> Result<bool, BootError> {
    layout::exists(path)
}
