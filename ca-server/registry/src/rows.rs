//! What the registry stores: join tokens, agents, relying parties and words about shared roots, as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust::{BundleDigest, Cover, RootId, Sequence, SpiffeId, SpkiHash, Timestamp};

/// SHA-256 of a join token's secret. The secret itself is stored nowhere.
pub type TokenHash = [u8; 32];

/// What a token is called: the digest of its secret, which tells nothing of it.
pub fn id_of(hash: &TokenHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A join token that was handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TokenForm", into = "TokenForm")]
pub struct TokenRow {
    /// Name of the agent that it makes.
    pub agent: String,
    /// What that agent may ask for.
    pub identities: BTreeSet<SpiffeId>,
    /// Void after this time.
    pub expires: Timestamp,
    /// The key that it was used for, and when.
    pub used: Option<(SpkiHash, Timestamp)>,
    /// Who made it and when; tokens of former releases do not say.
    pub made: Option<(String, Timestamp)>,
    /// The bundle that it pins at first contact; tokens of former releases do not say.
    pub pins: Option<BundleDigest>,
    /// Who took it back, why, and when.
    pub revoked: Option<BanRow>,
    /// The agent that it made was removed since: not even its own key may come with it again.
    pub spent: bool,
}

/// A registered agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AgentForm", into = "AgentForm")]
pub struct AgentRow {
    /// Its key.
    pub spki: SpkiHash,
    /// What it may ask for.
    pub identities: BTreeSet<SpiffeId>,
    /// When it joined last.
    pub registered: Timestamp,
    /// Whose JWT it joined with; `None` for a join token.
    pub caller: Option<String>,
    /// When it was last seen, as far as that was written down.
    pub seen: Seen,
    /// The server that it is connected to, as far as that was written down: only of agents that might have to give way.
    pub home: Option<String>,
}

/// A moment at which an agent was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// By the wall clock, for people.
    pub at: Timestamp,
    /// By the seconds that this registry had been served, which is what counts: no clock that is set, and no time in which
    /// no server ran, makes an agent look absent.
    pub served: u64,
}

/// A name that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BanForm", into = "BanForm")]
pub struct BanRow {
    /// Who banned it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// Something that an operator did about agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ActForm", into = "ActForm")]
pub struct ActRow {
    /// What: `remove`, `ban` or `unban`.
    pub verb: String,
    /// About which name.
    pub name: String,
    /// How many registered agents that were.
    pub agents: u64,
    /// Who did it, why, and when.
    pub word: BanRow,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BanForm {
    by: String,
    reason: String,
    at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActForm {
    verb: String,
    name: String,
    agents: u64,
    word: BanRow,
}

impl From<BanRow> for BanForm {
    fn from(row: BanRow) -> Self {
        Self { by: row.by, reason: row.reason, at: row.at.as_secs() }
    }
}

impl From<BanForm> for BanRow {
    fn from(form: BanForm) -> Self {
        Self { by: form.by, reason: form.reason, at: Timestamp::from_secs(form.at) }
    }
}

impl From<ActRow> for ActForm {
    fn from(row: ActRow) -> Self {
        Self { verb: row.verb, name: row.name, agents: row.agents, word: row.word }
    }
}

impl From<ActForm> for ActRow {
    fn from(form: ActForm) -> Self {
        Self { verb: form.verb, name: form.name, agents: form.agents, word: form.word }
    }
}

/// A relying party without a leaf of this CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RelyingPartyForm", into = "RelyingPartyForm")]
pub struct RelyingPartyRow {
    /// How old a bundle it may have at most; `None` if only a confirmation by name proves anything.
    pub staleness: Option<Duration>,
    /// When it was added.
    pub added: Timestamp,
    /// What was confirmed last.
    pub confirmed: Option<Confirmation>,
    /// Identities whose holders take their trust from what this relying party is: its word is theirs.
    pub covers: BTreeSet<Cover>,
}

/// Somebody's word that a relying party has a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// Sequence of the bundle.
    pub sequence: Sequence,
    /// Whose word.
    pub by: String,
    /// When it was given.
    pub at: Timestamp,
}

/// Somebody's word that nobody else issues under a root any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "AttestedForm", into = "AttestedForm")]
pub struct AttestedRow {
    /// Since when.
    pub since: Timestamp,
    /// Whose word.
    pub by: String,
    /// When it was given.
    pub at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestedForm {
    since: i64,
    by: String,
    at: i64,
}

impl From<AttestedRow> for AttestedForm {
    fn from(row: AttestedRow) -> Self {
        Self { since: row.since.as_secs(), by: row.by, at: row.at.as_secs() }
    }
}

impl From<AttestedForm> for AttestedRow {
    fn from(form: AttestedForm) -> Self {
        Self {
            since: Timestamp::from_secs(form.since),
            by: form.by,
            at: Timestamp::from_secs(form.at),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RelyingPartyForm {
    staleness: Option<u64>,
    added: i64,
    confirmed: Option<(u64, String, i64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    covers: Vec<String>,
}

impl From<RelyingPartyRow> for RelyingPartyForm {
    fn from(row: RelyingPartyRow) -> Self {
        let confirmed = row.confirmed.map(|word| (word.sequence.0, word.by, word.at.as_secs()));
        Self {
            staleness: row.staleness.map(|life| life.as_secs()),
            added: row.added.as_secs(),
            confirmed,
            covers: row.covers.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<RelyingPartyForm> for RelyingPartyRow {
    type Error = String;

    fn try_from(form: RelyingPartyForm) -> Result<Self, String> {
        let word = |(sequence, by, at)| Confirmation {
            sequence: Sequence(sequence),
            by,
            at: Timestamp::from_secs(at),
        };
        Ok(Self {
            staleness: form.staleness.map(Duration::from_secs),
            added: Timestamp::from_secs(form.added),
            confirmed: form.confirmed.map(word),
            covers: covers(&form.covers)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenForm {
    agent: String,
    identities: Vec<String>,
    expires: i64,
    used: Option<(String, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<(String, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pins: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<BanRow>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    spent: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentForm {
    spki: String,
    identities: Vec<String>,
    /// Rows of the first releases have it, always empty: nothing could set it. Bans have a table of their own.
    #[serde(default, skip_serializing)]
    banned: Option<String>,
    registered: i64,
    #[serde(default)]
    caller: Option<String>,
    /// Wall clock and time served. Rows of the first releases have none: they count from the first server that reads them.
    #[serde(default)]
    seen: (i64, u64),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    home: Option<String>,
}

impl From<TokenRow> for TokenForm {
    fn from(row: TokenRow) -> Self {
        Self {
            agent: row.agent,
            identities: texts(&row.identities),
            expires: row.expires.as_secs(),
            used: row.used.map(|(spki, at)| (spki.to_string(), at.as_secs())),
            made: row.made.map(|(by, at)| (by, at.as_secs())),
            pins: row.pins.map(|digest| digest.to_string()),
            revoked: row.revoked,
            spent: row.spent,
        }
    }
}

impl TryFrom<TokenForm> for TokenRow {
    type Error = String;

    fn try_from(form: TokenForm) -> Result<Self, String> {
        let used =
            form.used.map(|(spki, at)| Ok::<_, String>((hash(&spki)?, Timestamp::from_secs(at))));
        Ok(Self {
            agent: form.agent,
            identities: identities(&form.identities)?,
            expires: Timestamp::from_secs(form.expires),
            used: used.transpose()?,
            made: form.made.map(|(by, at)| (by, Timestamp::from_secs(at))),
            pins: form.pins.as_deref().map(digest).transpose()?,
            revoked: form.revoked,
            spent: form.spent,
        })
    }
}

impl From<AgentRow> for AgentForm {
    fn from(row: AgentRow) -> Self {
        Self {
            spki: row.spki.to_string(),
            identities: texts(&row.identities),
            banned: None,
            registered: row.registered.as_secs(),
            caller: row.caller,
            seen: (row.seen.at.as_secs(), row.seen.served),
            home: row.home,
        }
    }
}

impl TryFrom<AgentForm> for AgentRow {
    type Error = String;

    fn try_from(form: AgentForm) -> Result<Self, String> {
        if form.banned.is_some() {
            return Err("an agent's row holds a ban, which no release wrote there".to_owned());
        }
        Ok(Self {
            spki: hash(&form.spki)?,
            identities: identities(&form.identities)?,
            registered: Timestamp::from_secs(form.registered),
            caller: form.caller,
            seen: Seen { at: Timestamp::from_secs(form.seen.0), served: form.seen.1 },
            home: form.home,
        })
    }
}

/// A downstream CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "DownstreamForm", into = "DownstreamForm")]
pub struct DownstreamRow {
    /// SHA-256 of its token.
    pub token: TokenHash,
    /// When it was added.
    pub added: Timestamp,
    /// Its issuers, by the id of the request that asked for them.
    pub issuers: BTreeMap<String, DownstreamIssuer>,
}

/// An issuer of a downstream CA. It counts from before it is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownstreamIssuer {
    /// The root that it chains to.
    pub root: RootId,
    /// Latest end that it may have.
    pub ends: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DownstreamForm {
    token: TokenHash,
    added: i64,
    issuers: BTreeMap<String, (String, i64)>,
}

impl From<DownstreamRow> for DownstreamForm {
    fn from(row: DownstreamRow) -> Self {
        let issuer = |(id, issuer): (String, DownstreamIssuer)| {
            (id, (issuer.root.to_string(), issuer.ends.as_secs()))
        };
        Self {
            token: row.token,
            added: row.added.as_secs(),
            issuers: row.issuers.into_iter().map(issuer).collect(),
        }
    }
}

impl TryFrom<DownstreamForm> for DownstreamRow {
    type Error = String;

    fn try_from(form: DownstreamForm) -> Result<Self, String> {
        let issuer = |(id, (root, ends)): (String, (String, i64))| {
            let root = root.parse().map_err(|_| format!("{root:?} is no root"))?;
            Ok::<_, String>((id, DownstreamIssuer { root, ends: Timestamp::from_secs(ends) }))
        };
        Ok(Self {
            token: form.token,
            added: Timestamp::from_secs(form.added),
            issuers: form.issuers.into_iter().map(issuer).collect::<Result<_, _>>()?,
        })
    }
}

/// Who wants to be registered.
#[derive(Debug)]
pub struct Newcomer {
    /// Its name.
    pub name: String,
    /// Its key.
    pub spki: SpkiHash,
    /// What it may ask for.
    pub identities: BTreeSet<SpiffeId>,
    /// Whose JWT it shows; `None` for a join token.
    pub caller: Option<String>,
}

/// An agent as operators see it.
#[derive(Debug, Clone)]
pub struct ListedAgent {
    /// Its name.
    pub name: String,
    /// What is stored of it.
    pub row: AgentRow,
    /// When it was seen last.
    pub seen: Timestamp,
    /// Whether its name is banned.
    pub banned: bool,
}

fn texts(ids: &BTreeSet<SpiffeId>) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn identities(texts: &[String]) -> Result<BTreeSet<SpiffeId>, String> {
    texts
        .iter()
        .map(|text| SpiffeId::parse(text).map_err(|error| format!("{text:?}: {error}")))
        .collect()
}

fn covers(texts: &[String]) -> Result<BTreeSet<Cover>, String> {
    texts
        .iter()
        .map(|text| Cover::parse(text).map_err(|error| format!("{text:?}: {error}")))
        .collect()
}

fn digest(text: &str) -> Result<BundleDigest, String> {
    text.parse().map_err(|_| format!("{text:?} is no digest of a bundle"))
}

fn hash(text: &str) -> Result<SpkiHash, String> {
    text.parse().map_err(|_| format!("{text:?} is no fingerprint"))
}
