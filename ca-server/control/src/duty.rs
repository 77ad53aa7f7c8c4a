//! Whether this server may go on serving what it serves, and which part of the work of all is its own.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use issuance::SnapshotCell;
use replicas::{Currency, Member, Roster};
use rotation::ReplicaName;
use rotation_driver::{Duty, Former, RecordStore as _, SharedRecord};
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

/// The duty of a server before it was judged who leads.
pub fn first_duty(name: ReplicaName, roster: &Roster) -> Duty {
    Duty { replica: Some(name), leads: false, former: former(roster) }
}

/// The server of a former release that the record must stay readable for, if there is one.
fn former(roster: &Roster) -> Option<Former> {
    let (replica, reads) = roster.reads_least()?;
    (reads < rotation::record::FORMAT).then(|| Former { replica: replica.clone(), reads })
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
        let seen = Arc::clone(&roster.borrow_and_update());
        let leads = seen.leads(member.name(), uptime) && member.lease().is_held(uptime);
        let former = former(&seen);
        told.send_if_modified(|duty| {
            if duty.leads != leads {
                tracing::info!(leads, "whether this server stages roots and reports evidence");
            }
            let changed = duty.leads != leads || duty.former != former;
            (duty.leads, duty.former) = (leads, former);
            changed
        });
        tokio::select! {
            changed = roster.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(JUDGE_EVERY) => {}
        }
    }
}
