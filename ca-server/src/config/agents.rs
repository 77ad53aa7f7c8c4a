//! Section `[agents]`: who may be registered, and for how long.

use plugins::ConfigProblem;
use registry::Limits;

use super::leaf::LeafConfig;
use super::reader::Section;
use super::rotation::RotationConfig;

/// Section `[agents]`.
#[derive(Debug, Clone)]
pub struct AgentsConfig {
    limits: Limits,
    reconnects_per_second: u64,
}

impl AgentsConfig {
    /// The bounds of the registry. `max` is 100000 by default, 10 to 1000000. `per_caller` is 16, 1 to 100000; a caller is the
    /// token's subject, and with a Kubernetes token its pod too. `forget_after` is by default, and at least, `leaf.ttl_max`
    /// and `rotation.return_within` together, within which an agent may come back; at most `36500d`. `idle_after` is
    /// `leaf.ttl_max`.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// New connections of agents for each second, over which the server spreads them when all have to reconnect: at a change of
    /// trust, and at its own stop. Default 200, 1 to 10000.
    pub const fn reconnects_per_second(&self) -> u64 {
        self.reconnects_per_second
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
        let least = trust::plain::span(least);
        section.problem(
            "forget_after",
            format_args!(
                "is shorter than leaf.ttl_max and rotation.return_within together, within which an agent may come back; write \
                 at least \"{least}\", or lower rotation.return_within"
            ),
        );
    }
    section.close();
    let limits = Limits {
        max: usize::try_from(max?).ok()?,
        per_caller: usize::try_from(per_caller?).ok()?,
        forget_after: given?.unwrap_or(least),
        idle_after: leaf.ttl_max(),
    };
    Some(AgentsConfig { limits, reconnects_per_second: reconnects_per_second? })
}
