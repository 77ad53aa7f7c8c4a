//! From the configuration to the settings of each part.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use auth::authn::jwt::{JwtVerifier, TokenIssuer};
use issuance::profile::AboveMax as IssueAboveMax;
use issuance::{LeafProfile, ProfileSettings};

use super::BootError;
use crate::config::{AboveMax, Config, StoreConfig};
use api::{Defaults, OperatorSettings, Settings, ShownAs};
use control::evidence::EvidenceSettings;
use control::footing::Where;
use control::standby::StandbyPolicy;

/// How it is served, over as many connections as the system grants.
pub(super) fn served_as(config: &Config, connections: usize, documents: ShownAs) -> Settings {
    Settings {
        documents,
        limits: config.limits().transport().clone(),
        connections,
        requests_in_flight: config.limits().requests_in_flight(),
        request_timeout: config.limits().request_timeout(),
        operators: OperatorSettings {
            uids: config.admin().uids().to_vec(),
            identities: config.admin().identities().to_vec(),
        },
        rotations: Defaults {
            authority: config.root().authority().to_owned(),
            authorities: config.root().authorities().keys().cloned().collect(),
            mode: config.rotation().mode(),
            canary: config.rotation().canary().cloned(),
        },
        reflection: config.listen().reflection(),
    }
}

/// What leaves are like.
pub(super) fn profile(config: &Config) -> Result<LeafProfile, BootError> {
    LeafProfile::new(leaves(config)).map_err(BootError::Profile)
}

/// The numbers of that.
pub(super) fn leaves(config: &Config) -> ProfileSettings {
    let leaf = config.leaf();
    ProfileSettings {
        ttl_default: leaf.ttl_default(),
        ttl_max: leaf.ttl_max(),
        ttl_min: leaf.ttl_min(),
        backdate: leaf.backdate(),
        above_max: match leaf.above_max() {
            AboveMax::Cap => IssueAboveMax::Cap,
            AboveMax::Refuse => IssueAboveMax::Refuse,
        },
        revocation_lists: config.crl().settings().is_some(),
    }
}

/// What is asked for of standby roots.
pub(super) fn standby(config: &Config) -> Option<StandbyPolicy> {
    let (authority, renew_before) = config.root().standby()?;
    let retry_after = config.rotation().retry_aborted_after();
    Some(StandbyPolicy { authority: authority.clone(), renew_before, retry_after })
}

/// Longest lives of leaves that others issue, by authority.
pub(super) fn foreign_leaf_max(config: &Config) -> BTreeMap<String, Duration> {
    let declared = config.root().authorities().iter();
    declared
        .filter_map(|(name, authority)| Some((name.clone(), authority.foreign_leaf_max()?)))
        .collect()
}

/// Roots that may return, by the authority that names them.
pub(super) fn trust_again(config: &Config) -> BTreeMap<String, BTreeSet<trust::RootId>> {
    let named = config.root().authorities().iter();
    named.map(|(name, authority)| (name.clone(), authority.trust_again().clone())).collect()
}

/// Whose tokens are believed.
pub(super) fn token_issuers(config: &Config) -> JwtVerifier {
    let issuers = config.jwt().iter().cloned().map(TokenIssuer::new).collect();
    JwtVerifier::new(issuers, config.trust_domain().clone(), config.leaf().skew())
}

/// What gates ask for.
pub(super) fn evidence(config: &Config) -> EvidenceSettings {
    let rotation = config.rotation();
    EvidenceSettings {
        agent: rotation.agent_evidence(),
        alarm_after: rotation.alarm_after(),
        return_within: rotation.return_within(),
        own_trust_after: rotation.own_trust_after(),
        probe: rotation.probe(),
    }
}

/// Where the state is that all servers of the CA share.
pub(super) const fn state_is(config: &Config) -> Where {
    match config.store() {
        StoreConfig::Redb => Where::Here,
        StoreConfig::Etcd(_) | StoreConfig::Kubernetes(_) => Where::Elsewhere,
    }
}
