//! What a leaf is issued for: an identity that was authorized, a key that was proven, and who will hold it.

use std::net::IpAddr;
use std::time::Duration;

use ledger::{RowKind, Word};
use trust::csr::VerifiedCsr;
use trust::{PublicKey, SpiffeId};

/// Longest DNS name in bytes (RFC 1035 §2.3.4).
const DNS_NAME_LEN_MAX: usize = 253;

/// A request after authorization: all that the rest of issuance knows of it.
///
/// Of a CSR it keeps the public key and nothing else, so nothing else of a CSR can reach a certificate. The identity is
/// the one that authorization settled, and its path fits its holder: `/banyan/agent/` for agents, `/banyan/ca/` for
/// the CA, anything outside `/banyan/` for workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizedRequest {
    identity: SpiffeId,
    public_key: PublicKey,
    kind: RowKind,
    agent: Option<String>,
    word: Word,
    ttl: Option<Duration>,
    names: ServingNames,
}

/// Who will hold a leaf that is issued from a CSR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A workload that sent the CSR itself and has no agent of ours.
    CsrOnly,
    /// A workload behind this agent.
    BehindAgent(String),
    /// A workload that gets its roots through another channel.
    ChannelTrusted,
    /// The agent itself.
    Agent,
}

/// An identity that may not be issued to this holder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{identity} is not an identity for this kind of holder: paths under /banyan/ are reserved")]
pub struct IdentityReserved {
    /// The refused identity.
    pub identity: SpiffeId,
}

impl AuthorizedRequest {
    /// A request that came with a CSR, for an identity that authorization settled; `ttl` counts from now, `None` asks
    /// for the default.
    ///
    /// # Errors
    /// [`IdentityReserved`] for a reserved path that is not this holder's.
    pub fn new(
        identity: SpiffeId,
        csr: VerifiedCsr,
        holder: Holder,
        ttl: Option<Duration>,
    ) -> Result<Self, IdentityReserved> {
        let (kind, agent) = match holder {
            Holder::Agent => {
                let Some(agent) = identity.agent_name().map(str::to_owned) else {
                    return Err(IdentityReserved { identity });
                };
                (RowKind::AgentIdentity, Some(agent))
            }
            _ if identity.is_reserved() => return Err(IdentityReserved { identity }),
            Holder::CsrOnly => (RowKind::CsrOnly, None),
            Holder::ChannelTrusted => (RowKind::ChannelTrusted, None),
            Holder::BehindAgent(agent) => (RowKind::AgentHeld, Some(agent)),
        };
        let public_key = csr.public_key().clone();
        let names = ServingNames::default();
        Ok(Self { identity, public_key, kind, agent, word: Word::None, ttl, names })
    }

    /// The CA's request for its own serving leaf; the only leaf with IP names.
    ///
    /// # Errors
    /// [`IdentityReserved`] unless the identity is that of a CA.
    pub fn own(
        identity: SpiffeId,
        public_key: PublicKey,
        names: ServingNames,
        ttl: Option<Duration>,
    ) -> Result<Self, IdentityReserved> {
        if !identity.is_ca() {
            return Err(IdentityReserved { identity });
        }
        let (kind, agent, word) = (RowKind::Own, None, Word::None);
        Ok(Self { identity, public_key, kind, agent, word, ttl, names })
    }

    /// A request for a leaf that shows nothing but whether peers would take it: its key stays where it was made.
    ///
    /// # Errors
    /// [`IdentityReserved`] unless the identity is reserved: what nobody else can have.
    pub fn rehearsal(
        identity: SpiffeId,
        public_key: PublicKey,
        names: ServingNames,
        life: Duration,
    ) -> Result<Self, IdentityReserved> {
        if !identity.is_reserved() {
            return Err(IdentityReserved { identity });
        }
        let (kind, word) = (RowKind::Probe, Word::None);
        Ok(Self { identity, public_key, kind, agent: None, word, ttl: Some(life), names })
    }

    /// The same, with what its agent said of the leaf's holders in advance.
    #[must_use]
    pub fn with_word(self, word: Word) -> Self {
        Self { word, ..self }
    }

    /// The same as a leaf that the agent keeps for itself, to shake hands with its holders' listeners.
    #[must_use]
    pub fn as_probe(self, life: Duration) -> Self {
        Self { kind: RowKind::Probe, word: Word::None, ttl: Some(life), ..self }
    }

    /// The same with DNS names beside the identity, which somebody answers for.
    ///
    /// # Errors
    /// [`NotADnsName`] for the first name that is not a plain DNS name.
    pub fn with_dns_names(self, dns: Vec<String>) -> Result<Self, NotADnsName> {
        Ok(Self { names: ServingNames::new(dns, Vec::new())?, ..self })
    }

    /// The identity to issue.
    pub const fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// The key to certify.
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The kind of row that the leaf gets in the ledger.
    pub const fn kind(&self) -> RowKind {
        self.kind
    }

    /// The agent whose row it is, if it is an agent's.
    pub fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// What its agent said of the leaf's holders in advance.
    pub const fn word(&self) -> Word {
        self.word
    }

    /// The life asked for.
    pub const fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// DNS names and IP addresses; empty but for the CA's own leaf, and leaves with names that somebody answers for.
    pub const fn names(&self) -> &ServingNames {
        &self.names
    }
}

/// DNS names and IP addresses of a leaf to serve with: of the CA's own from its configuration, of others from who answers for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServingNames {
    dns: Vec<String>,
    ips: Vec<IpAddr>,
}

/// A name that is no DNS name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not a DNS name: write letters, digits and hyphens between dots, without a wildcard"
)]
pub struct NotADnsName {
    /// The refused name, at most 256 characters of it.
    pub name: String,
}

impl ServingNames {
    /// Takes names that hosts can have.
    ///
    /// # Errors
    /// [`NotADnsName`] for the first name that is not a plain DNS name.
    pub fn new(dns: Vec<String>, ips: Vec<IpAddr>) -> Result<Self, NotADnsName> {
        match dns.iter().find(|name| !is_dns_name(name)) {
            Some(name) => Err(NotADnsName { name: name.chars().take(256).collect() }),
            None => Ok(Self { dns, ips }),
        }
    }

    /// The DNS names.
    pub fn dns(&self) -> &[String] {
        &self.dns
    }

    /// The IP addresses.
    pub fn ips(&self) -> &[IpAddr] {
        &self.ips
    }
}

fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= DNS_NAME_LEN_MAX && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, id};

    #[test]
    fn a_holder_gets_only_identities_of_its_kind() {
        let csr = || fixture::csr();
        let workload = id("/ns/a/sa/b");
        let agent = id("/banyan/agent/node-1");
        let ca = id("/banyan/ca/ca-1");
        let behind = || Holder::BehindAgent("node-1".to_owned());
        for (identity, holder, allowed) in [
            (&workload, Holder::CsrOnly, true),
            (&workload, behind(), true),
            (&workload, Holder::ChannelTrusted, true),
            (&workload, Holder::Agent, false),
            (&agent, Holder::Agent, true),
            (&agent, Holder::CsrOnly, false),
            (&agent, behind(), false),
            (&ca, Holder::Agent, false),
            (&ca, Holder::CsrOnly, false),
            (&ca, Holder::ChannelTrusted, false),
        ] {
            let made = AuthorizedRequest::new(identity.clone(), csr(), holder.clone(), None);
            assert_eq!(made.is_ok(), allowed, "{identity} for {holder:?}");
        }
        let own = |identity: &SpiffeId| {
            let names = ServingNames::default();
            AuthorizedRequest::own(identity.clone(), csr().public_key().clone(), names, None)
        };
        assert!(own(&ca).is_ok());
        assert!(own(&workload).is_err());
        assert!(own(&agent).is_err());
    }

    #[test]
    fn dns_names_are_plain() {
        for good in ["localhost", "ca.example.org", "a-1.b"] {
            assert!(ServingNames::new(vec![good.to_owned()], vec![]).is_ok(), "{good}");
        }
        let long = "a.".repeat(127) + "b";
        for bad in [
            "",
            "*.example.org",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a\0",
            "ü",
            "a.",
            &"x".repeat(64),
            &long,
        ] {
            assert!(ServingNames::new(vec![bad.to_owned()], vec![]).is_err(), "{bad}");
        }
    }
}
