//! What handlers work with, put together from its parts.

use std::sync::Arc;

use auth::authn::Authenticator;
use auth::authn::cluster::Clusters;
use auth::authn::jwt::JwtVerifier;
use auth::authz::Authorizer;
use auth::pace::Pace;
use issuance::{Issuer, SnapshotCell};
use ledger::Ledger;
use registry::AgentRegistry;
use rotation::ReplicaName;
use rotation_driver::DriverHandle;
use stores::SharedStore;
use tokio::sync::watch;
use trust::{Bundle, SpiffeId};

use super::{HostDeps, open, settings};
use crate::config::Config;
use control::authority_health::AuthorityTroubles;
use control::authority_upkeep::Drifts;
use control::bundles::BundleHistory;
use control::ca::Ca;
use control::ca_keys::CaKeys;
use control::causes::Causes;
use control::clock::GuardedClock;
use control::crl::Crl;
use control::cross_net::CrossNet;
use control::evidence::EvidenceReader;
use control::federated::Federated;
use control::findings::Findings;
use control::hierarchy::{Downstreams, Upstreams};
use control::hush::Hush;
use control::levels::Levels;
use control::metered::Authorities;
use control::metrics::Metrics;
use control::neighbors::NeighborTroubles;
use control::peers::Peers;
use control::probing::Probing;
use control::refusals::Refusals;
use control::rehearsing::Rehearsing;
use control::replication::Replication;
use control::seen::Seen;

/// The parts.
pub(super) struct CaParts {
    pub(super) replica: ReplicaName,
    pub(super) guard: Arc<GuardedClock>,
    pub(super) cell: Arc<SnapshotCell>,
    pub(super) issuer: Issuer,
    pub(super) ledger: Arc<Ledger>,
    pub(super) registry: AgentRegistry,
    pub(super) bundles: watch::Receiver<Bundle>,
    pub(super) authorities: Authorities,
    pub(super) authority_troubles: watch::Receiver<AuthorityTroubles>,
    pub(super) authority_drift: watch::Receiver<Drifts>,
    pub(super) neighbor_troubles: watch::Receiver<NeighborTroubles>,
    pub(super) federated: Federated,
    pub(super) id: SpiffeId,
    pub(super) evidence: Arc<EvidenceReader>,
    pub(super) history: BundleHistory,
    pub(super) downstreams: Arc<Downstreams>,
    pub(super) upstreams: Upstreams,
    pub(super) metrics: Arc<Metrics>,
    pub(super) peers: Arc<Peers>,
    pub(super) keys: Arc<CaKeys>,
    pub(super) jwt: Arc<JwtVerifier>,
    pub(super) clusters: Arc<dyn Clusters>,
    pub(super) shortage: Option<String>,
    pub(super) replication: Arc<Replication>,
    pub(super) store: Arc<dyn SharedStore>,
    pub(super) rehearsing: Arc<Rehearsing>,
    pub(super) cross: Arc<CrossNet>,
}

/// Puts a CA together.
pub(super) fn ca(config: &Config, deps: &HostDeps, driver: &DriverHandle, parts: CaParts) -> Ca {
    let CaParts { keys, jwt, shortage, .. } = parts;
    let CaParts {
        cell, issuer, ledger, registry, bundles, authorities, authority_troubles, ..
    } = parts;
    let CaParts {
        replica,
        id,
        evidence,
        history,
        downstreams,
        upstreams,
        metrics,
        peers,
        guard,
        authority_drift,
        neighbor_troubles,
        federated,
        replication,
        store,
        clusters,
        rehearsing,
        cross,
        ..
    } = parts;
    let agents = Arc::new(registry.clone());
    Ca {
        authenticator: Authenticator::new(
            jwt,
            Arc::<Ledger>::clone(&ledger),
            Arc::<AgentRegistry>::clone(&agents),
            Arc::clone(&deps.clock),
            config.limits().connections(),
        ),
        authorizer: Authorizer::new(
            config.trust_domain().clone(),
            config.leaf().name_mismatch(),
            keys,
            agents,
        )
        .with_own_names(config.listen().dns_names().to_vec()),
        clock: Arc::clone(&deps.clock),
        guard,
        randomness: Arc::clone(&deps.randomness),
        cell,
        issuer,
        ledger,
        sessions: registry.sessions(),
        registry,
        metrics,
        levels: Levels::default(),
        pace: Pace::new(config.limits().leaves_per_second(), Arc::clone(&deps.clock)),
        seen: Seen::default(),
        reconnects_per_second: config.agents().reconnects_per_second(),
        shortage,
        hush: Hush::default(),
        driver: driver.clone(),
        evidence,
        history,
        clusters,
        policy: open::policy(config),
        bundles,
        authorities,
        authority_troubles,
        findings: Findings::default(),
        refusals: Refusals::default(),
        authority_drift,
        probing: Probing::default(),
        handshakes: Default::default(),
        crl: Crl::new(config.crl().settings()),
        rehearsing,
        cross,
        neighbors: config.neighbors().keys().cloned().collect(),
        neighbor_troubles,
        federated,
        standby: settings::standby(config),
        causes: causes(config),
        downstreams,
        upstreams,
        id,
        replica,
        replication,
        peers,
        store,
        started_at: deps.clock.now(),
    }
}

/// When roots are replaced without being asked for.
fn causes(config: &Config) -> Causes {
    let (root, rotation) = (config.root(), config.rotation());
    let authority = root.authorities().get(root.authority());
    // What other authorities make of `root.key_type` is theirs.
    let makes_it = authority.is_some_and(|authority| authority.plugin() == "self-signed");
    Causes {
        authority: root.authority().to_owned(),
        max_age: rotation.max_root_age(),
        retry_after: rotation.retry_aborted_after(),
        schedule: rotation.schedule().clone(),
        root_key: makes_it.then(|| root.key()),
    }
}
