//! Authorization: what a caller may have. Turns a [`Caller`] and a verified CSR into an [`AuthorizedRequest`].
//!
//! The identity comes from the caller, or for agents from what they are entitled to; of the CSR only the key counts. Names
//! in a CSR are compared with that identity, never copied.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use issuance::{AuthorizedRequest, Holder, Snapshot};
use trust::csr::{RequestedNames, VerifiedCsr};
use trust::{Serial, SpiffeId, SpkiHash, Timestamp, TrustDomain};

use crate::authn::cluster::{OfNode, OnNode};
use crate::authn::join_token::{JoinGrant, TokenUse};
use crate::authn::{Caller, CallerKind};
use crate::bans::{self, StandingBan};
use crate::refusal::{Reason, Refusal, echoed};

/// How long a join token may be used again with the same key, for an answer that was lost.
pub const JOIN_TOKEN_RETRY: Duration = Duration::from_secs(300);
/// Longest name of an agent in bytes, as the ledger stores it.
pub const AGENT_NAME_LEN_MAX: usize = 128;
/// Most DNS names of one leaf.
const DNS_NAMES_MAX: usize = 16;
/// Bytes of the key's fingerprint in the name of an agent that joins with a JWT.
const KEY_IN_NAME_LEN: usize = 8;

/// What is known of keys that may not be certified.
pub trait KeyPolicy: Send + Sync + Debug {
    /// Where this key stands.
    fn standing(&self, key: &SpkiHash) -> KeyStanding;
}

/// What happens to a CSR that names another identity than the authenticated one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameMismatch {
    /// The request is refused.
    Refuse,
    /// The CSR's names are ignored; the leaf has the authenticated identity.
    Ignore,
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStanding {
    /// It may be certified.
    Free,
    /// It is a key of this CA: of a root, an issuer or a server, present or retired.
    OfCa,
}

/// Knows the registered agents, and who is banned.
pub trait Agents: Send + Sync + Debug {
    /// The agent with this name; `None` if it is not registered.
    ///
    /// # Errors
    /// [`RegistryUnreadable`] if the registry cannot be read: then nobody is let in.
    fn find(&self, name: &str) -> Result<Option<AgentRecord>, RegistryUnreadable>;

    /// Notes that this agent proved itself, now.
    fn saw(&self, name: &str);

    /// Who revoked this leaf, if somebody did and it is not over.
    fn revoked_by(&self, serial: &Serial) -> Option<String>;

    /// The ban that keeps this identity, or whoever has this key, from a certificate.
    fn ban_on(&self, identity: &SpiffeId, key: &SpkiHash) -> Option<StandingBan>;
}

/// A registered agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    /// Its own key.
    pub spki: SpkiHash,
    /// Identities that it may have issued for its workloads.
    pub identities: Vec<SpiffeId>,
    /// Whether an operator banned it.
    pub banned: bool,
}

/// The registry could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the registry of agents cannot be read: {0}")]
pub struct RegistryUnreadable(pub String);

/// A first contact that was allowed: what to register, and the agent's own leaf to issue once that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The agent's own leaf.
    pub request: AuthorizedRequest,
    /// The agent's name.
    pub agent: String,
    /// Identities that it may have issued for its workloads.
    pub identities: Vec<SpiffeId>,
    /// SHA-256 of the join token's secret, to be used up with this key; `None` if it joins with a JWT.
    pub token: Option<[u8; 32]>,
    /// Whose JWT it is, if it joins with one.
    pub caller: Option<String>,
}

/// Decides what callers may have.
#[derive(Debug)]
pub struct Authorizer {
    trust_domain: TrustDomain,
    name_mismatch: NameMismatch,
    keys: Arc<dyn KeyPolicy>,
    agents: Arc<dyn Agents>,
    /// DNS names of the CA's own servers.
    own_names: Vec<String>,
}

/// Names that somebody on the admin socket answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredFor {
    /// The identity.
    pub identity: SpiffeId,
    /// DNS names beside it.
    pub dns: Vec<String>,
}

/// What a caller asks for.
#[derive(Debug)]
pub struct Asked {
    /// The key to certify; its holder has proven to have it.
    pub csr: VerifiedCsr,
    /// How long the leaf shall live; `None` leaves that to the configuration.
    pub ttl: Option<Duration>,
}

impl Authorizer {
    /// Puts the parts together.
    pub fn new(
        trust_domain: TrustDomain,
        name_mismatch: NameMismatch,
        keys: Arc<dyn KeyPolicy>,
        agents: Arc<dyn Agents>,
    ) -> Self {
        Self { trust_domain, name_mismatch, keys, agents, own_names: Vec::new() }
    }

    /// The same for a CA whose own servers have these DNS names, which nobody else gets.
    #[must_use]
    pub fn with_own_names(self, own_names: Vec<String>) -> Self {
        Self { own_names, ..self }
    }

    /// A leaf for a workload that asks for itself.
    ///
    /// # Errors
    /// A refusal if the caller is no workload, or key or names of the CSR are not for it.
    pub fn workload(
        &self,
        caller: &Caller,
        csr: VerifiedCsr,
        ttl: Option<Duration>,
        snapshot: &Snapshot,
    ) -> Result<AuthorizedRequest, Refusal> {
        let identity = match caller.kind() {
            CallerKind::Workload { identity, .. } => identity,
            CallerKind::Jwt(claims) => &claims.identity,
            CallerKind::Agent { .. } | CallerKind::JoinToken { .. } => {
                return Err(not_allowed(
                    "an agent and its join token get certificates through `banyan agent` alone: send a JWT, or the certificate of a workload",
                ));
            }
        };
        self.issue(identity.clone(), Asked { csr, ttl }, Holder::CsrOnly, snapshot)
    }

    /// A leaf for a pod on the node of a node account, which was found to run there.
    ///
    /// # Errors
    /// A refusal if key or names of the CSR are not for it.
    pub fn on_node(
        &self,
        granted: OnNode,
        asked: Asked,
        snapshot: &Snapshot,
    ) -> Result<AuthorizedRequest, Refusal> {
        self.issue(granted.into_identity(), asked, Holder::CsrOnly, snapshot)
    }

    /// A leaf for a workload that has its roots from another channel, for names that somebody on the admin socket answers
    /// for. The CSR names these or nothing, whatever the configuration says of other callers: whoever approved the request may
    /// have read the names in it.
    ///
    /// # Errors
    /// A refusal if key or names of the CSR are not for it, or a name is one of this CA's own servers.
    pub fn channel_trusted(
        &self,
        names: AnsweredFor,
        asked: Asked,
        snapshot: &Snapshot,
    ) -> Result<AuthorizedRequest, Refusal> {
        let AnsweredFor { identity, dns } = names;
        names_agree(asked.csr.names(), &identity, &dns)?;
        if dns.len() > DNS_NAMES_MAX {
            let text = format!("a certificate has at most {DNS_NAMES_MAX} DNS names");
            return Err(Refusal::new(Reason::CsrNameInvalid, text));
        }
        let own = |name: &&String| self.own_names.iter().any(|own| own.eq_ignore_ascii_case(name));
        if let Some(name) = dns.iter().find(own) {
            let text = format!("\"{}\" is a name of this CA's own servers", echoed(name));
            return Err(Refusal::new(Reason::CsrNameInvalid, text));
        }
        let request = self.issue(identity, asked, Holder::ChannelTrusted, snapshot)?;
        request
            .with_dns_names(dns)
            .map_err(|error| Refusal::new(Reason::CsrNameInvalid, error.to_string()))
    }

    /// A leaf for a workload behind an agent.
    ///
    /// # Errors
    /// A refusal unless the caller is a registered agent that is entitled to the identity.
    pub fn behind_agent(
        &self,
        caller: &Caller,
        identity: SpiffeId,
        asked: Asked,
        snapshot: &Snapshot,
    ) -> Result<AuthorizedRequest, Refusal> {
        let (agent, record) = self.agent(caller)?;
        if !record.identities.contains(&identity) {
            let text = format!("the agent is not entitled to \"{}\"", echoed(identity.as_str()));
            return Err(Refusal::new(Reason::IdentityNotEntitled, text));
        }
        self.issue(identity, asked, Holder::BehindAgent(agent.to_owned()), snapshot)
    }

    /// A leaf for a pod behind the agent of its node, which was found to run there.
    ///
    /// # Errors
    /// A refusal unless the caller is a registered agent, or if key or names of the CSR are not for it.
    pub fn behind_agent_of_node(
        &self,
        caller: &Caller,
        granted: OnNode,
        asked: Asked,
        snapshot: &Snapshot,
    ) -> Result<AuthorizedRequest, Refusal> {
        let (agent, _) = self.agent(caller)?;
        let holder = Holder::BehindAgent(agent.to_owned());
        self.issue(granted.into_identity(), asked, holder, snapshot)
    }

    /// A new leaf for an agent itself, for the key it is registered with.
    ///
    /// # Errors
    /// A refusal unless the caller is a registered agent and the CSR is for its key.
    pub fn renew_agent(
        &self,
        caller: &Caller,
        csr: VerifiedCsr,
        snapshot: &Snapshot,
    ) -> Result<AuthorizedRequest, Refusal> {
        let (agent, record) = self.agent(caller)?;
        if csr.public_key().hash() != record.spki {
            let text = "an agent renews with the key it is registered with; to change it, register with a new token";
            return Err(Refusal::new(Reason::AgentUnknown, text));
        }
        let identity = self.agent_id(agent)?;
        self.issue(identity, Asked { csr, ttl: None }, Holder::Agent, snapshot)
    }

    /// First contact of an agent. With a join token it gets what the token grants; with a JWT it may ask for exactly the
    /// token's identity, under a name made of that identity and its own key.
    ///
    /// # Errors
    /// A refusal if the credential buys no registration, or was used up by another key or too long ago.
    pub fn register(
        &self,
        caller: &Caller,
        csr: VerifiedCsr,
        now: Timestamp,
        snapshot: &Snapshot,
    ) -> Result<Registration, Refusal> {
        let spki = csr.public_key().hash();
        let (agent, identities, token, caller) = match caller.kind() {
            CallerKind::JoinToken { grant, secret_hash } => {
                unused_or_retried(grant, &spki, now)?;
                (grant.agent.clone(), grant.identities.clone(), Some(*secret_hash), None)
            }
            CallerKind::Jwt(claims) => {
                let identity = claims.identity.clone();
                self.may_join(&identity, &spki)?;
                (agent_name(&identity, &spki), vec![identity], None, Some(claims.caller()))
            }
            CallerKind::Workload { .. } | CallerKind::Agent { .. } => {
                return Err(not_allowed("an agent registers with a join token or a JWT"));
            }
        };
        if self.find(&agent)?.is_some_and(|record| record.banned) {
            return Err(banned());
        }
        let identity = self.agent_id(&agent)?;
        let request = self.issue(identity, Asked { csr, ttl: None }, Holder::Agent, snapshot)?;
        Ok(Registration { request, agent, identities, token, caller })
    }

    /// First contact of the agent of a node. Of itself it may ask for its own service account's identity alone: for others it
    /// shows its token each time.
    ///
    /// # Errors
    /// A refusal if its name is banned or would be too long, or the CSR is not for it.
    pub fn register_of_node(
        &self,
        granted: OfNode,
        csr: VerifiedCsr,
        snapshot: &Snapshot,
    ) -> Result<Registration, Refusal> {
        let agent = format!("{}{}", granted.agents(), of_key(&csr.public_key().hash()));
        self.may_join(&granted.caller().identity, &csr.public_key().hash())?;
        if self.find(&agent)?.is_some_and(|record| record.banned) {
            return Err(banned());
        }
        let id = self.agent_id(&agent).map_err(|_| {
            let text = format!(
                "the agent would be called \"{}\", which is malformed or longer than {AGENT_NAME_LEN_MAX} bytes: give the section \
                 [cluster.NAME] a shorter name",
                echoed(&agent)
            );
            Refusal::new(Reason::RequestInvalid, text)
        })?;
        let request = self.issue(id, Asked { csr, ttl: None }, Holder::Agent, snapshot)?;
        let claims = granted.caller();
        let (identities, caller) = (vec![claims.identity.clone()], Some(claims.caller()));
        Ok(Registration { request, agent, identities, token: None, caller })
    }

    /// The registered agent that calls, with its record; also for streams, at every message.
    ///
    /// # Errors
    /// A refusal if the caller is no agent, or one that is unknown, banned or has another key.
    pub fn agent<'c>(&self, caller: &'c Caller) -> Result<(&'c str, AgentRecord), Refusal> {
        let CallerKind::Agent { name, spki, .. } = caller.kind() else {
            return Err(not_allowed("only an agent with its own certificate may call this"));
        };
        match self.find(name)? {
            Some(record) if record.banned => Err(banned()),
            Some(record) if record.spki == *spki => {
                self.agents.saw(name);
                Ok((name, record))
            }
            _ => {
                let text = "no agent of this name is registered here with this key: give the agent a new join token, made with \
                            `banyan token create`";
                Err(Refusal::new(Reason::AgentUnknown, text))
            }
        }
    }

    /// Whether a caller is banned that has proven who it is, or its certificate revoked. What it asks for is judged apart.
    ///
    /// # Errors
    /// The refusal of one that is, by its certificate, its identity, or the key of its certificate.
    pub fn not_banned(&self, caller: &Caller) -> Result<(), Refusal> {
        if let CallerKind::Workload { serial, .. } | CallerKind::Agent { serial, .. } =
            caller.kind()
            && let Some(by) = self.agents.revoked_by(serial)
        {
            return Err(bans::revoked(serial, &by));
        }
        let ban = match caller.kind() {
            CallerKind::Workload { identity, spki, .. } => self.agents.ban_on(identity, spki),
            CallerKind::Agent { name, spki, .. } => self.agents.ban_on(&self.agent_id(name)?, spki),
            // What it is for is judged when it is asked for.
            CallerKind::Jwt(_) | CallerKind::JoinToken { .. } => None,
        };
        match (ban, caller.kind()) {
            (None, _) => Ok(()),
            (Some(ban), CallerKind::Agent { .. }) => Err(ban.refusal_of_agent()),
            (Some(ban), _) => Err(ban.refusal()),
        }
    }

    /// Whoever is banned gets nothing by joining as an agent either.
    fn may_join(&self, identity: &SpiffeId, key: &SpkiHash) -> Result<(), Refusal> {
        self.agents.ban_on(identity, key).map_or(Ok(()), |ban| Err(ban.refusal()))
    }

    /// Whether this is a key of the CA's own.
    pub fn is_of_ca(&self, key: &SpkiHash, snapshot: &Snapshot) -> bool {
        self.key_is_free(key, snapshot).is_err()
    }

    fn find(&self, name: &str) -> Result<Option<AgentRecord>, Refusal> {
        self.agents.find(name).map_err(|error| {
            tracing::error!(%error, "agents cannot be authorized");
            Refusal::new(
                Reason::RegistryUnavailable,
                "the server cannot read its registry; its log says why",
            )
        })
    }

    fn agent_id(&self, name: &str) -> Result<SpiffeId, Refusal> {
        let id = SpiffeId::agent(&self.trust_domain, name)
            .ok()
            .filter(|_| name.len() <= AGENT_NAME_LEN_MAX);
        id.ok_or_else(|| {
            let text =
                "the agent's name would be malformed or longer than 128 bytes: use a join token";
            Refusal::new(Reason::RequestInvalid, text)
        })
    }

    fn issue(
        &self,
        identity: SpiffeId,
        asked: Asked,
        holder: Holder,
        snapshot: &Snapshot,
    ) -> Result<AuthorizedRequest, Refusal> {
        let Asked { csr, ttl } = asked;
        let key = csr.public_key().hash();
        if identity.trust_domain() != &self.trust_domain {
            let text = "the identity is of another trust domain";
            return Err(Refusal::new(Reason::IdentityNotEntitled, text));
        }
        self.key_is_free(&key, snapshot)?;
        if let Some(ban) = self.agents.ban_on(&identity, &key) {
            return Err(ban.refusal());
        }
        // Those of a channel's holder were compared before.
        if self.name_mismatch == NameMismatch::Refuse && holder != Holder::ChannelTrusted {
            names_agree(csr.names(), &identity, &[])?;
        }
        Ok(AuthorizedRequest::new(identity, csr, holder, ttl)?)
    }

    fn key_is_free(&self, key: &SpkiHash, snapshot: &Snapshot) -> Result<(), Refusal> {
        let mut of_ca = snapshot
            .signer()
            .chain()
            .iter()
            .chain(snapshot.bundle().roots().iter().map(trust::Root::certificate));
        let standing = match of_ca.any(|certificate| certificate.spki_hash() == *key) {
            true => KeyStanding::OfCa,
            false => self.keys.standing(key),
        };
        match standing {
            KeyStanding::Free => Ok(()),
            KeyStanding::OfCa => {
                Err(Refusal::new(Reason::KeyOfCa, "the CSR is for a key of this CA"))
            }
        }
    }
}

/// The life that a request asks for in seconds; zero and less ask for the default, as Istio's clients expect.
pub fn requested_ttl(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// A CSR may name the caller's identity, these DNS names, or nothing. Refused otherwise, since its sender believes to be someone
/// else.
fn names_agree(names: &RequestedNames, identity: &SpiffeId, dns: &[String]) -> Result<(), Refusal> {
    match &names.spiffe_id {
        Some(named) if named.trust_domain() != identity.trust_domain() => {
            let text =
                format!("the CSR names \"{}\", of another trust domain", echoed(named.as_str()));
            return Err(Refusal::new(Reason::CsrTrustDomainForeign, text));
        }
        Some(named) if named != identity => {
            let text =
                format!("the CSR names \"{}\", not the caller's identity", echoed(named.as_str()));
            return Err(Refusal::new(Reason::CsrIdentityMismatch, text));
        }
        _ => {}
    }
    let extra = names.dns.iter().any(|name| !dns.contains(name))
        || !names.ips.is_empty()
        || !names.emails.is_empty()
        || names.common_name.is_some();
    if extra {
        let text = "the CSR asks for DNS, IP or e-mail names or a common name: leave them out";
        return Err(Refusal::new(Reason::CsrNameInvalid, text));
    }
    Ok(())
}

fn unused_or_retried(grant: &JoinGrant, spki: &SpkiHash, now: Timestamp) -> Result<(), Refusal> {
    match grant.used {
        None => Ok(()),
        Some(TokenUse { spki: used_by, at })
            if used_by == *spki && now <= at.plus(JOIN_TOKEN_RETRY) =>
        {
            Ok(())
        }
        Some(_) => {
            let text = "the join token was used before: make a new one with `banyan token create`";
            Err(Refusal::new(Reason::JoinTokenUsed, text))
        }
    }
}

/// `<path of the identity>/<16 digits of the key's fingerprint>`: the members of one service account stay apart.
fn agent_name(identity: &SpiffeId, spki: &SpkiHash) -> String {
    format!("{}/{}", identity.path().trim_start_matches('/'), of_key(spki))
}

/// What tells agents apart that are alike but for their keys.
fn of_key(spki: &SpkiHash) -> String {
    spki.as_bytes().iter().take(KEY_IN_NAME_LEN).map(|byte| format!("{byte:02x}")).collect()
}

fn not_allowed(text: &str) -> Refusal {
    Refusal::new(Reason::CallerNotAllowed, text)
}

fn banned() -> Refusal {
    let text = "an operator of the CA banned this agent: `banyan agent list --banned` says who and why, and `banyan agent unban` \
                lifts the ban";
    Refusal::new(Reason::AgentBanned, text)
}

#[cfg(test)]
mod tests;
