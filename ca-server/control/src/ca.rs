//! What every handler works with, and the one place where a refusal is written down.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use auth::authn::Authenticator;
use auth::authn::cluster::Clusters;
use auth::authz::Authorizer;
use auth::pace::Pace;
use auth::refusal::{Refusal, clock_diverged};
use issuance::{Issuer, SnapshotCell};
use ledger::{AuditRefusal, Ledger};
use registry::AgentRegistry;
use registry::sessions::Sessions;
use rotation::{Policy, ReplicaName};
use rotation_driver::DriverHandle;
use stores::SharedStore;
use tokio::sync::watch;
use trust::{Bundle, Clock, Randomness, SpiffeId, Timestamp};

use crate::authority_health::AuthorityTroubles;
use crate::authority_upkeep::Drifts;
use crate::bundles::BundleHistory;
use crate::causes::Causes;
use crate::clock::GuardedClock;
use crate::crl::Crl;
use crate::cross_net::CrossNet;
use crate::evidence::EvidenceReader;
use crate::federated::Federated;
use crate::findings::Findings;
use crate::handshakes::Handshakes;
use crate::hierarchy::{Downstreams, Upstreams};
use crate::hush::Hush;
use crate::levels::Levels;
use crate::metered::Authorities;
use crate::metrics::Metrics;
use crate::neighbors::NeighborTroubles;
use crate::peers::Peers;
use crate::probing::Probing;
use crate::refusals::Refusals;
use crate::rehearsing::Rehearsing;
use crate::replication::Replication;
use crate::seen::Seen;
use crate::standby::StandbyPolicy;

/// One running CA. Everything in it is shared and changes only through its own parts.
#[derive(Debug)]
pub struct Ca {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The same clock, and where it is noted.
    pub guard: Arc<GuardedClock>,
    /// Where secrets and names come from.
    pub randomness: Arc<dyn Randomness>,
    /// What requests are served from: loaded once by each.
    pub cell: Arc<SnapshotCell>,
    /// Issues leaves.
    pub issuer: Issuer,
    /// Rows of every leaf that may live.
    pub ledger: Arc<Ledger>,
    /// Agents, tokens, and who else is registered.
    pub registry: AgentRegistry,
    /// Tells who calls.
    pub authenticator: Authenticator,
    /// Clusters that know some of them.
    pub clusters: Arc<dyn Clusters>,
    /// Tells what they may have.
    pub authorizer: Authorizer,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Why fewer connections are served than configured.
    pub shortage: Option<String>,
    /// Agents that are connected.
    pub sessions: Sessions,
    /// New connections of agents that this server takes in each second without anybody noticing.
    pub reconnects_per_second: u64,
    /// How fast each identity gets leaves.
    pub pace: Pace,
    /// What shall be so and is not yet.
    pub levels: Levels,
    /// What agents hold that the record never published, on its way into the record.
    pub seen: Seen,
    /// Bounds the log lines that callers cause.
    pub hush: Hush,
    /// The record, and the way to change it.
    pub driver: DriverHandle,
    /// What gates rest on.
    pub evidence: Arc<EvidenceReader>,
    /// Bundles of the past.
    pub history: BundleHistory,
    /// The machine's limits as configured.
    pub policy: Policy,
    /// The bundle in force, for streams.
    pub bundles: watch::Receiver<Bundle>,
    /// The authorities of the configuration.
    pub authorities: Authorities,
    /// What is wrong with root authorities.
    pub authority_troubles: watch::Receiver<AuthorityTroubles>,
    /// What was found wrong with files.
    pub findings: Findings,
    /// When clients refused this server last.
    pub refusals: Refusals,
    /// What root authorities would give now that is not what signs.
    pub authority_drift: watch::Receiver<Drifts>,
    /// Whether agents are asked to probe their proxies, and what with.
    pub probing: Probing,
    /// What proxies count of their handshakes.
    pub handshakes: Handshakes,
    /// Revocation lists.
    pub crl: Crl,
    /// How new roots are rehearsed.
    pub rehearsing: Arc<Rehearsing>,
    /// The second net of rotations.
    pub cross: Arc<CrossNet>,
    /// Neighbors of the configuration.
    pub neighbors: BTreeSet<String>,
    /// What is wrong with them.
    pub neighbor_troubles: watch::Receiver<NeighborTroubles>,
    /// Other trust domains.
    pub federated: Federated,
    /// What policy asks for of standby roots, if it does.
    pub standby: Option<StandbyPolicy>,
    /// When roots are replaced without being asked for.
    pub causes: Causes,
    /// Downstream CAs, and what they reported.
    pub downstreams: Arc<Downstreams>,
    /// What upstream CAs said last.
    pub upstreams: Upstreams,
    /// The id of this replica.
    pub id: SpiffeId,
    /// Its name in the configuration.
    pub replica: ReplicaName,
    /// The other servers of this CA, and what this one may release.
    pub replication: Arc<Replication>,
    /// What they are asked and told of leaves.
    pub peers: Arc<Peers>,
    /// What all servers of the CA share.
    pub store: Arc<dyn SharedStore>,
    /// When this process started.
    pub started_at: Timestamp,
}

/// Whom a refusal is about, as far as known.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'r> {
    /// Kind of caller; `unknown` before authentication.
    pub caller: &'static str,
    /// Whom the caller proved to be.
    pub subject: Option<&'r str>,
    /// Where it is.
    pub addr: Option<SocketAddr>,
}

/// Label of callers that are not authenticated yet.
pub const UNKNOWN_CALLER: &str = "unknown";

impl Ca {
    /// What time it is, for what cannot be taken back.
    pub fn believed_now(&self) -> Result<Timestamp, Refusal> {
        self.clock.agreed().map(|agreed| agreed.wall).map_err(|_| clock_diverged())
    }

    /// Writes a refusal down, in audit, metrics and log.
    pub fn refused(&self, refusal: &Refusal, about: Refused<'_>) {
        let reason = refusal.reason().as_str();
        let mut audit = AuditRefusal::new(reason, about.caller).detail(&refusal.message());
        if let Some(subject) = about.subject {
            audit = audit.identity(subject);
        }
        if let Some(addr) = about.addr {
            audit = audit.peer(addr);
        }
        if let Err(error) = self.ledger.refused(audit) {
            // Issuance stops by itself: a ledger that takes no audit takes no row.
            if let Some(left_out) = self.hush.may_say("not audited", "", self.clock.uptime()) {
                tracing::error!(%error, reason, left_out, "a refusal could not be audited");
            }
        }
        self.metrics.refused(reason);
        tracing::debug!(reason, caller = about.caller, subject = about.subject, peer = ?about.addr, "request refused");
    }
}
