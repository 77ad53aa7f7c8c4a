//! A row of any kind, as a key and a value of the shared store.
//!
//! A value is the row as JSON behind a line that tells an edit ([`stores::marked`]). The names in it stay as they are, whatever
//! the code calls the same things: `stored_rows.txt` pins them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use stores::marked::{mark, unmark};
use stores::{InvalidKey, Key, ReadError, Space, spaces};
use trust::RootId;

use crate::ban_row::Ban;
use crate::error::RegistryError;
use crate::federation_row::FederationRow;
use crate::rows::{
    ActRow, AgentRow, AttestedRow, DownstreamRow, RelyingPartyRow, TokenHash, TokenRow, id_of,
};
use crate::waiver_row::WaiverRow;

/// The one key of its space.
const SERVED_SECS: &str = "secs";

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Bans,
    Downstreams,
    RelyingParties,
    Attested,
    Waivers,
    Federations,
    Tokens,
    Agents,
    Acts,
    Served,
}

/// A row, or with `None` that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Row {
    /// By the id of its row.
    Ban(String, Option<Ban>),
    Downstream(String, Option<DownstreamRow>),
    RelyingParty(String, Option<RelyingPartyRow>),
    Attested(RootId, Option<AttestedRow>),
    Waiver(String, Option<WaiverRow>),
    Federation(String, Option<FederationRow>),
    Token(TokenHash, Option<TokenRow>),
    Agent(String, Option<AgentRow>),
    Act(u64, Option<ActRow>),
    /// For how many seconds servers had served this registry.
    Served(Option<u64>),
}

impl Kind {
    /// In the order in which they are read, and taken over: whom a row refuses or makes wait comes before whom one lets in.
    pub(crate) const ALL: [Self; 10] = [
        Self::Bans,
        Self::Downstreams,
        Self::RelyingParties,
        Self::Attested,
        Self::Waivers,
        Self::Federations,
        Self::Tokens,
        Self::Agents,
        Self::Acts,
        Self::Served,
    ];

    pub(crate) const fn space(self) -> Space {
        match self {
            Self::Bans => spaces::BANS,
            Self::Downstreams => spaces::DOWNSTREAMS,
            Self::RelyingParties => spaces::RELYING_PARTIES,
            Self::Attested => spaces::ATTESTED,
            Self::Waivers => spaces::WAIVERS,
            Self::Federations => spaces::FEDERATIONS,
            Self::Tokens => spaces::TOKENS,
            Self::Agents => spaces::AGENTS,
            Self::Acts => spaces::ACTS,
            Self::Served => spaces::SERVED,
        }
    }

    /// Whether gates rest on rows of this kind.
    pub(crate) const fn is_evidence(self) -> bool {
        matches!(self, Self::Downstreams | Self::RelyingParties | Self::Attested | Self::Waivers)
    }

    /// The key of a row of this kind.
    pub(crate) fn key(self, id: &str) -> Result<Key, RegistryError> {
        self.space().key(id).map_err(|error| unfit(id, &error))
    }

    /// The row with this id, as gone.
    pub(crate) fn gone(self, id: &str) -> Result<Row, String> {
        let name = || id.to_owned();
        Ok(match self {
            Self::Bans => Row::Ban(name(), None),
            Self::Downstreams => Row::Downstream(name(), None),
            Self::RelyingParties => Row::RelyingParty(name(), None),
            Self::Attested => Row::Attested(root(id)?, None),
            Self::Waivers => Row::Waiver(name(), None),
            Self::Federations => Row::Federation(name(), None),
            Self::Tokens => Row::Token(hash(id)?, None),
            Self::Agents => Row::Agent(name(), None),
            Self::Acts => Row::Act(index(id)?, None),
            Self::Served => Row::Served(None),
        })
    }

    /// The row that a value holds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn decode(self, id: &str, value: &[u8]) -> Result<Row, String> {
        let key = self.key(id).map_err(|error| error.to_string())?;
        let body = unmark(&key, value).map_err(|error| match error {
            ReadError::Failed { reason } | ReadError::Unreadable { reason, .. } => reason,
        })?;
        let name = || id.to_owned();
        Ok(match self {
            Self::Bans => Row::Ban(name(), Some(json(body)?)),
            Self::Downstreams => Row::Downstream(name(), Some(json(body)?)),
            Self::RelyingParties => Row::RelyingParty(name(), Some(json(body)?)),
            Self::Attested => Row::Attested(root(id)?, Some(json(body)?)),
            Self::Waivers => Row::Waiver(name(), Some(json(body)?)),
            Self::Federations => Row::Federation(name(), Some(json(body)?)),
            Self::Tokens => Row::Token(hash(id)?, Some(json(body)?)),
            Self::Agents => Row::Agent(name(), Some(json(body)?)),
            Self::Acts => Row::Act(index(id)?, Some(json(body)?)),
            Self::Served => Row::Served(Some(json(body)?)),
        })
    }
}

impl Row {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Ban(..) => Kind::Bans,
            Self::Downstream(..) => Kind::Downstreams,
            Self::RelyingParty(..) => Kind::RelyingParties,
            Self::Attested(..) => Kind::Attested,
            Self::Waiver(..) => Kind::Waivers,
            Self::Federation(..) => Kind::Federations,
            Self::Token(..) => Kind::Tokens,
            Self::Agent(..) => Kind::Agents,
            Self::Act(..) => Kind::Acts,
            Self::Served(_) => Kind::Served,
        }
    }

    pub(crate) fn id(&self) -> String {
        match self {
            Self::Ban(name, _)
            | Self::Downstream(name, _)
            | Self::RelyingParty(name, _)
            | Self::Waiver(name, _)
            | Self::Federation(name, _)
            | Self::Agent(name, _) => name.clone(),
            Self::Attested(root, _) => root.to_string(),
            Self::Token(hash, _) => id_of(hash),
            // Ids are ordered by their bytes.
            Self::Act(index, _) => format!("{index:020}"),
            Self::Served(_) => SERVED_SECS.to_owned(),
        }
    }

    /// The value that is stored under its key; `None` if the key shall go.
    pub(crate) fn value(&self, key: &Key) -> Result<Option<Vec<u8>>, RegistryError> {
        let body = match self {
            Self::Ban(id, row) => row.as_ref().map(|ban| ban.body(id)).transpose(),
            Self::Downstream(_, row) => body(row),
            Self::RelyingParty(_, row) => body(row),
            Self::Attested(_, row) => body(row),
            Self::Waiver(_, row) => body(row),
            Self::Federation(_, row) => body(row),
            Self::Token(_, row) => body(row),
            Self::Agent(_, row) => body(row),
            Self::Act(_, row) => body(row),
            Self::Served(secs) => body(secs),
        };
        let body = body.map_err(|error| {
            tracing::error!(%key, %error, "a row cannot be written as JSON");
            RegistryError::Broken
        })?;
        Ok(body.map(|body| mark(key, &body)))
    }
}

fn unfit(id: &str, error: &InvalidKey) -> RegistryError {
    let shown: String = id.chars().take(64).collect();
    RegistryError::NameUnfit { name: shown, why: error.to_string() }
}

fn body<T: Serialize>(row: &Option<T>) -> serde_json::Result<Option<Vec<u8>>> {
    row.as_ref().map(serde_json::to_vec).transpose()
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn root(id: &str) -> Result<RootId, String> {
    id.parse().map_err(|_| format!("{id:?} is no root"))
}

fn index(id: &str) -> Result<u64, String> {
    id.parse().map_err(|_| format!("{id:?} is no number"))
}

fn hash(id: &str) -> Result<TokenHash, String> {
    let odd = || format!("{id:?} is no digest");
    let mut hash = TokenHash::default();
    if id.len() != hash.len() * 2 || !id.is_ascii() {
        return Err(odd());
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        let digits = id.get(at * 2..at * 2 + 2).ok_or_else(odd)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| odd())?;
    }
    Ok(hash)
}
