//! What the connections of one crowd share: its time, its budget, its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use crate::cut::Cut;
use crate::meter::Meter;
use crate::rules::Rules;

/// What the connections of one crowd share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) rules: Rules,
    pub(crate) tick: AtomicU32,
    /// What waits for all of its connections.
    held: Gauge,
    pub(crate) over: Notify,
    pub(crate) pressed: AtomicBool,
    meter: Arc<dyn Meter>,
}

/// Bytes as a gauge counts them.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Common {
    pub(crate) fn new(rules: Rules, meter: Arc<dyn Meter>) -> Self {
        Self {
            // 0 stands for "never" in some places.
            tick: AtomicU32::new(1),
            held: meter.unsent_bytes(rules.port),
            over: Notify::new(),
            pressed: AtomicBool::new(false),
            meter,
            rules,
        }
    }

    pub(crate) fn now(&self) -> u32 {
        self.tick.load(Relaxed)
    }

    pub(crate) fn is_over_budget(&self) -> bool {
        self.held() > self.rules.budget
    }

    fn held(&self) -> u64 {
        u64::try_from(self.held.get()).unwrap_or_default()
    }

    pub(crate) fn hold(&self, bytes: u64) {
        let before = self.held.inc_by(signed(bytes));
        let before = u64::try_from(before).unwrap_or_default();
        if before <= self.rules.budget && before.saturating_add(bytes) > self.rules.budget {
            self.over.notify_one();
        }
    }

    pub(crate) fn let_go(&self, bytes: u64) {
        self.held.dec_by(signed(bytes));
    }

    pub(crate) fn note(&self, why: Cut) {
        self.meter.connection_cut(why.as_str());
    }
}
