//! Agents: who was seen, and how they leave the registry.
//!
//! Every row can end. One that was not seen for `agents.forget_after` is forgotten; one caller's rows are bounded; and when
//! the registry is full, whoever brings a join token gets the place of an agent that is not connected: of a JWT caller's, or
//! else of the one that was away longest, if it was away for so long that no certificate of its lives.
//!
//! That an agent was seen is kept in memory, and written down for each agent at most once within a 32nd of `agents.forget_after`, by
//! the server that sees it. So what others know of it is as old at most, and they wait for as much longer before they forget it.
//! Where it is connected is written down only of agents that might have to give way.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};

use crate::cache::Write;
use crate::error::RegistryError;
use crate::joining::Joining;
use crate::registry::{AgentRegistry, Inner, Membership};
use crate::row::Row;
use crate::rows::{AgentRow, ListedAgent, Seen};
use crate::tables::Tables;

/// The time served is written down this often, by whichever server is first; a crash loses as much.
const SERVED_EVERY: Duration = Duration::from_secs(600);
/// Rows that one round of upkeep writes at most: what is left is written in the next.
const ROUND_MAX: usize = 5_000;
/// Rows that upkeep writes at once. Places are left to those who join.
const TENDED_AT_ONCE: usize = 8;
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
        let now = self.0.membership.clock.now();
        Some((row.clone(), tables.is_banned(name, row.caller.is_some(), now)))
    }

    /// How many agents are registered, and how many names are banned.
    pub fn agents_total(&self) -> (usize, usize) {
        let tables = self.read();
        (tables.agents.len(), tables.banned_names(self.0.membership.clock.now()))
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
        let (served, since) = inner.since_opened();
        let now = inner.membership.clock.now();
        let lately = inner.membership.limits.idle_after + inner.write_seen_every();
        let is_expected = |(name, row): &(&String, &AgentRow)| {
            row.seen.served <= served
                && Duration::from_secs(served - row.seen.served) <= lately
                && !tables.is_banned(name, row.caller.is_some(), now)
        };
        let expected = tables.agents.iter().filter(is_expected).count();
        (since, expected)
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
        self.0.saw(name);
    }

    /// Writes down who was seen, and forgets who was not for long. Returns the names that were forgotten. To be called every
    /// minute or so: what is not done in one round is done in the next.
    pub async fn tend(&self) -> Result<Vec<String>, RegistryError> {
        self.note_served().await?;
        let (due, agents) = {
            let tables = self.read();
            (self.0.due(&tables), tables.agents.len())
        };
        let tending = due.into_iter().map(|name| self.tend_one(name));
        let mut tended = stream::iter(tending).buffer_unordered(TENDED_AT_ONCE);
        let mut forgotten = Vec::new();
        while let Some(gone) = tended.next().await {
            forgotten.extend(gone?);
        }
        if !forgotten.is_empty() {
            tracing::info!(
                agents = forgotten.len(),
                of = agents,
                "agents that were not seen for long are forgotten"
            );
        }
        forgotten.sort();
        let tables = self.read();
        self.0.lock_seen().retain(|name, seen| {
            tables.agents.get(name).is_some_and(|row| row.seen.served < seen.served)
        });
        Ok(forgotten)
    }

    /// Writes one agent's row down, or removes it, by what is in it now. Its name if it was forgotten.
    async fn tend_one(&self, name: String) -> Result<Option<String>, RegistryError> {
        let inner = Arc::clone(&self.0);
        self.change(move |tables| {
            let known = tables.agents.get(&name);
            let Some(tended) = known.and_then(|row| inner.tended(tables, &name, row)) else {
                return Ok((Vec::new(), None));
            };
            let (row, forgotten) = match tended {
                Tended::Write(row) => (Some(row), None),
                Tended::Forget => (None, Some(name.clone())),
            };
            Ok((vec![Write::of(Row::Agent(name.clone(), row))], forgotten))
        })
        .await
    }

    async fn note_served(&self) -> Result<(), RegistryError> {
        let inner = Arc::clone(&self.0);
        self.change(move |tables| {
            let served = inner.now().served;
            let due = served.saturating_sub(tables.served) >= SERVED_EVERY.as_secs();
            let write = Write::of(Row::Served(Some(served)));
            Ok((due.then_some(write).into_iter().collect(), ()))
        })
        .await
    }
}

/// What upkeep does about a row.
#[derive(Debug)]
enum Tended {
    Write(AgentRow),
    Forget,
}

impl Inner {
    pub(crate) fn saw(&self, name: &str) {
        let now = self.now();
        let mut seen = self.lock_seen();
        match seen.get_mut(name) {
            Some(known) => *known = now,
            None => {
                seen.insert(name.to_owned(), now);
            }
        }
    }

    /// The agents of the same caller that give way to one more, if any must.
    pub(crate) fn place_of_caller(
        &self,
        tables: &Tables,
        caller: &str,
        joining: &Joining,
    ) -> Result<Vec<String>, RegistryError> {
        let most = self.membership.limits.per_caller;
        let mut give_way = Vec::new();
        if let Some(names) = tables.callers.get(caller).filter(|names| names.len() >= most) {
            let of_caller = names.iter().filter_map(|name| tables.agents.get_key_value(name));
            let mut absent = self.absent(of_caller);
            absent.sort_unstable();
            if absent.is_empty() {
                return Err(RegistryError::CallerFull { caller: caller.to_owned(), most });
            }
            // Of newcomers at several servers at the same moment there may be some too many.
            let oldest = absent.into_iter().take(names.len() + 1 - most);
            give_way.extend(oldest.map(|(_, name)| name.to_owned()));
        }
        if !joining.was_paced() && !self.pace.take(caller, self.membership.clock.uptime()) {
            return Err(RegistryError::CallerTooFast { caller: caller.to_owned(), most });
        }
        Ok(give_way)
    }

    /// The agents that give way so that there is a place for one more. A tenth is kept for join tokens.
    pub(crate) fn place_in_all(
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

    /// Those that are not connected, with the time served at which each was seen last. One that may be connected to another server
    /// counts as absent once that server would have written down that it is there.
    fn absent<'t>(
        &self,
        agents: impl Iterator<Item = (&'t String, &'t AgentRow)>,
    ) -> Vec<(u64, &'t str)> {
        let now = self.now().served;
        let noted = self.lock_seen();
        let Membership { sessions, replica, .. } = &self.membership;
        let gone_after = (self.write_seen_every() * 2).as_secs();
        let elsewhere = |row: &AgentRow, last: u64| {
            let other = row.home.as_ref().is_some_and(|home| home != replica);
            other && now.saturating_sub(last) < gone_after
        };
        agents
            .map(|(name, row)| (newest(row, noted.get(name)).served, name.as_str(), row))
            .filter(|(last, name, row)| !sessions.is_connected(name) && !elsewhere(row, *last))
            .map(|(last, name, _)| (last, name))
            .collect()
    }

    /// The agents whose rows are to be written or removed in this round.
    fn due(&self, tables: &Tables) -> Vec<String> {
        let is_due = |(name, row): &(&String, &AgentRow)| self.tended(tables, name, row).is_some();
        let due = tables.agents.iter().filter(is_due).take(ROUND_MAX);
        due.map(|(name, _)| name.clone()).collect()
    }

    /// What is to be done about the row of an agent. A stream is a sight.
    fn tended(&self, tables: &Tables, name: &str, row: &AgentRow) -> Option<Tended> {
        let now = self.now();
        let is_here = self.membership.sessions.is_connected(name);
        let noted = self.lock_seen().get(name).copied();
        let seen = if is_here { now } else { newest(row, noted.as_ref()) };
        if now.served.saturating_sub(seen.served) > self.forget_after().as_secs() {
            return Some(Tended::Forget);
        }
        let stale = self.write_seen_every().as_secs();
        let home = self.home(tables, row, is_here);
        let due = seen.served.saturating_sub(row.seen.served) >= stale || home != row.home;
        due.then(|| Tended::Write(AgentRow { seen, home, ..row.clone() }))
    }

    /// Where an agent is connected, as far as it is to be written down.
    fn home(&self, tables: &Tables, row: &AgentRow, is_here: bool) -> Option<String> {
        let limits = &self.membership.limits;
        let own = &self.membership.replica;
        let caller = row.caller.as_ref()?;
        let many = tables.callers.get(caller).is_some_and(|names| names.len() >= limits.per_caller);
        let crowded = many || tables.agents.len() >= limits.max - (limits.max / 10).max(1);
        match crowded {
            false => row.home.clone(),
            true if is_here => Some(own.clone()),
            true => row.home.clone().filter(|home| home != own),
        }
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

    fn listed(&self, tables: &Tables, name: &str, row: &AgentRow) -> ListedAgent {
        let seen = newest(row, self.lock_seen().get(name)).at;
        let now = self.membership.clock.now();
        let banned = tables.is_banned(name, row.caller.is_some(), now);
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
