//! How agents get into the registry: with a join token, or with a JWT.
//!
//! A join token makes one agent, also where it comes to two servers at once: the row of the token decides. It is written first, as
//! used by a key; then the agent's row; then the rows that give way. Whoever is stopped after the first of them comes again with
//! the same key, within the time for a retry, and finds a token that is used by its key and no agent of its own yet: the agent is
//! written then. Rows that did not give way do so with the next newcomer. Whoever removes an agent first marks its tokens as spent,
//! so that this repair brings nobody back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auth::authz::JOIN_TOKEN_RETRY;
use trust::{SpkiHash, Timestamp};

use crate::cache::{Cache, Write};
use crate::error::RegistryError;
use crate::registry::{AgentRegistry, Inner};
use crate::row::Row;
use crate::rows::{AgentRow, Newcomer, Seen, TokenHash, TokenRow};

/// An agent that comes again with the same key so soon is only seen, and not written anew.
const WRITE_JOINED_EVERY: Duration = Duration::from_secs(600);

/// Who wants to be registered, and whether it was counted as one more of its caller's.
pub(crate) struct Joining {
    pub(crate) newcomer: Newcomer,
    pub(crate) now: Timestamp,
    paced: AtomicBool,
}

impl AgentRegistry {
    /// Uses a token for a key and registers its agent. The same key may come again for five minutes.
    pub async fn redeem(
        &self,
        hash: TokenHash,
        spki: SpkiHash,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let inner = Arc::clone(&self.0);
        self.change(move |tables| {
            let token = tables.tokens.get(&hash).ok_or(RegistryError::TokenUnknown)?;
            check_token(token, &spki, now)?;
            let (name, identities) = (token.agent.clone(), token.identities.clone());
            let mut writes: Vec<_> = used(tables, token, &spki, now)?
                .map(|row| token_write(hash, row))
                .into_iter()
                .collect();
            let joining = Joining::new(Newcomer { name, spki, identities, caller: None }, now);
            writes.extend(inner.joined(tables, &joining)?);
            Ok((writes, ()))
        })
        .await
    }

    /// Registers an agent that proved itself with a JWT: its row first, then the rows that give way.
    pub async fn register(&self, newcomer: Newcomer, now: Timestamp) -> Result<(), RegistryError> {
        let inner = Arc::clone(&self.0);
        let joining = Joining::new(newcomer, now);
        self.change(move |tables| Ok((inner.joined(tables, &joining)?, ()))).await
    }
}

/// The token's row with this key, if it is to be written. A retry that finds no agent writes it once more as it is: so it learns
/// whether the agent was removed meanwhile.
fn used(
    tables: &Cache,
    token: &TokenRow,
    spki: &SpkiHash,
    now: Timestamp,
) -> Result<Option<TokenRow>, RegistryError> {
    let Some((_, at)) = token.used else {
        return Ok(Some(TokenRow { used: Some((*spki, now)), ..token.clone() }));
    };
    match tables.agents.get(&token.agent) {
        Some(row) if row.spki == *spki => Ok(None),
        // It joined anew with another token since.
        Some(row) if row.registered >= at => Err(RegistryError::TokenUsed),
        Some(_) | None => Ok(Some(token.clone())),
    }
}

fn token_write(hash: TokenHash, row: TokenRow) -> Write {
    Write::confirming(Row::Token(hash, Some(row)))
}

impl Joining {
    fn new(newcomer: Newcomer, now: Timestamp) -> Self {
        Self { newcomer, now, paced: AtomicBool::new(false) }
    }

    /// Whether the pace of its caller was asked about it before.
    pub(crate) fn was_paced(&self) -> bool {
        self.paced.swap(true, Ordering::Relaxed)
    }
}

impl Inner {
    /// The rows to write so that a newcomer is registered: its own, and those that give way to it.
    fn joined(&self, tables: &Cache, joining: &Joining) -> Result<Vec<Write>, RegistryError> {
        let Newcomer { name, spki, identities, caller } = &joining.newcomer;
        if tables.is_banned(name, caller.is_some(), joining.now) {
            return Err(RegistryError::Banned(name.clone()));
        }
        let known = tables.agents.get(name);
        let same = |row: &&AgentRow| {
            row.spki == *spki && row.identities == *identities && row.caller == *caller
        };
        let lately = |row: &&AgentRow| joining.now.since(row.registered) < WRITE_JOINED_EVERY;
        if known.filter(same).filter(lately).is_some() {
            self.saw(name);
            return Ok(Vec::new());
        }
        let give_way = match known {
            Some(_) => Vec::new(),
            None => self.give_way(tables, joining)?,
        };
        let row = AgentRow {
            spki: *spki,
            identities: identities.clone(),
            registered: joining.now,
            caller: caller.clone(),
            seen: Seen { at: joining.now, ..self.now() },
            home: caller.is_some().then(|| self.membership.replica.clone()),
        };
        let mut writes = vec![Write::of(Row::Agent(name.clone(), Some(row)))];
        writes.extend(give_way.into_iter().map(|gone| Write::spare(Row::Agent(gone, None))));
        Ok(writes)
    }

    /// The agents that give way to one more.
    fn give_way(&self, tables: &Cache, joining: &Joining) -> Result<Vec<String>, RegistryError> {
        let caller = joining.newcomer.caller.as_deref();
        let mut gone = match caller {
            Some(caller) => self.place_of_caller(tables, caller, joining)?,
            None => Vec::new(),
        };
        let left = tables.agents.len() - gone.len();
        gone.extend(self.place_in_all(tables, caller.is_some(), left)?);
        for gone in &gone {
            match tables.agents.get(gone).is_some_and(|row| row.caller.is_none()) {
                true => tracing::warn!(
                    agent = gone,
                    for_agent = joining.newcomer.name,
                    "the registry is full (agents.max): an agent that was away for longer than its certificates live gives way; \
                     if it comes back it needs a new join token"
                ),
                false => {
                    tracing::info!(
                        agent = gone,
                        for_agent = joining.newcomer.name,
                        "an agent that is not connected gives way"
                    );
                }
            }
        }
        Ok(gone)
    }
}

/// Whether a token may be used for this key now.
pub fn check_token(token: &TokenRow, spki: &SpkiHash, now: Timestamp) -> Result<(), RegistryError> {
    if token.revoked.is_some() {
        return Err(RegistryError::TokenRevoked);
    }
    match &token.used {
        Some(_) if token.spent => Err(RegistryError::TokenUsed),
        Some((key, at)) if key == spki && now.since(*at) <= JOIN_TOKEN_RETRY => Ok(()),
        Some(_) => Err(RegistryError::TokenUsed),
        None if now > token.expires => Err(RegistryError::TokenExpired(token.expires)),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "joining_tests.rs"]
mod tests;
