//! What operators do about agents: remove them, ban names, take bans back. Each is one write together with the note of who
//! did it and why.

use std::ops::Bound;

use trust::Timestamp;

use crate::error::RegistryError;
use crate::registry::AgentRegistry;
use crate::rows::{ActRow, BanRow, TokenRow};
use crate::store::{Change, Tables};

/// Names that may be banned.
pub(crate) const BANS_MAX: usize = 10_000;
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
        self.change(move |tables| {
            let ruled = tables.judged(ruling, &name, sentence.at)?;
            let mut change = Change::default();
            match ruling {
                Ruling::Remove => {
                    change.agents = ruled.agents.iter().map(|name| (name.clone(), None)).collect()
                }
                Ruling::Ban => change.bans.push((name.clone(), Some(sentence.clone()))),
                Ruling::Unban => change.bans.push((name.clone(), None)),
            }
            let agents = u64::try_from(ruled.agents.len()).unwrap_or(u64::MAX);
            change.act =
                Some(ActRow { verb: ruling.verb().to_owned(), name, agents, word: sentence });
            Ok((change, ruled))
        })
        .await
    }

    /// Bans by name, after this one.
    pub fn bans_after(&self, after: &str, limit: usize) -> Vec<(String, BanRow)> {
        let tables = self.read();
        let page =
            tables.bans.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)).take(limit);
        page.map(|(name, row)| (name.clone(), row.clone())).collect()
    }

    /// What operators did, from this index on.
    pub fn acts_from(&self, from: u64, limit: usize) -> Vec<(u64, ActRow)> {
        let tables = self.read();
        tables.acts.iter().filter(|(index, _)| *index >= from).take(limit).cloned().collect()
    }
}

impl Tables {
    /// Whether a name is refused. For who joins with a JWT, a ban of the identity's path counts for every key.
    pub(super) fn is_banned(&self, name: &str, by_jwt: bool) -> bool {
        let family = name.rsplit_once('/').map(|(family, _)| family).filter(|_| by_jwt);
        self.bans.contains_key(name) || family.is_some_and(|family| self.bans.contains_key(family))
    }

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

    /// The agent of this name, and those that joined with a JWT of the identity with this path.
    fn under(&self, name: &str) -> Vec<String> {
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
