//! Asks root authorities how they are, so that `status` tells of one that is away, or whose state is damaged, before it
//! is needed. Nothing waits for the answers: leaves are issued without any authority.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plugins::call::shown;
use plugins::{CallContext, Health, HealthState, RequestId, RootAuthority};
use rotation_driver::Trouble;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::metered::Authorities;

/// How often each authority is asked.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// How long one may take to answer.
const CHECK_WITHIN: Duration = Duration::from_secs(10);

/// What authorities say that is not only a note, by name; empty when all is well.
pub type AuthorityTroubles = BTreeMap<String, AuthorityTrouble>;

/// What one authority says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityTrouble {
    /// What it says.
    pub text: String,
    /// Whether it only waits for a person, and nothing is wrong.
    pub waits: bool,
}

/// Asks until it is dropped: every so often, and at once when an authority is owed something that it does not give, for that
/// is when it may have begun to wait for a person, or for another thing than before.
pub async fn watch(
    authorities: Authorities,
    mut owed: watch::Receiver<Arc<[Trouble]>>,
    troubles: watch::Sender<AuthorityTroubles>,
) {
    let Ok(request_id) = RequestId::parse("health") else { return };
    let context = CallContext::new(request_id, CHECK_WITHIN);
    let mut ticks = tokio::time::interval(CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut notes = BTreeMap::new();
    let mut lacking = lacks(&owed.borrow_and_update());
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = owed.changed() => {
                let now = lacks(&owed.borrow_and_update());
                if std::mem::replace(&mut lacking, now.clone()) == now {
                    continue;
                }
            }
        }
        for (name, authority) in &authorities {
            let health = health(authority, &context).await;
            noted(&mut notes, name, &health);
            let trouble = (health.state != HealthState::Ok || health.waits)
                .then(|| AuthorityTrouble { text: shown(&health.detail), waits: health.waits });
            troubles.send_if_modified(|troubles| note(troubles, name, trouble));
        }
    }
}

/// What is not given, and why; how often it was asked for is no news.
fn lacks(owed: &[Trouble]) -> Vec<(String, String)> {
    owed.iter()
        .map(|trouble| (trouble.pending.effect.idempotence_key(), trouble.last.to_string()))
        .collect()
}

/// What an authority that is well says: it is told once in the log, and whoever asks sees it.
fn noted(notes: &mut BTreeMap<String, String>, name: &str, health: &Health) {
    let note = if health.state == HealthState::Ok && !health.waits {
        shown(&health.detail)
    } else {
        String::new()
    };
    if notes.get(name).map(String::as_str).unwrap_or_default() != note {
        if !note.is_empty() {
            tracing::warn!(authority = name, note, "a root authority has something to say");
        }
        notes.insert(name.to_owned(), note);
    }
}

async fn health(authority: &Arc<dyn RootAuthority>, context: &CallContext) -> Health {
    let health = tokio::time::timeout(CHECK_WITHIN, authority.check(context)).await;
    health
        .unwrap_or_else(|_| Health::down(format!("no answer within {} s", CHECK_WITHIN.as_secs())))
}

fn note(troubles: &mut AuthorityTroubles, name: &str, trouble: Option<AuthorityTrouble>) -> bool {
    if troubles.get(name) == trouble.as_ref() {
        return false;
    }
    match trouble {
        Some(trouble) if trouble.waits => {
            tracing::info!(
                authority = name,
                waits_for = trouble.text,
                "a root authority waits for a person"
            );
            troubles.insert(name.to_owned(), trouble);
        }
        Some(trouble) => {
            tracing::warn!(
                authority = name,
                trouble = trouble.text,
                "a root authority is unhealthy; issuance continues without it"
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
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use plugins::{IssuerChain, IssuerRequest, Outcome, PluginError, RootSet, Ticket};
    use rotation::{AuthorityName, Effect, PendingEffect};
    use rotation_driver::EffectError;
    use trust::Generation;

    use super::*;

    /// Waits for a person from the second time on that it is asked.
    #[derive(Debug, Default)]
    struct Person(AtomicU32);

    #[async_trait]
    impl RootAuthority for Person {
        fn describe(&self) -> plugins::Description {
            plugins::Description::new("offline", "person", "1")
        }

        async fn check(&self, _: &CallContext) -> Health {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Health::ok(),
                _ => Health::waiting("ceremony root-1: carry it to the offline machine"),
            }
        }

        async fn roots(&self, _: &CallContext) -> Result<RootSet, PluginError> {
            Ok(RootSet::new(Vec::new(), None, 0))
        }

        async fn sign_issuer(
            &self,
            _: &CallContext,
            _: &IssuerRequest,
        ) -> Result<Outcome<IssuerChain>, PluginError> {
            Err(PluginError::Denied { reason: "not asked here".to_owned() })
        }

        async fn poll(
            &self,
            _: &CallContext,
            _: &Ticket,
        ) -> Result<Outcome<IssuerChain>, PluginError> {
            Err(PluginError::Denied { reason: "not asked here".to_owned() })
        }
    }

    #[tokio::test]
    async fn an_authority_is_asked_as_soon_as_it_owes_something_and_not_only_every_half_minute() {
        let person = Arc::new(Person::default());
        let authority = Arc::<Person>::clone(&person);
        let authorities =
            Authorities::from([("offline".to_owned(), authority as Arc<dyn RootAuthority>)]);
        let (owe, owed) = watch::channel(Arc::<[Trouble]>::from([]));
        let (tell, mut told) = watch::channel(AuthorityTroubles::new());
        let asking = tokio::spawn(watch(authorities, owed, tell));
        while person.0.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let effect = Effect::StageRoot {
            authority: AuthorityName::parse("offline").unwrap(),
            request_id: "one".parse().unwrap(),
        };
        let pending = PendingEffect { effect, generation: Generation(1) };
        let last = EffectError::NotYet { reason: "a person".to_owned(), retry_after: CHECK_EVERY };
        owe.send_replace(Arc::from([Trouble { pending, attempts: 1, last }]));
        let waits = told.wait_for(|told| told.get("offline").is_some_and(|trouble| trouble.waits));
        tokio::time::timeout(CHECK_EVERY / 2, waits).await.expect("long before its turn").unwrap();
        asking.abort();
    }

    #[test]
    fn trouble_is_kept_until_it_is_over() {
        let mut troubles = AuthorityTroubles::new();
        assert!(!note(&mut troubles, "main", None), "well from the start is no news");
        let away = AuthorityTrouble { text: "away".to_owned(), waits: false };
        assert!(note(&mut troubles, "main", Some(away.clone())));
        assert!(!note(&mut troubles, "main", Some(away.clone())));
        assert_eq!(troubles.get("main"), Some(&away));
        assert!(note(&mut troubles, "main", None) && troubles.is_empty());
    }
}
