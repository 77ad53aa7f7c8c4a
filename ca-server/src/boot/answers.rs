//! How long a start waits for what an authority is asked for, and when it gives up.

use std::time::Duration;

use rotation::Effect;
use rotation_driver::{DriverHandle, EffectError, Trouble};

use super::patience::Patience;

/// How long a start waits for the first root. The making goes on at the next start.
const BOOTSTRAP_WITHIN: Duration = Duration::from_secs(60);

/// What is waited for goes through the driver, and stands while the store of the CA's state is away.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) driver: &'a DriverHandle,
    pub(super) patience: &'a Patience,
}

/// Ends when nothing has come for so long that something must be wrong. An authority that says what it waits for is waited
/// for, however long: perhaps a person signs offline. What it says is told at once, and again now and then.
pub(super) async fn answer_timeout(Asked { driver, patience }: Asked<'_>) {
    let mut troubles = driver.troubles();
    let mut told = None;
    loop {
        let waits = troubles.borrow_and_update().iter().find_map(|trouble| match &trouble.last {
            EffectError::NotYet { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        if let Some(reason) = &waits
            && waits != told
        {
            tracing::warn!(reason, "no root yet: this server waits, and serves once it has one");
            told.clone_from(&waits);
        }
        let (quiet, changed) = (tokio::time::sleep(BOOTSTRAP_WITHIN), troubles.changed());
        tokio::select! {
            () = quiet => match &waits {
                Some(_) => told = None,
                // Nobody was asked anything without the store.
                None if patience.waits_for().is_some() => {}
                None => return,
            },
            changed = changed => if changed.is_err() {
                // The driver stopped, which another branch tells.
                return std::future::pending().await;
            },
        }
    }
}

/// Waits until an effect is refused, or has failed so often that an operator should know.
pub(super) async fn effect_failed(
    driver: &DriverHandle,
    is_meant: impl Fn(&Effect) -> bool,
    attempts: u32,
) -> String {
    let mut troubles = driver.troubles();
    let has_failed = |trouble: &&Trouble| {
        is_meant(&trouble.pending.effect)
            && match trouble.last {
                EffectError::NotYet { .. } => false,
                EffectError::Unavailable { .. } => trouble.attempts >= attempts,
                EffectError::Refused { .. } => true,
            }
    };
    let failed =
        troubles.wait_for(|troubles| troubles.iter().any(|trouble| has_failed(&trouble))).await;
    match failed {
        Ok(troubles) => {
            let trouble = troubles.iter().find(has_failed);
            trouble.map(|trouble| trouble.last.to_string()).unwrap_or_default()
        }
        // The driver stopped, which the other branch tells.
        Err(_) => std::future::pending().await,
    }
}
