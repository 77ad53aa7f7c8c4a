//! The rows in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use trust::RootId;

use crate::ban_row::{Ban, BanSubject};
use crate::federation_row::FederationRow;
use crate::row::Row;
use crate::rows::{
    ActRow, AgentRow, AttestedRow, DownstreamRow, RelyingPartyRow, TokenHash, TokenRow,
};
use crate::waiver_row::WaiverRow;

/// Everything in the registry. It is small, so all of it is in memory.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tables {
    pub(crate) tokens: HashMap<TokenHash, TokenRow>,
    pub(crate) agents: BTreeMap<String, AgentRow>,
    /// The agents of each JWT caller. Follows from `agents`.
    pub(crate) callers: HashMap<String, BTreeSet<String>>,
    /// By the ids of their rows.
    pub(crate) bans: BTreeMap<String, Ban>,
    /// What operators did, oldest first.
    pub(crate) acts: BTreeMap<u64, ActRow>,
    /// For how many seconds servers had served this registry when it was last written down.
    pub(crate) served: u64,
    /// The longest time served that any row tells of.
    pub(crate) heard: u64,
    pub(crate) relying_parties: BTreeMap<String, RelyingPartyRow>,
    pub(crate) attested: BTreeMap<RootId, AttestedRow>,
    pub(crate) waivers: BTreeMap<String, WaiverRow>,
    /// Other trust domains, by their names.
    pub(crate) federations: BTreeMap<String, FederationRow>,
    pub(crate) downstreams: BTreeMap<String, DownstreamRow>,
}

impl Tables {
    /// Takes a row over. Answers the agents that are to be judged again: those that may call no more, or not with the key that
    /// they have.
    pub(crate) fn put(&mut self, row: Row) -> Vec<String> {
        match row {
            Row::Agent(name, row) => return self.put_agent(name, row),
            Row::Ban(id, row) => {
                let subject = row.is_some().then(|| BanSubject::of_id(&id)).flatten();
                let of_leaf = row.as_ref().and_then(|row| row.agent.clone());
                set(&mut self.bans, id, row);
                let banned = subject.map(|subject| self.agents_of(&subject)).unwrap_or_default();
                return banned.into_iter().chain(of_leaf).collect();
            }
            Row::Token(hash, row) => match row {
                Some(row) => drop(self.tokens.insert(hash, row)),
                None => drop(self.tokens.remove(&hash)),
            },
            Row::Act(index, row) => set(&mut self.acts, index, row),
            Row::Served(secs) => {
                self.served = secs.unwrap_or(0);
                self.heard = self.heard.max(self.served);
            }
            Row::RelyingParty(name, row) => set(&mut self.relying_parties, name, row),
            Row::Attested(root, row) => set(&mut self.attested, root, row),
            Row::Waiver(name, row) => set(&mut self.waivers, name, row),
            Row::Federation(name, row) => set(&mut self.federations, name, row),
            Row::Downstream(name, row) => set(&mut self.downstreams, name, row),
        }
        Vec::new()
    }

    /// Whether exactly this is here.
    pub(crate) fn has(&self, row: &Row) -> bool {
        match row {
            Row::Agent(name, row) => self.agents.get(name) == row.as_ref(),
            Row::Ban(id, row) => self.bans.get(id) == row.as_ref(),
            Row::Token(hash, row) => self.tokens.get(hash) == row.as_ref(),
            Row::Act(index, row) => self.acts.get(index) == row.as_ref(),
            Row::Served(secs) => *secs == Some(self.served),
            Row::RelyingParty(name, row) => self.relying_parties.get(name) == row.as_ref(),
            Row::Attested(root, row) => self.attested.get(root) == row.as_ref(),
            Row::Waiver(name, row) => self.waivers.get(name) == row.as_ref(),
            Row::Federation(name, row) => self.federations.get(name) == row.as_ref(),
            Row::Downstream(name, row) => self.downstreams.get(name) == row.as_ref(),
        }
    }

    pub(crate) fn next_act(&self) -> u64 {
        self.acts.last_key_value().map_or(1, |(index, _)| index.saturating_add(1))
    }

    fn put_agent(&mut self, name: String, row: Option<AgentRow>) -> Vec<String> {
        let former = self.agents.remove(&name);
        if let Some(caller) = former.as_ref().and_then(|former| former.caller.as_ref())
            && let Some(names) = self.callers.get_mut(caller)
        {
            names.remove(&name);
            if names.is_empty() {
                self.callers.remove(caller);
            }
        }
        let key = row.as_ref().map(|row| row.spki);
        let other_key = former.is_some_and(|former| key != Some(former.spki));
        let judged = if other_key { vec![name.clone()] } else { Vec::new() };
        if let Some(row) = row {
            self.heard = self.heard.max(row.seen.served);
            if let Some(caller) = &row.caller {
                self.callers.entry(caller.clone()).or_default().insert(name.clone());
            }
            self.agents.insert(name, row);
        }
        judged
    }
}

fn set<K: Ord, V>(rows: &mut BTreeMap<K, V>, key: K, row: Option<V>) {
    match row {
        Some(row) => drop(rows.insert(key, row)),
        None => drop(rows.remove(&key)),
    }
}
