//! What went over the wire.

/// Counts of one plan.
#[derive(Debug, Default, Clone)]
pub(crate) struct Traffic {
    /// Requests for leaves, by the second since the plan began.
    by_second: Vec<u32>,
    refused_by_second: Vec<u32>,
    /// Bundles that were pushed to agents, and their bytes.
    pub(crate) pushes: u64,
    pub(crate) push_bytes: u64,
    /// Words of agents that everybody behind them applied one.
    pub(crate) words: u64,
    /// Bundles that came with leaves to clients that ask for themselves, and their bytes.
    pub(crate) delivered: u64,
    pub(crate) delivered_bytes: u64,
    bundle_bytes: u64,
}

impl Traffic {
    /// How large the bundle is that is pushed from now on.
    pub(crate) const fn bundle_is(&mut self, bytes: u64) {
        self.bundle_bytes = bytes;
    }

    pub(crate) const fn pushed(&mut self) {
        self.pushes += 1;
        self.push_bytes += self.bundle_bytes;
    }

    pub(crate) const fn delivered(&mut self) {
        self.delivered += 1;
        self.delivered_bytes += self.bundle_bytes;
    }

    pub(crate) const fn said(&mut self) {
        self.words += 1;
    }

    pub(crate) fn asked(&mut self, millis: u64, granted: bool) {
        let second = usize::try_from(millis / 1_000).unwrap_or(usize::MAX);
        let counts = if granted { &mut self.by_second } else { &mut self.refused_by_second };
        if counts.len() <= second {
            counts.resize(second + 1, 0);
        }
        if let Some(count) = counts.get_mut(second) {
            *count += 1;
        }
    }

    /// Leaves issued from one second on and before another.
    pub(crate) fn issued(&self, from: u64, to: u64) -> u64 {
        between(&self.by_second, from, to).map(|(_, count)| u64::from(count)).sum()
    }

    /// Requests refused between them.
    pub(crate) fn refused(&self, from: u64, to: u64) -> u64 {
        between(&self.refused_by_second, from, to).map(|(_, count)| u64::from(count)).sum()
    }

    /// The second with the most requests between two, and how many.
    pub(crate) fn peak(&self, from: u64, to: u64) -> (u64, u64) {
        let peak = between(&self.by_second, from, to)
            .max_by_key(|(second, count)| (*count, std::cmp::Reverse(*second)));
        peak.map_or((from, 0), |(second, count)| (second, u64::from(count)))
    }
}

fn between(counts: &[u32], from: u64, to: u64) -> impl Iterator<Item = (u64, u32)> {
    let at = |second: u64| usize::try_from(second).unwrap_or(usize::MAX);
    counts
        .iter()
        .enumerate()
        .skip(at(from))
        .take(at(to.saturating_sub(from)))
        .map(|(second, count)| (second as u64, *count))
}
