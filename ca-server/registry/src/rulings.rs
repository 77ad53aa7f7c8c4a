//! What operators do about agents: remove them, ban names, take bans back.
//!
//! First the note of who does it and why is written, then what it is about. So nothing is done that is not noted; whoever is stopped
//! between the two leaves a note of something that did not come about, has no answer, and does it again. Before an agent is removed
//! the tokens that it joined with just now are marked as spent, or its own key could come back with one.

use std::ops::Bound;

use trust::Timestamp;

use auth::authz::JOIN_TOKEN_RETRY;

use crate::ban_row::{Ban, BanSubject};
use crate::bans::BANS_MAX;
use crate::cache::{Cache, Write};
use crate::error::RegistryError;
use crate::registry::AgentRegistry;
use crate::row::{Kind, Row};
use crate::rows::{ActRow, BanRow, TokenHash, TokenRow, id_of};
use crate::tables::Tables;

/// Acts that are kept.
const ACTS_MAX: usize = 1_000;
/// Digits at the end of the name of an agent that joined with a JWT.
const KEY_DIGITS: usize = 16;

/// What shall be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Free the name.
    Remove,
    /// Refuse the name.
    Ban,
    /// Refuse it no more.
    Unban,
}

/// By whom, why, and when.
pub type Sentence = BanRow;

/// What a ruling is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruled {
    /// The registered agents, by name.
    pub agents: Vec<String>,
    /// Join tokens for the name that can still be used.
    pub unused_tokens: u64,
    /// Whether the name was banned before.
    pub was_banned: bool,
}

impl Ruling {
    /// The operator's word for it.
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Ban => "ban",
            Self::Unban => "unban",
        }
    }
}

impl AgentRegistry {
    /// What a ruling would be about, if it is legal.
    pub fn preview(
        &self,
        ruling: Ruling,
        name: &str,
        now: Timestamp,
    ) -> Result<Ruled, RegistryError> {
        self.read().judged(ruling, name, now)
    }

    /// Carries a ruling out.
    pub async fn rule(
        &self,
        ruling: Ruling,
        name: String,
        sentence: Sentence,
    ) -> Result<Ruled, RegistryError> {
        let ruled = self.preview(ruling, &name, sentence.at)?;
        let agents = u64::try_from(ruled.agents.len()).unwrap_or(u64::MAX);
        let verb = ruling.verb().to_owned();
        self.note(ActRow { verb, name: name.clone(), agents, word: sentence.clone() }).await?;
        match ruling {
            Ruling::Remove => self.remove(name, sentence.at).await?,
            Ruling::Ban => {
                let ban = move |_: &Cache| {
                    let row = Some(Ban::for_good(sentence.clone()));
                    Ok((vec![Write::of(Row::Ban(name.clone(), row))], ()))
                };
                self.change(ban).await?;
            }
            Ruling::Unban => {
                let unban =
                    move |_: &Cache| Ok((vec![Write::of(Row::Ban(name.clone(), None))], ()));
                self.change(unban).await?;
            }
        }
        Ok(ruled)
    }

    /// Writes down what an operator does, under the next index that is free.
    pub(crate) async fn note(&self, act: ActRow) -> Result<(), RegistryError> {
        self.change(move |tables| {
            let mut writes = vec![Write::of(Row::Act(tables.next_act(), Some(act.clone())))];
            let surplus = (tables.acts.len() + 1).saturating_sub(ACTS_MAX);
            let surplus = tables.acts.keys().take(surplus);
            writes.extend(surplus.map(|index| Write::spare(Row::Act(*index, None))));
            Ok((writes, ()))
        })
        .await
    }

    /// Marks tokens as spent, then removes the agents.
    async fn remove(&self, name: String, now: Timestamp) -> Result<(), RegistryError> {
        // A token is used before its agent is there; so whoever knows of the agent finds in the store that it is used.
        let tokens = self.read().tokens_of(&name);
        for hash in tokens {
            let read = self.0.look_at(Kind::Tokens, &id_of(&hash)).await;
            read.map_err(|error| {
                tracing::warn!(%error, "no agent is removed: its join tokens cannot be read");
                RegistryError::Broken
            })?;
        }
        self.change(move |tables| {
            let retried = |row: &TokenRow| {
                row.used.is_some_and(|(_, at)| now.since(at) <= JOIN_TOKEN_RETRY * 2) && !row.spent
            };
            let rows = tables.tokens_of(&name).into_iter().filter_map(|hash| {
                let row = tables.tokens.get(&hash).filter(|row| retried(row))?;
                Some(Row::Token(hash, Some(TokenRow { spent: true, ..row.clone() })))
            });
            let mut writes: Vec<_> = rows.map(Write::of).collect();
            let gone = tables.under(&name).into_iter();
            writes.extend(gone.map(|agent| Write::of(Row::Agent(agent, None))));
            Ok((writes, ()))
        })
        .await
    }

    /// Bans of names of agents, after this one.
    pub fn bans_after(&self, after: &str, limit: usize) -> Vec<(String, BanRow)> {
        let tables = self.read();
        let page = tables.bans.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let names = page.filter_map(|(id, ban)| match BanSubject::of_id(id)? {
            BanSubject::Agent(name) => Some((name, ban.word.clone())),
            BanSubject::Identity(_)
            | BanSubject::Key(_)
            | BanSubject::Leaf(_)
            | BanSubject::Issuer(_) => None,
        });
        names.take(limit).collect()
    }

    /// What operators did, from this index on.
    pub fn acts_from(&self, from: u64, limit: usize) -> Vec<(u64, ActRow)> {
        let tables = self.read();
        tables.acts.range(from..).take(limit).map(|(index, act)| (*index, act.clone())).collect()
    }
}

impl Tables {
    fn judged(&self, ruling: Ruling, name: &str, now: Timestamp) -> Result<Ruled, RegistryError> {
        let agents = self.under(name);
        let was_banned = self.bans.contains_key(name);
        match ruling {
            Ruling::Remove if agents.is_empty() => {
                return Err(RegistryError::AgentUnknown(name.to_owned()));
            }
            Ruling::Unban if !was_banned => return Err(RegistryError::NotBanned(name.to_owned())),
            Ruling::Ban if !was_banned && self.bans.len() >= BANS_MAX => {
                return Err(RegistryError::Full("bans"));
            }
            _ => {}
        }
        let usable =
            |token: &&TokenRow| token.agent == name && token.used.is_none() && token.expires >= now;
        let unused = self.tokens.values().filter(usable).count();
        Ok(Ruled { agents, unused_tokens: u64::try_from(unused).unwrap_or(u64::MAX), was_banned })
    }

    /// Tokens that make the agent of this name.
    fn tokens_of(&self, name: &str) -> Vec<TokenHash> {
        let of_name = self.tokens.iter().filter(|(_, row)| row.agent == name);
        of_name.map(|(hash, _)| *hash).collect()
    }

    /// The agent of this name, and those that joined with a JWT of the identity with this path.
    pub(crate) fn under(&self, name: &str) -> Vec<String> {
        let family = format!("{name}/");
        let of_jwt =
            self.agents.range(family.clone()..).take_while(|(other, _)| other.starts_with(&family));
        let of_jwt = of_jwt.filter(|(other, row)| {
            row.caller.is_some() && other.len() == family.len() + KEY_DIGITS
        });
        let itself = self.agents.get_key_value(name);
        itself.into_iter().chain(of_jwt).map(|(name, _)| name.clone()).collect()
    }
}
