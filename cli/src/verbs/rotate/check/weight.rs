//! How much traffic rests on whom, as Envoys counted it: ten idle proxies and one busy gateway are not eleven equals.

use std::collections::{BTreeMap, BTreeSet};

use proto::banyan::admin::v1::{Agent, Outlook};
use serde_json::{Value, json};
use trust::plain::counted;

/// Identities that are named.
const NAMED_MAX: usize = 10;

/// What the proxies of one identity counted, below all agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) identity: String,
    pub(super) handshakes: u64,
    pub(super) failed: u64,
    /// Below so many agents.
    pub(super) agents: usize,
    /// Admin endpoints without a good answer: what those count is missing.
    pub(super) silent: u64,
    /// Whether some holder of it is behind the bundle in force already.
    pub(super) is_behind: bool,
}

/// The heaviest first.
pub(super) fn weights(agents: &[Agent], outlook: &Outlook) -> Vec<Weight> {
    let behind: BTreeSet<_> =
        outlook.behind.iter().map(|holder| holder.identity.as_str()).collect();
    let mut all: BTreeMap<&str, Weight> = BTreeMap::new();
    for tally in agents.iter().flat_map(|agent| &agent.handshakes) {
        let one = all.entry(&tally.spiffe_id).or_default();
        one.handshakes = one.handshakes.saturating_add(tally.handshakes);
        let failed = tally.connection_errors.saturating_add(tally.refused_peers);
        one.failed = one.failed.saturating_add(failed);
        one.agents += 1;
        one.silent += u64::from(tally.silent_endpoints);
    }
    let named = all.into_iter().map(|(identity, weight)| Weight {
        identity: identity.to_owned(),
        is_behind: behind.contains(identity),
        ..weight
    });
    let mut weights: Vec<_> = named.collect();
    weights.sort_by_key(|weight| std::cmp::Reverse(weight.handshakes));
    weights
}

/// One sentence for each of the heaviest, and for each that is behind.
pub(super) fn said(weights: &[Weight]) -> Vec<String> {
    let total = weights.iter().fold(0_u64, |sum, weight| sum.saturating_add(weight.handshakes));
    let is_named = |(at, weight): &(usize, &Weight)| *at < NAMED_MAX || weight.is_behind;
    let named: Vec<_> = weights.iter().enumerate().filter(is_named).collect();
    let left = weights.len() - named.len();
    let mut lines: Vec<_> = named.into_iter().map(|(_, weight)| one(weight, total)).collect();
    if left > 0 {
        lines.push(format!("and {}", counted(left, "lighter identity", "lighter identities")));
    }
    lines
}

fn one(weight: &Weight, total: u64) -> String {
    let share = u128::from(weight.handshakes) * 100 / u128::from(total.max(1));
    let handshakes = counted(weight.handshakes, "handshake", "handshakes");
    let agents = counted(weight.agents, "agent", "agents");
    let mut text = format!(
        "{}: {handshakes} ({share} %), {} failed, below {agents}",
        weight.identity, weight.failed
    );
    if weight.silent > 0 {
        let envoys = counted(weight.silent, "Envoy", "Envoys");
        text.push_str(&format!(", and {envoys} without an answer"));
    }
    if weight.is_behind {
        text.push_str("; A HOLDER OF IT IS BEHIND ALREADY");
    }
    text
}

pub(super) fn as_json(weight: &Weight) -> Value {
    json!({
        "identity": weight.identity,
        "handshakes": weight.handshakes,
        "failed": weight.failed,
        "agents": weight.agents,
        "envoys_without_answer": weight.silent,
        "behind": weight.is_behind,
    })
}

#[cfg(test)]
mod tests {
    use proto::banyan::admin::v1::{HandshakeTally, Holder};

    use super::*;

    fn agent(tallies: &[(&str, u64)]) -> Agent {
        let tally = |(id, handshakes): &(&str, u64)| HandshakeTally {
            spiffe_id: (*id).to_owned(),
            handshakes: *handshakes,
            refused_peers: 1,
            ..HandshakeTally::default()
        };
        Agent { handshakes: tallies.iter().map(tally).collect(), ..Agent::default() }
    }

    #[test]
    fn one_busy_gateway_outweighs_many_idle_proxies_and_who_is_behind_is_named_however_light() {
        let mut agents = vec![agent(&[("gateway", 600), ("late", 0)]), agent(&[("gateway", 380)])];
        agents.extend((10..30).map(|number| agent(&[(format!("idle-{number}").as_str(), 1)])));
        let behind = Holder { identity: "late".to_owned(), ..Holder::default() };
        let outlook = Outlook { behind: vec![behind], ..Outlook::default() };
        let weights = weights(&agents, &outlook);
        let said = said(&weights);
        assert_eq!(said[0], "gateway: 980 handshakes (98 %), 2 failed, below 2 agents");
        assert_eq!(said.len(), NAMED_MAX + 2, "{said:?}");
        let late =
            "late: 0 handshakes (0 %), 1 failed, below 1 agent; A HOLDER OF IT IS BEHIND ALREADY";
        assert_eq!(said[NAMED_MAX], late);
        assert_eq!(said[NAMED_MAX + 1], "and 11 lighter identities");
        assert!(super::said(&[]).is_empty());
    }
}
