//! The wait for an issuer of this replica's own: the first server of all gets one with its root, another one, or one that
//! lost its disk, asks for one before it serves.

use std::sync::Arc;

use control::own_issuer::OwnIssuers;
use control::upkeep;
use rotation::{Effect, Policy, SegmentId};
use rotation_driver::DriverHandle;

use super::answers::{Asked, answer_timeout, effect_failed};
use super::{BootError, HostDeps};

/// Failed attempts, some half a minute of them, after which the start gives up: other servers ask the authority at the same time,
/// and each may have to wait for the others.
const ATTEMPTS: u32 = 8;

/// Waits until this replica can sign under the root that signs, and may release. What it lacks it asks for.
pub(super) async fn wait(
    issuers: &mut OwnIssuers,
    segment: &SegmentId,
    policy: &Policy,
    deps: &HostDeps,
    through: Asked<'_>,
) -> Result<(), BootError> {
    let driver = through.driver;
    let replica = issuers.replica().clone();
    // Under a root that only shall sign it is asked on, while leaves are signed under the present one.
    let signing = |effect: &Effect| {
        matches!(effect, Effect::RequestIssuer { root, replica: Some(asks), .. }
            if *asks == replica && driver.state().signing_root() == Some(*root))
    };
    tokio::select! {
        biased;
        asked = asked(issuers, deps, driver) => asked?,
        reason = effect_failed(driver, signing, ATTEMPTS) => return Err(BootError::NoIssuer { reason }),
        () = answer_timeout(through) => {
            let reason = "the authority has not answered yet".to_owned();
            return Err(BootError::NoIssuer { reason });
        }
    }
    let (state, now) = (driver.state(), deps.clock.now());
    if let Some(event) = upkeep::horizon_due(&state, policy, &replica, segment, now) {
        driver.submit(event).await?;
    }
    Ok(())
}

/// Asks at each change of the record for what this replica lacks. Ends when it can sign.
pub(super) async fn asked(
    issuers: &mut OwnIssuers,
    deps: &HostDeps,
    driver: &DriverHandle,
) -> Result<(), BootError> {
    let mut changes = driver.changes();
    loop {
        let state = Arc::clone(&changes.borrow_and_update());
        let now = deps.clock.now();
        if issuers.can_sign(&state, now).await {
            return Ok(());
        }
        if let Some(due) = issuers.due(&state, now).await {
            tracing::info!(root = %due.root.short(), why = %due.why, "asking for an issuer");
            driver.submit(due.event()).await?;
        }
        if changes.changed().await.is_err() {
            return Err(BootError::NoIssuer { reason: "the driver stopped".to_owned() });
        }
    }
}
