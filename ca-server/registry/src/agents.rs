//! Agents: how they get into the registry, and how they leave it.
//!
//! Every row can end. One that was not seen for `agents.forget_after` is forgotten; one caller's rows are bounded; and when
//! the registry is full, whoever brings a join token gets the place of an agent that is not connected: of a JWT caller's, or
//! else of the one that was away longest, if it was away for so long that no certificate of its lives.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use trust::Timestamp;

use crate::error::RegistryError;
use crate::registry::{AgentRegistry, Inner};
use crate::rows::{AgentRow, ListedAgent, Newcomer, Seen};
use crate::store::{Change, Tables};

/// The time served is written down this often; a crash loses as much.
const SERVED_EVERY: Duration = Duration::from_secs(600);
/// Rows that one round of upkeep writes at most.
const ROUND_MAX: usize = 5_000;
/// When the registry is full, so much of it gives way at once, if so much is of no use any more.
const GIVES_WAY: usize = 100;

/// An agent that may give way, in the order in which they do.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Giving<'t> {
    /// It joined with a token and might have come back: now it needs another one.
    needs_a_token: bool,
    /// The time served at which it was seen last.
    since: u64,
    name: &'t str,
    /// It is of no use any more.
    useless: bool,
}

impl AgentRegistry {
    /// Finds an agent, and says whether it is banned.
    pub fn agent(&self, name: &str) -> Option<(AgentRow, bool)> {
        let tables = self.read();
        let row = tables.agents.get(name)?;
        Some((row.clone(), tables.is_banned(name, row.caller.is_some())))
    }

    /// How many agents are registered, and how many names are banned.
    pub fn agents_total(&self) -> (usize, usize) {
        let tables = self.read();
        (tables.agents.len(), tables.bans.len())
    }

    /// What to say while there is no place for one more but somebody else's.
    pub fn crowded(&self) -> Option<String> {
        let (agents, max) = (self.read().agents.len(), self.0.membership.limits.max);
        (agents >= max).then(|| {
            format!(
                "{agents} agents are registered, as many as agents.max allows: each join token takes the place of an agent that is \
                 away, and is refused once none was away for longer than its certificates live: raise agents.max, or remove \
                 agents that are gone for good with `banyan agent remove`"
            )
        })
    }

    /// Names of all agents, sorted.
    pub fn agent_names(&self) -> Vec<String> {
        self.read().agents.keys().cloned().collect()
    }

    /// The time since this process opened the registry, and how many agents may be expected to come: those that were seen not longer
    /// before it than a certificate of theirs lives.
    pub fn expected(&self) -> (Duration, usize) {
        let (inner, tables) = (&self.0, self.read());
        let (served, uptime) = inner.opened;
        let lately = inner.membership.limits.idle_after + inner.write_seen_every();
        let is_expected = |(name, row): &(&String, &AgentRow)| {
            row.seen.served <= served
                && Duration::from_secs(served - row.seen.served) <= lately
                && !tables.is_banned(name, row.caller.is_some())
        };
        let expected = tables.agents.iter().filter(is_expected).count();
        (inner.membership.clock.uptime().saturating_sub(uptime), expected)
    }

    /// Agents by name, after this one.
    pub fn agents_after(&self, after: &str, limit: usize) -> Vec<ListedAgent> {
        let tables = self.read();
        let from = (Bound::Excluded(after), Bound::Unbounded);
        let page = tables.agents.range::<str, _>(from).take(limit);
        page.map(|(name, row)| self.0.listed(&tables, name, row)).collect()
    }

    /// Those of these agents that are registered.
    pub fn agents_named(&self, names: &[String]) -> Vec<ListedAgent> {
        let tables = self.read();
        let found = names.iter().filter_map(|name| tables.agents.get_key_value(name));
        found.map(|(name, row)| self.0.listed(&tables, name, row)).collect()
    }

    /// Notes that a registered agent proved itself just now. Costs no write.
    pub fn saw(&self, name: &str) {
        let now = self.0.now();
        let mut seen = self.0.lock_seen();
        match seen.get_mut(name) {
            Some(known) => *known = now,
            None => {
                seen.insert(name.to_owned(), now);
            }
        }
    }

    /// Registers an agent that proved itself with a JWT.
    pub async fn register(&self, newcomer: Newcomer, now: Timestamp) -> Result<(), RegistryError> {
        let inner = Arc::clone(&self.0);
        self.change(move |tables| {
            let agents = inner.joined(tables, newcomer, now)?;
            Ok((Change { agents, ..Change::default() }, ()))
        })
        .await
    }

    /// Writes down who was seen, and forgets who was not for long. Returns the names that were forgotten. To be called every
    /// minute or so: what is not done in one round is done in the next.
    pub async fn tend(&self) -> Result<Vec<String>, RegistryError> {
        let inner = Arc::clone(&self.0);
        let (forgotten, agents) = self
            .change(move |tables| {
                let (change, forgotten) = inner.tended(tables);
                let agents = tables.agents.len();
                Ok((change, (forgotten, agents)))
            })
            .await?;
        if !forgotten.is_empty() {
            tracing::info!(
                agents = forgotten.len(),
                of = agents,
                "agents that were not seen for long are forgotten"
            );
        }
        let tables = self.read();
        self.0.lock_seen().retain(|name, seen| {
            tables.agents.get(name).is_some_and(|row| row.seen.served < seen.served)
        });
        Ok(forgotten)
    }
}

impl Inner {
    /// The rows to write so that a newcomer is registered: its own, and those that give way to it.
    pub(super) fn joined(
        &self,
        tables: &Tables,
        newcomer: Newcomer,
        now: Timestamp,
    ) -> Result<Vec<(String, Option<AgentRow>)>, RegistryError> {
        let Newcomer { name, spki, identities, caller } = newcomer;
        if tables.is_banned(&name, caller.is_some()) {
            return Err(RegistryError::Banned(name));
        }
        let mut changes: Vec<(String, Option<AgentRow>)> = Vec::new();
        if !tables.agents.contains_key(&name) {
            let own =
                caller.as_deref().map(|caller| self.place_of_caller(tables, caller)).transpose()?;
            changes.extend(own.flatten().map(|gone| (gone, None)));
            let left = tables.agents.len() - changes.len();
            let gone = self.place_in_all(tables, caller.is_some(), left)?;
            changes.extend(gone.into_iter().map(|gone| (gone, None)));
        }
        for (gone, _) in &changes {
            match tables.agents.get(gone).is_some_and(|row| row.caller.is_none()) {
                true => tracing::warn!(
                    agent = gone,
                    for_agent = name,
                    "the registry is full (agents.max): an agent that was away for longer than its certificates live gives way; \
                     if it comes back it needs a new join token"
                ),
                false => {
                    tracing::info!(
                        agent = gone,
                        for_agent = name,
                        "an agent that is not connected gives way"
                    );
                }
            }
        }
        let seen = Seen { at: now, ..self.now() };
        changes.push((name, Some(AgentRow { spki, identities, registered: now, caller, seen })));
        Ok(changes)
    }

    /// The agent of the same caller that gives way to one more, if one must.
    fn place_of_caller(
        &self,
        tables: &Tables,
        caller: &str,
    ) -> Result<Option<String>, RegistryError> {
        let most = self.membership.limits.per_caller;
        let mut gives_way = None;
        if let Some(names) = tables.callers.get(caller).filter(|names| names.len() >= most) {
            let of_caller = names.iter().filter_map(|name| tables.agents.get_key_value(name));
            let oldest = self.absent(of_caller).into_iter().min();
            let full = || RegistryError::CallerFull { caller: caller.to_owned(), most };
            gives_way = Some(oldest.ok_or_else(full)?.1.to_owned());
        }
        if !self.pace.take(caller, self.membership.clock.uptime()) {
            return Err(RegistryError::CallerTooFast { caller: caller.to_owned(), most });
        }
        Ok(gives_way)
    }

    /// The agents that give way so that there is a place for one more. A tenth is kept for join tokens.
    fn place_in_all(
        &self,
        tables: &Tables,
        by_jwt: bool,
        agents: usize,
    ) -> Result<Vec<String>, RegistryError> {
        let limits = &self.membership.limits;
        let most = if by_jwt { limits.max - (limits.max / 10).max(1) } else { limits.max };
        if agents < most {
            return Ok(Vec::new());
        }
        let served = self.now().served;
        let mut giving: Vec<Giving<'_>> = self
            .absent(tables.agents.iter())
            .into_iter()
            .filter_map(|(since, name)| {
                let by_token = tables.agents.get(name).is_some_and(|row| row.caller.is_none());
                let unseen = Duration::from_secs(served.saturating_sub(since));
                let idle = match (by_token, by_jwt) {
                    // Only who would be forgotten anyway.
                    (true, true) => self.forget_after(),
                    // Nothing that it holds lives, and nothing is waited for on its account.
                    (true, false) => limits.idle_after + self.write_seen_every(),
                    (false, true) => limits.idle_after,
                    (false, false) => Duration::ZERO,
                };
                let needs_a_token = by_token && unseen < self.forget_after();
                let useless = !needs_a_token && unseen >= limits.idle_after;
                (unseen >= idle).then_some(Giving { needs_a_token, since, name, useless })
            })
            .collect();
        // Whoever can come back by itself goes first, and of those who cannot as few as must.
        giving.sort_unstable();
        let many = (limits.max / GIVES_WAY).max(1);
        let useless = giving.iter().take_while(|one| one.useless).count();
        let needed = agents + 1 - most;
        giving.truncate(useless.min(many).max(needed));
        match giving.len() < needed {
            true => Err(RegistryError::AgentsFull { most }),
            false => Ok(giving.into_iter().map(|one| one.name.to_owned()).collect()),
        }
    }

    /// Those that are not connected, with the time served at which each was seen last.
    fn absent<'t>(
        &self,
        agents: impl Iterator<Item = (&'t String, &'t AgentRow)>,
    ) -> Vec<(u64, &'t str)> {
        let (noted, sessions) = (self.lock_seen(), &self.membership.sessions);
        let last = |name: &str, row: &AgentRow| newest(row, noted.get(name)).served;
        agents
            .filter(|(name, _)| !sessions.is_connected(name))
            .map(|(name, row)| (last(name, row), name.as_str()))
            .collect()
    }

    fn tended(&self, tables: &Tables) -> (Change, Vec<String>) {
        let (now, noted) = (self.now(), self.lock_seen().clone());
        let gone_after = self.forget_after().as_secs();
        let stale = self.write_seen_every().as_secs();
        let sessions = &self.membership.sessions;
        let (mut agents, mut forgotten) = (Vec::new(), Vec::new());
        for (name, row) in &tables.agents {
            if agents.len() >= ROUND_MAX {
                break;
            }
            let seen = newest(row, noted.get(name));
            if now.served.saturating_sub(seen.served) > gone_after && !sessions.is_connected(name) {
                forgotten.push(name.clone());
                agents.push((name.clone(), None));
            } else if seen.served.saturating_sub(row.seen.served) >= stale {
                agents.push((name.clone(), Some(AgentRow { seen, ..row.clone() })));
            }
        }
        let due = now.served.saturating_sub(tables.served) >= SERVED_EVERY.as_secs();
        let served = (due || !agents.is_empty()).then_some(now.served);
        (Change { agents, served, ..Change::default() }, forgotten)
    }

    /// What is written down of an agent may be this much older than the truth.
    fn write_seen_every(&self) -> Duration {
        let (least, most) = (Duration::from_secs(60), Duration::from_secs(43_200));
        (self.membership.limits.forget_after / 32).clamp(least, most)
    }

    /// So that nobody is forgotten early after a crash.
    fn forget_after(&self) -> Duration {
        self.membership.limits.forget_after + self.write_seen_every()
    }

    pub(super) fn now(&self) -> Seen {
        let clock = &self.membership.clock;
        let (before, uptime) = self.opened;
        let here = clock.uptime().saturating_sub(uptime).as_secs();
        Seen { at: clock.now(), served: before.saturating_add(here) }
    }

    fn listed(&self, tables: &Tables, name: &str, row: &AgentRow) -> ListedAgent {
        let seen = newest(row, self.lock_seen().get(name)).at;
        let banned = tables.is_banned(name, row.caller.is_some());
        ListedAgent { name: name.to_owned(), row: row.clone(), seen, banned }
    }

    fn lock_seen(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest(row: &AgentRow, noted: Option<&Seen>) -> Seen {
    noted.copied().filter(|noted| noted.served >= row.seen.served).unwrap_or(row.seen)
}

#[cfg(test)]
#[path = "agents_tests.rs"]
mod tests;
