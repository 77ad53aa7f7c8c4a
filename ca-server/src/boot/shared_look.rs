//! A look at a store that several servers share, before a start: whether it answers, and whose state it has.

use std::time::Duration;

use ca_state::{Owner, OwnerError};
use plugins::ConfigProblem;
use stores::{ReadError, SharedStore};

use super::HostDeps;
use super::layout::exists;
use super::moving::{name, opened};
use crate::config::{Config, StoreConfig};

/// Longest wait for a store: whoever checks a file waits for the answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What a server of this configuration would find wrong with the store that it shares with others. Changes nothing, so that a missing
/// right to write is not told.
pub(super) async fn problems(config: &Config) -> Vec<ConfigProblem> {
    let field = match config.store() {
        StoreConfig::Redb => return Vec::new(),
        StoreConfig::Etcd(_) => "store.endpoints",
        StoreConfig::Kubernetes(_) => "store.namespace",
    };
    let store = match opened(config, &HostDeps::system(), false).await {
        Ok(store) => store,
        Err(error) => return vec![ConfigProblem::new("store", error.to_string())],
    };
    let told = look(config, store.as_ref()).await;
    told.map(|problem| ConfigProblem::new(field, format!("{}: {problem}", name(config))))
        .into_iter()
        .collect()
}

async fn look(config: &Config, store: &dyn SharedStore) -> Option<String> {
    let looked = tokio::time::timeout(ANSWERS_WITHIN, ca_state::owner(store)).await;
    let ours = config.trust_domain();
    match looked {
        Err(_) => Some(format!(
            "it gave no answer within {} s; a server would wait for it",
            ANSWERS_WITHIN.as_secs()
        )),
        Ok(Err(OwnerError::Read(error @ ReadError::Failed { .. }))) => {
            Some(format!("{error}; a server would wait for it"))
        }
        Ok(Err(error)) => Some(error.to_string()),
        Ok(Ok(Some(Owner { trust_domain, .. }))) if trust_domain != ours.as_str() => {
            Some(OwnerError::Foreign { found: trust_domain, ours: ours.clone() }.to_string())
        }
        Ok(Ok(Some(_))) => None,
        Ok(Ok(None)) => {
            let keys = control::paths::Paths::below(config.data_dir().to_owned()).keys();
            exists(&keys).is_ok_and(|there| there).then(|| {
                format!(
                    "it holds no CA, but {} is there: a server would not start, since it lost its state",
                    keys.display()
                )
            })
        }
    }
}
