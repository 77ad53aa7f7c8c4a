//! Whether a cluster answers, and whether the server's account there has the rights that the configuration needs.

use auth::authn::jwks::{KEY_SET_LEN_MAX, check};

use crate::api::{Api, Failed, Right};
use crate::settings::{ClusterSettings, Judged};

/// The rights that a cluster's section needs.
pub(crate) fn rights(settings: &ClusterSettings) -> Vec<Right> {
    let tokens = match settings.judged {
        Judged::ByReview => Some(Right::REVIEW),
        Judged::ByKeySet => Some(Right::KEY_SET),
        Judged::ByKeySetAt(_) => None,
    };
    let pods = [Right::LIST_PODS, Right::WATCH_PODS];
    let pods = pods.into_iter().filter(|_| !settings.node_accounts.is_empty());
    tokens.into_iter().chain(pods).collect()
}

/// Those that are missing.
pub(crate) async fn missing(api: &Api, rights: &[Right]) -> Result<Vec<Right>, Failed> {
    let mut missing = Vec::new();
    for right in rights {
        if !api.may(*right).await? {
            missing.push(*right);
        }
    }
    Ok(missing)
}

/// What is wrong while rights are missing.
pub(crate) fn told(missing: &[Right]) -> String {
    let rights: Vec<_> = missing.iter().map(Right::told).collect();
    format!(
        "this server's account there lacks the right to {}: add it to its ClusterRole",
        rights.join(", and to ")
    )
}

/// Looks at a cluster as a server of these settings would use it, and changes nothing: what is wrong, one sentence each.
pub async fn look(settings: &ClusterSettings) -> Vec<String> {
    let api = Api::new(settings.access.clone(), settings.timeout);
    let mut wrong = Vec::new();
    match missing(&api, &rights(settings)).await {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => wrong.push(told(&missing)),
        Err(failed) => {
            wrong.push(format!("its API server cannot be asked: {}", failed.text()));
            return wrong;
        }
    }
    let keys = match &settings.judged {
        Judged::ByReview => return wrong,
        Judged::ByKeySet => {
            api.key_set(KEY_SET_LEN_MAX).await.map_err(|failed| failed.text().to_owned())
        }
        Judged::ByKeySetAt(address) => address.fetch(settings.timeout, KEY_SET_LEN_MAX).await,
    };
    let judged = keys.and_then(|bytes| check(&bytes).map_err(|fault| fault.to_string()));
    wrong.extend(judged.err().map(|why| format!("its key set would not be taken: {why}")));
    wrong
}
