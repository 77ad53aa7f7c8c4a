//! Agents as operators see them: a page, and for `status` the few of many that are worth a look.

use std::collections::BTreeSet;

use registry::ListedAgent;
use registry::sessions::Listener;
use trust::{Sequence, SpiffeId, Timestamp};

use crate::ca::Ca;
use crate::handshakes::HandshakeTally;

/// Agents in one answer of `status`.
pub const EXCERPT_MAX: usize = 100;

/// All agents in a few numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// How many are registered.
    pub total: u64,
    /// Whether it is connected; of all, how many are.
    pub connected: u64,
    /// Without the bundle in force.
    pub behind: u64,
    /// Names that are banned.
    pub bans: u64,
    /// At most [`EXCERPT_MAX`] names, sorted: those that are connected and behind come before those that are away, and
    /// those before the rest.
    pub excerpt: Vec<String>,
}

/// One agent, as it is stored and as it is now.
#[derive(Clone, Debug)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// `None` where the name makes no id.
    pub id: Option<SpiffeId>,
    /// Whether it is connected; of all, how many are.
    pub connected: bool,
    /// When it was seen last; the epoch if never.
    pub last_seen: Timestamp,
    /// The bundle that it has.
    pub sequence: Sequence,
    /// Its leaves that may live.
    pub live_rows: u64,
    /// Secrets that its holders refused, and why the last of them.
    pub nacks: u64,
    /// Why a holder refused the last of them.
    pub last_nack: String,
    /// Its release, as it says.
    pub build: String,
    /// What it may ask for.
    pub identities: BTreeSet<SpiffeId>,
    /// When it registered.
    pub registered_at: Timestamp,
    /// Who it was when it registered without a token.
    pub joined_as: Option<String>,
    /// Whether its name is banned.
    pub banned: bool,
    /// What the proxies of its identities count of handshakes, where it reads that.
    pub handshakes: Vec<(SpiffeId, HandshakeTally)>,
    /// Where the proxies of its identities listen, as it says on its stream.
    pub listeners: Vec<Listener>,
}

impl AgentView {
    /// What is known of a registered agent.
    pub fn of(ca: &Ca, agent: ListedAgent) -> Self {
        let ListedAgent { name, row, seen, banned } = agent;
        let session = ca.sessions.find(&name).unwrap_or_default();
        Self {
            id: SpiffeId::agent(ca.id.trust_domain(), &name).ok(),
            connected: session.streams > 0,
            last_seen: seen,
            sequence: session.sequence,
            live_rows: ca.ledger.rows_of_agent(&name),
            nacks: session.nacks,
            last_nack: session.last_nack,
            build: session.build,
            identities: row.identities,
            registered_at: row.registered,
            joined_as: row.caller,
            banned,
            handshakes: ca.handshakes.of_agent(&name),
            listeners: session.listeners,
            name,
        }
    }
}

/// Counts the agents.
pub fn roster(ca: &Ca) -> Roster {
    let (names, bans) = (ca.registry.agent_names(), ca.registry.agents_total().1);
    let standing = ca.sessions.standing(&names, ca.cell.load().bundle().sequence());
    counted(names, &standing, bans)
}

fn counted(names: Vec<String>, standing: &[(bool, bool)], bans: usize) -> Roster {
    let count =
        |is: fn(&(bool, bool)) -> bool| number(standing.iter().filter(|one| is(one)).count());
    let mut roster = Roster {
        total: number(names.len()),
        connected: count(|(connected, _)| *connected),
        behind: count(|(_, current)| !current),
        bans: number(bans),
        excerpt: Vec::new(),
    };
    let mut ranked: Vec<(u8, String)> = names.into_iter().zip(standing).map(ranked).collect();
    // Sorted by name before, and the sort is stable.
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.truncate(EXCERPT_MAX);
    roster.excerpt = ranked.into_iter().map(|(_, name)| name).collect();
    roster.excerpt.sort_unstable();
    roster
}

fn ranked((name, standing): (String, &(bool, bool))) -> (u8, String) {
    let rank = match standing {
        (true, false) => 0,
        (false, _) => 1,
        (true, true) => 2,
    };
    (rank, name)
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_agents_those_in_trouble_are_shown_and_all_are_counted() {
        let names: Vec<String> = (0..60_000).map(|number| format!("node-{number:05}")).collect();
        let standing: Vec<_> = (0..60_000)
            .map(|number| match number {
                50_000 => (true, false),
                59_999 => (false, false),
                _ => (true, true),
            })
            .collect();
        let roster = counted(names, &standing, 3);
        assert_eq!(
            (roster.total, roster.connected, roster.behind, roster.bans),
            (60_000, 59_999, 2, 3)
        );
        assert_eq!(roster.excerpt.len(), EXCERPT_MAX);
        assert_eq!(roster.excerpt.first().map(String::as_str), Some("node-00000"));
        assert_eq!(&roster.excerpt[98..], ["node-50000", "node-59999"]);
    }

    #[test]
    fn a_few_are_all_shown_by_name() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let roster = counted(names.to_vec(), &[(true, true), (true, false), (false, false)], 0);
        assert_eq!(roster.excerpt, names);
    }
}
