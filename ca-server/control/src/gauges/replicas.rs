//! The servers of a CA, as each of them sees all.

use std::time::Duration;

use rotation::ReplicaName;

use crate::ca::Ca;
use crate::metrics::replicas::{LiveReplicas, ReplicaLabel, StandingLabel};
use crate::servers;

pub(super) fn refresh(ca: &Ca, live: &LiveReplicas) {
    let (replication, uptime) = (&ca.replication, ca.clock.uptime());
    live.replicas.clear();
    for server in servers::list(ca) {
        live.replicas.get_or_create(&StandingLabel { standing: server.standing }).inc();
    }
    live.lease_left.clear();
    if !replication.is_alone() {
        let left = match replication.lease.is_held(uptime) {
            true => replication.lease.until().saturating_sub(uptime),
            false => Duration::ZERO,
        };
        live.lease_left.get_or_create(&label(&ca.replica)).set(left.as_secs_f64());
    }
    live.report_age.clear();
    let state = ca.driver.state();
    for (segment, seen) in &replication.reports.borrow().seen {
        let whose = state.segments.get(segment).filter(|_| !seen.report.is_last);
        if let Some(segment) = whose {
            let age = uptime.saturating_sub(seen.seen_at).as_secs_f64();
            live.report_age.get_or_create(&label(&segment.replica)).set(age);
        }
    }
    live.statements_kept.set(i64::try_from(ca.peers.outbox.kept()).unwrap_or(i64::MAX));
}

fn label(replica: &ReplicaName) -> ReplicaLabel {
    ReplicaLabel { replica: replica.to_string() }
}
