//! Section `[agents]`: who may be registered, and for how long.

use std::time::Duration;

use plugins::ConfigProblem;

use super::leaf::LeafConfig;
use super::reader::Section;
use super::rotation::RotationConfig;
use crate::spans;

/// Section `[agents]`.
#[derive(Debug, Clone)]
pub struct AgentsConfig {
    max: usize,
    per_caller: usize,
    reconnects_per_second: u64,
    forget_after: Duration,
    idle_after: Duration,
}

impl AgentsConfig {
    /// Agents that may be registered. A tenth is kept for join tokens. Default 100000, 10 to 1000000.
    pub const fn max(&self) -> usize {
        self.max
    }

    /// Agents that one JWT caller may have, and new keys that it may register within an hour. A caller is the token's
    /// subject, and with a Kubernetes token its pod too. Default 16, 1 to 100000.
    pub const fn per_caller(&self) -> usize {
        self.per_caller
    }

    /// New connections of agents for each second, over which the server spreads them when all have to reconnect: at a change of
    /// trust, and at its own stop. Default 200, 1 to 10000.
    pub const fn reconnects_per_second(&self) -> u64 {
        self.reconnects_per_second
    }

    /// An agent that was not seen for so long is forgotten. Default, and least: `leaf.ttl_max` and `rotation.return_within`
    /// together, within which it may come back. At most `36500d`.
    pub const fn forget_after(&self) -> Duration {
        self.forget_after
    }

    /// An agent that was not seen for so long has no certificate that lives: `leaf.ttl_max`.
    pub(crate) const fn idle_after(&self) -> Duration {
        self.idle_after
    }

    /// With other bounds, for tests.
    #[cfg(test)]
    pub(crate) const fn bounded(max: usize, per_caller: usize) -> Self {
        let (forget_after, idle_after) = (Duration::from_secs(31 * 86_400), Duration::from_secs(86_400));
        Self { max, per_caller, reconnects_per_second: 200, forget_after, idle_after }
    }
}

#[cfg(test)]
impl Default for AgentsConfig {
    fn default() -> Self {
        Self::bounded(100_000, 16)
    }
}

pub(super) fn agents(
    table: &toml::Table,
    leaf: Option<&LeafConfig>,
    rotation: Option<&RotationConfig>,
    problems: &mut Vec<ConfigProblem>,
) -> Option<AgentsConfig> {
    let mut section = Section::open("agents", table, problems);
    let max = section.count("max", 100_000, 10..=1_000_000);
    let per_caller = section.count("per_caller", 16, 1..=100_000);
    let reconnects_per_second = section.count("reconnects_per_second", 200, 1..=10_000);
    let given = match table.contains_key("forget_after") {
        true => section.duration("forget_after", "31d", ["1s", "36500d"]).map(Some),
        false => {
            // Known, though absent.
            let _: Option<String> = section.optional("forget_after", "a duration");
            Some(None)
        }
    };
    let (leaf, rotation) = (leaf?, rotation?);
    let least = leaf.ttl_max() + rotation.return_within();
    if let Some(Some(given)) = given
        && given < least
    {
        let least = spans::in_words(least);
        section.problem(
            "forget_after",
            format_args!(
                "is shorter than leaf.ttl_max and rotation.return_within together, within which an agent may come back; write \
                 at least \"{least}\", or lower rotation.return_within"
            ),
        );
    }
    section.close();
    Some(AgentsConfig {
        max: usize::try_from(max?).ok()?,
        per_caller: usize::try_from(per_caller?).ok()?,
        reconnects_per_second: reconnects_per_second?,
        forget_after: given?.unwrap_or(least),
        idle_after: leaf.ttl_max(),
    })
}
