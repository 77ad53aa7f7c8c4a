//! Gauges of revocation lists.

use prometheus_client::metrics::gauge::Gauge;

/// What they show.
#[derive(Default)]
pub struct CrlGauges {
    /// The number; 0 without any.
    pub number: Gauge,
    /// Leaves on them.
    pub entries: Gauge,
    /// When the first ends.
    pub next_update: Gauge,
    /// Whether agents are told to do without.
    pub withheld: Gauge,
}

impl CrlGauges {
    /// Names them.
    pub(super) fn add(&self, add: &mut impl FnMut(&str, &str, &Gauge)) {
        add("crl_number", "Number of the revocation lists; 0 without any", &self.number);
        add("crl_entries", "Leaves on the revocation lists", &self.entries);
        let help = "When the first revocation list ends; 0 without any";
        add("crl_next_update_timestamp_seconds", help, &self.next_update);
        let help = "1 while lists are asked for and agents do without";
        add("crl_withheld", help, &self.withheld);
    }
}
