//! Asks root authorities how they are, so that `status` tells of one that is away, or whose state is damaged, before it
//! is needed. Nothing waits for the answers: leaves are issued without any authority.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plugins::call::shown;
use plugins::{CallContext, Health, HealthState, RequestId, RootAuthority};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::instances::Authorities;

/// How often each authority is asked.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// How long one may take to answer.
const CHECK_WITHIN: Duration = Duration::from_secs(10);

/// What is wrong with authorities, by name; empty when all is well.
pub(crate) type AuthorityTroubles = BTreeMap<String, String>;

/// Asks until it is dropped.
pub(super) async fn watch(authorities: Authorities, troubles: watch::Sender<AuthorityTroubles>) {
    let Ok(request_id) = RequestId::parse("health") else { return };
    let context = CallContext::new(request_id, CHECK_WITHIN);
    let mut ticks = tokio::time::interval(CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for (name, authority) in &authorities {
            let trouble = trouble(authority, &context).await;
            troubles.send_if_modified(|troubles| note(troubles, name, trouble));
        }
    }
}

async fn trouble(authority: &Arc<dyn RootAuthority>, context: &CallContext) -> Option<String> {
    let health = tokio::time::timeout(CHECK_WITHIN, authority.check(context)).await;
    let health =
        health.unwrap_or_else(|_| Health::down(format!("no answer within {} s", CHECK_WITHIN.as_secs())));
    (health.state != HealthState::Ok).then(|| shown(&health.detail))
}

fn note(troubles: &mut AuthorityTroubles, name: &str, trouble: Option<String>) -> bool {
    if troubles.get(name) == trouble.as_ref() {
        return false;
    }
    match trouble {
        Some(trouble) => {
            tracing::warn!(
                authority = name,
                trouble,
                "a root authority is not well; leaves are issued without it"
            );
            troubles.insert(name.to_owned(), trouble);
        }
        None => {
            tracing::info!(authority = name, "the root authority is well again");
            troubles.remove(name);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_kept_until_it_is_over() {
        let mut troubles = AuthorityTroubles::new();
        assert!(!note(&mut troubles, "main", None), "well from the start is no news");
        assert!(note(&mut troubles, "main", Some("away".to_owned())));
        assert!(!note(&mut troubles, "main", Some("away".to_owned())));
        assert_eq!(troubles.get("main").map(String::as_str), Some("away"));
        assert!(note(&mut troubles, "main", None) && troubles.is_empty());
    }
}
