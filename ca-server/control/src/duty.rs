//! Whether this server may go on serving what it serves, and which part of the work of all is its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use issuance::SnapshotCell;
use replicas::{Currency, Member, Roster};
use rotation_driver::{Duty, RecordStore as _, SharedRecord};
use tokio::sync::watch;
use trust::Clock;

/// How often it is judged who leads, though nothing was heard: leases pass in silence.
const JUDGE_EVERY: Duration = Duration::from_millis(500);

/// What requests are served from, beside the record that all servers share.
#[derive(Debug)]
pub struct Shown {
    /// The record.
    pub record: SharedRecord,
    /// What requests are served from.
    pub cell: Arc<SnapshotCell>,
}

#[async_trait]
impl Currency for Shown {
    async fn is_current(&self) -> bool {
        let Ok(Some(stored)) = self.record.load().await else { return false };
        let state = rotation::record::decode(&stored.record);
        state.is_ok_and(|state| self.cell.load().bundle().sequence() >= state.sequence)
    }
}

/// Tells which part of the work is this server's, until nobody listens.
pub async fn share(
    member: Member,
    mut roster: watch::Receiver<Arc<Roster>>,
    clock: Arc<dyn Clock>,
    told: watch::Sender<Duty>,
) {
    while !told.is_closed() {
        let uptime = clock.uptime();
        let least = roster.borrow_and_update().leads(member.name(), uptime);
        let leads = least && member.lease().is_held(uptime);
        told.send_if_modified(|duty| {
            let changed = duty.leads != leads;
            if changed {
                duty.leads = leads;
                tracing::info!(leads, "whether this server stages roots and reports evidence");
            }
            changed
        });
        tokio::select! {
            changed = roster.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(JUDGE_EVERY) => {}
        }
    }
}
