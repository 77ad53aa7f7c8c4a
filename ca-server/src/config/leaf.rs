//! Section `[leaf]`.

use std::time::Duration;

use auth::authz::NameMismatch;
use plugins::ConfigProblem;
use trust::plain::span;

use super::reader::Section;

/// What happens to a request for a longer life than the maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AboveMax {
    /// The leaf gets the maximum.
    Cap,
    /// The request is refused.
    Refuse,
}

/// Section `[leaf]`.
#[derive(Debug, Clone)]
pub struct LeafConfig {
    ttl_default: Duration,
    ttl_max: Duration,
    ttl_min: Duration,
    backdate: Duration,
    skew: Duration,
    above_max: AboveMax,
    name_mismatch: NameMismatch,
}

impl LeafConfig {
    /// Life of a leaf whose request asks for none. Default `24h` or `ttl_max`, the shorter; from `ttl_min` to `ttl_max`.
    pub const fn ttl_default(&self) -> Duration {
        self.ttl_default
    }

    /// Longest life of a leaf. Default `24h`, `10s` to `90d`.
    pub const fn ttl_max(&self) -> Duration {
        self.ttl_max
    }

    /// Shortest life: a leaf that would be shorter is refused, never cut. Default `5m`; more than twice the backdate,
    /// since clients count half of the life from the backdated start.
    pub const fn ttl_min(&self) -> Duration {
        self.ttl_min
    }

    /// How far a leaf's start lies in the past. Default `60s`, `0s` to `1h`; at least the skew.
    pub const fn backdate(&self) -> Duration {
        self.backdate
    }

    /// How far clocks in the mesh may be apart. Default `60s`, `0s` to `1h`.
    pub const fn skew(&self) -> Duration {
        self.skew
    }

    /// `"cap"` (default) or `"refuse"`.
    pub const fn above_max(&self) -> AboveMax {
        self.above_max
    }

    /// `"refuse"` (default) or `"ignore"`.
    pub const fn name_mismatch(&self) -> NameMismatch {
        self.name_mismatch
    }
}

pub(super) fn leaf(table: &toml::Table, problems: &mut Vec<ConfigProblem>) -> Option<LeafConfig> {
    let mut section = Section::open("leaf", table, problems);
    let ttl_max = section.duration("ttl_max", "24h", ["10s", "90d"]);
    let longest = ttl_max.map_or_else(|| "24h".to_owned(), shorter_than_a_day);
    let ttl_default = section.duration("ttl_default", &longest, ["10s", "90d"]);
    let ttl_min = section.duration("ttl_min", "5m", ["1s", "90d"]);
    let backdate = section.duration("backdate", "60s", ["0s", "1h"]);
    let skew = section.duration("skew", "60s", ["0s", "1h"]);
    let above_max = section.choice(
        "above_max",
        AboveMax::Cap,
        &[("cap", AboveMax::Cap), ("refuse", AboveMax::Refuse)],
    );
    let words = [("refuse", NameMismatch::Refuse), ("ignore", NameMismatch::Ignore)];
    let name_mismatch = section.choice("name_mismatch", NameMismatch::Refuse, &words);
    if let (Some(max), Some(default), Some(min)) = (ttl_max, ttl_default, ttl_min)
        && !(min <= default && default <= max)
    {
        section.problem(
            "ttl_default",
            format_args!(
                "is {} and must lie between ttl_min and ttl_max, {} and {}; write all three in that order",
                span(default),
                span(min),
                span(max)
            ),
        );
    }
    if let (Some(min), Some(backdate)) = (ttl_min, backdate)
        && min <= backdate * 2
    {
        let bound = span(backdate * 2);
        section.problem(
            "ttl_min",
            format_args!("is not longer than twice leaf.backdate; write more than {bound}"),
        );
    }
    if let (Some(skew), Some(backdate)) = (skew, backdate)
        && backdate < skew
    {
        let least = span(skew);
        section
            .problem("backdate", format_args!("is shorter than leaf.skew; write at least {least}"));
    }
    section.close();
    Some(LeafConfig {
        ttl_default: ttl_default?,
        ttl_max: ttl_max?,
        ttl_min: ttl_min?,
        backdate: backdate?,
        skew: skew?,
        above_max: above_max?,
        name_mismatch: name_mismatch?,
    })
}

fn shorter_than_a_day(max: Duration) -> String {
    span(max.min(Duration::from_secs(86_400)))
}
