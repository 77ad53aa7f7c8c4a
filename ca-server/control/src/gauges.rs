//! The gauges of a running CA, read off its parts.

mod canary;
mod crl;
mod replicas;

use trust::Timestamp;

use crate::ca::Ca;
use crate::metrics::{AuthorityLabel, BehindLabel, IssuerLabel, Live, PhaseLabel, RootLabel};

/// Brings the gauges up to date.
pub fn refresh(ca: &Ca, live: &Live) {
    let (state, snapshot, rows) = (ca.driver.state(), ca.cell.load(), ca.ledger.aggregates());
    live.root_not_after.clear();
    live.issuer_not_after.clear();
    live.live_rows.clear();
    for (id, entry) in &state.roots {
        let root = id.to_string();
        let label = RootLabel { root: root.clone() };
        live.root_not_after.get_or_create(&label).set(entry.not_after.as_secs());
        live.live_rows.get_or_create(&label).set(signed(rows.under(id).rows));
        for (issuer, entry) in &entry.issuers {
            let label = IssuerLabel { root: root.clone(), issuer: issuer.to_string() };
            live.issuer_not_after.get_or_create(&label).set(entry.not_after.as_secs());
        }
    }
    live.cross_not_after.clear();
    if let Some(cross) = snapshot.cross() {
        let ends = cross.certificate().validity().not_after();
        let label = RootLabel { root: cross.root().to_string() };
        live.cross_not_after.get_or_create(&label).set(ends.as_secs());
    }
    live.authority_drift.clear();
    for name in ca.authority_drift.borrow().keys() {
        live.authority_drift.get_or_create(&AuthorityLabel { authority: name.clone() }).set(1);
    }
    live.phase.clear();
    live.phase.get_or_create(&PhaseLabel { phase: state.phase.name() }).set(1);
    live.phase_since.set(state.phase.since().map_or(0, Timestamp::as_secs));
    live.unproven_rows.set(signed(ca.evidence.unproven(&state, None).rows()));
    live.horizon.set(snapshot.horizon().as_secs());
    live.sequence.set(signed(snapshot.bundle().sequence().0));
    live.generation.set(signed(snapshot.generation().0));
    let (connected, lacking) = ca.sessions.connected(snapshot.bundle().sequence());
    live.agents_connected.set(i64::try_from(connected).unwrap_or(i64::MAX));
    live.agents_behind.clear();
    for lacking in lacking {
        live.agents_behind.get_or_create(&BehindLabel::of(lacking)).inc();
    }
    let stats = ca.ledger.stats();
    live.ledger_queue.set(i64::try_from(stats.queue_depth).unwrap_or(i64::MAX));
    live.ledger_batch.set(signed(stats.last_batch));
    live.ledger_commit_seconds.set(stats.last_commit.as_secs_f64());
    crl::refresh(ca, &live.crl);
    replicas::refresh(ca, &live.replicas);
    canary::refresh(ca, &state, &live.canary);
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
