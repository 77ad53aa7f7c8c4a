//! The gauges of revocation lists, read off the lists.

use crate::ca::Ca;
use crate::metrics::crl::CrlGauges;

/// Brings the gauges up to date.
pub(super) fn refresh(ca: &Ca, live: &CrlGauges) {
    let lists = ca.crl.lists();
    let entries: usize = lists.lists.iter().map(|list| list.listed.len()).sum();
    let ends = lists.lists.iter().map(|list| list.next_update.as_secs()).min();
    let withheld = ca.crl.settings().is_some() && (lists.number == 0 || lists.without.is_some());
    live.number.set(i64::try_from(lists.number).unwrap_or(i64::MAX));
    live.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    live.next_update.set(ends.unwrap_or_default());
    live.withheld.set(i64::from(withheld));
}
