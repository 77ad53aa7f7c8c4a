//! The registry as authentication and authorization ask it, and its refusals in their words.

use auth::authn::join_token::{JoinGrant, JoinTokenRefused, JoinTokens, TokenUse};
use auth::authz::{AgentRecord, Agents, RegistryUnreadable};
use auth::bans::StandingBan;
use auth::refusal::{Reason, Refusal};
use trust::{Serial, SpiffeId, SpkiHash, Timestamp};

use crate::ban_row::BanSubject;
use crate::error::RegistryError;
use crate::registry::AgentRegistry;
use crate::rows::TokenHash;

impl JoinTokens for AgentRegistry {
    fn find(&self, secret_hash: TokenHash, now: Timestamp) -> Result<JoinGrant, JoinTokenRefused> {
        let token = self.token(&secret_hash).ok_or(JoinTokenRefused::Unknown)?;
        if token.revoked.is_some() {
            return Err(JoinTokenRefused::Revoked);
        }
        if token.used.is_none() && now > token.expires {
            return Err(JoinTokenRefused::Expired);
        }
        Ok(JoinGrant {
            agent: token.agent,
            identities: token.identities.into_iter().collect(),
            used: token.used.map(|(spki, at)| TokenUse { spki, at }),
        })
    }
}

impl Agents for AgentRegistry {
    fn find(&self, name: &str) -> Result<Option<AgentRecord>, RegistryUnreadable> {
        Ok(self.agent(name).map(|(agent, banned)| AgentRecord {
            spki: agent.spki,
            identities: agent.identities.into_iter().collect(),
            banned,
        }))
    }

    fn saw(&self, name: &str) {
        Self::saw(self, name);
    }

    fn revoked_by(&self, serial: &Serial) -> Option<String> {
        self.revoked(serial).map(|ban| ban.word.by)
    }

    fn ban_on(&self, identity: &SpiffeId, key: &SpkiHash) -> Option<StandingBan> {
        let (subject, ban) = Self::ban_on(self, identity, key)?;
        Some(StandingBan {
            is_of_key: matches!(subject, BanSubject::Key(_)),
            of: subject.to_string(),
            by: ban.word.by,
            lifted_with: format!("`banyan ban remove {}`", subject.options()),
        })
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        let reason = match &error {
            RegistryError::TokenUnknown => Reason::JoinTokenInvalid,
            RegistryError::TokenExpired(_) => Reason::JoinTokenExpired,
            RegistryError::TokenUsed => Reason::JoinTokenUsed,
            RegistryError::TokenRevoked => Reason::JoinTokenRevoked,
            RegistryError::TokenIdUnknown(_) | RegistryError::TokenIdAmbiguous(_) => {
                Reason::JoinTokenUnknown
            }
            RegistryError::Banned(_) => Reason::AgentBanned,
            RegistryError::RelyingPartyUnknown(_) => Reason::RelyingPartyUnknown,
            RegistryError::WaiverUnknown(_) => Reason::WaiverUnknown,
            RegistryError::FederationUnknown(_) => Reason::FederationUnknown,
            RegistryError::FederationOwned { .. } => Reason::FederationOwned,
            RegistryError::BundleOfTheFuture(_) | RegistryError::DownstreamExists(_) => {
                Reason::RequestInvalid
            }
            RegistryError::DownstreamUnknown(_) => Reason::DownstreamUnknown,
            RegistryError::AgentUnknown(_) | RegistryError::NotBanned(_) => {
                Reason::AgentNotRegistered
            }
            RegistryError::BanUnknown(_) => Reason::BanUnknown,
            RegistryError::CallerFull { .. }
            | RegistryError::CallerTooFast { .. }
            | RegistryError::AgentsFull { .. } => Reason::RegistrationsExhausted,
            RegistryError::DownstreamRequestReused(_) => Reason::IssuerRefused,
            RegistryError::NameUnfit { .. } | RegistryError::RowUnreadable(_) => {
                Reason::RequestInvalid
            }
            RegistryError::Full(_) | RegistryError::Broken => Reason::RegistryUnavailable,
        };
        Self::advised(reason, &error, error.advice())
    }
}
