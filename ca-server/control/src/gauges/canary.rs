//! A canary that is under way, as all servers see it.

use rotation::{Share, State};

use crate::ca::Ca;
use crate::metrics::canary::{LeavesLabel, LiveCanary, NewRootLabel, TroubleLabel};

pub(super) fn refresh(ca: &Ca, state: &State, live: &LiveCanary) {
    live.clear();
    let Some(canary) = state.phase.canary() else { return };
    let root = NewRootLabel { root: canary.to.to_string() };
    let hundredths = |percent: u8| f64::from(percent) / 100.0;
    live.share.get_or_create(&root).set(hundredths(canary.cohort.percent()));
    live.limit.get_or_create(&root).set(hundredths(ca.policy.canary_limit_percent));
    live.held.get_or_create(&root).set(i64::from(canary.trouble.is_some()));
    let Some(seen) = ca.evidence.cohort() else { return };
    for (standing, count) in
        [("taken", seen.taken), ("waiting", seen.waiting), ("silent", seen.silent)]
    {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        live.leaves.get_or_create(&LeavesLabel { standing }).set(count);
    }
    let kinds = ["issue_errors", "refused", "unable", "handshakes"];
    for (kind, share) in kinds.into_iter().zip(seen.trouble.shares()) {
        live.trouble.get_or_create(&TroubleLabel { kind }).set(part(share));
    }
}

/// How much of it went wrong; of nothing, nothing.
#[expect(clippy::cast_precision_loss, reason = "a ratio for people and dashboards")]
fn part(share: Share) -> f64 {
    share.bad as f64 / share.of.max(1) as f64
}
