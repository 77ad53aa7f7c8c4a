//! The first start on a state that was restored from a backup: what was released since is counted before anybody is served.

use std::collections::BTreeSet;
use std::sync::Arc;

use rotation::{Event, RequestId};
use rotation_driver::{DriverHandle, Word};
use stores::SharedStore;

use super::BootError;
use super::given::Given;
use super::moving::name;

/// Characters of a backup's id that name the request: servers that start at once ask for the same.
const ID_CHARS: usize = 32;

/// Counts what was released after the backup, if the state was restored and nobody has counted it yet. A start that breaks off
/// before its mark is gone does it again, and nothing twice.
pub(super) async fn counted(
    given: Given<'_>,
    store: &Arc<dyn SharedStore>,
    driver: &DriverHandle,
) -> Result<(), BootError> {
    let restored = ca_state::restored(store.as_ref()).await.map_err(BootError::NotRead)?;
    let Some(backup) = restored else { return Ok(()) };
    let short = |chars| backup.get(..chars).unwrap_or(&backup);
    let request_id = RequestId::parse(&format!("restore-{}", short(ID_CHARS)))?;
    let reason = format!("restored from backup {}", short(12));
    let word = Word { by: String::new(), reason: reason.clone() };
    let event = Event::RecoveryRequested { request_id, reason, live: BTreeSet::new() };
    let state = driver.submit_as(event, word).await?;
    ca_state::recovered(store.as_ref())
        .await
        .map_err(|error| BootError::State { place: name(given.config), error })?;
    let (now, policy) = (given.deps.clock.now(), super::open::policy(given.config));
    if let Some(until) = state.lost_rows_until(now, &policy) {
        tracing::warn!(
            backup = short(12), %until,
            "this state was restored from a backup: leaves that were released after it have no row, and gates of a rotation wait \
             for them; see `banyan state show` once agents have connected"
        );
    }
    Ok(())
}
