//! What every handler works with, and the one place where a refusal is written down.

use std::net::SocketAddr;
use std::sync::Arc;

use auth::authn::Authenticator;
use auth::authz::Authorizer;
use auth::pace::Pace;
use auth::refusal::{Refusal, clock_diverged};
use issuance::{Issuer, SnapshotCell};
use ledger::{AuditRefusal, Ledger};
use registry::AgentRegistry;
use registry::sessions::Sessions;
use rotation::Policy;
use rotation_driver::DriverHandle;
use tokio::sync::watch;
use trust::{Bundle, Clock, Randomness, SpiffeId, Timestamp};

use crate::boot::{Aging, AuthorityTroubles, Drifts, EvidenceReader, GuardedClock};
use crate::bundles::BundleHistory;
use crate::findings::Findings;
use crate::hierarchy::{Downstreams, Upstreams};
use crate::hush::Hush;
use crate::levels::Levels;
use crate::metered::Authorities;
use crate::metrics::Metrics;
use crate::seen::Seen;

/// One running CA. Everything in it is shared and changes only through its own parts.
#[derive(Debug)]
pub(crate) struct Ca {
    pub(crate) clock: Arc<dyn Clock>,
    /// The same clock, and where it is noted.
    pub(crate) guard: Arc<GuardedClock>,
    pub(crate) randomness: Arc<dyn Randomness>,
    /// What requests are served from: loaded once by each.
    pub(crate) cell: Arc<SnapshotCell>,
    pub(crate) issuer: Issuer,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) registry: AgentRegistry,
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Authorizer,
    pub(crate) metrics: Arc<Metrics>,
    /// Why fewer connections are served than configured.
    pub(crate) shortage: Option<String>,
    pub(crate) sessions: Sessions,
    /// New connections of agents that this server takes in each second without anybody noticing.
    pub(crate) reconnects_per_second: u64,
    /// How fast each identity gets leaves.
    pub(crate) pace: Pace,
    /// What shall be so and is not yet.
    pub(crate) levels: Levels,
    /// What agents hold that the record never published, on its way into the record.
    pub(crate) seen: Seen,
    /// Bounds the log lines that callers cause.
    pub(crate) hush: Hush,
    pub(crate) driver: DriverHandle,
    /// What gates rest on.
    pub(crate) evidence: Arc<EvidenceReader>,
    /// Bundles of the past.
    pub(crate) history: BundleHistory,
    /// The machine's limits as configured.
    pub(crate) policy: Policy,
    /// The bundle in force, for streams.
    pub(crate) bundles: watch::Receiver<Bundle>,
    /// The authorities of the configuration.
    pub(crate) authorities: Authorities,
    /// What is wrong with root authorities.
    pub(crate) authority_troubles: watch::Receiver<AuthorityTroubles>,
    /// What was found wrong with files.
    pub(crate) findings: Findings,
    /// What root authorities would give now that is not what signs.
    pub(crate) authority_drift: watch::Receiver<Drifts>,
    /// When roots are replaced for their age.
    pub(crate) aging: Aging,
    /// Downstream CAs, and what they reported.
    pub(crate) downstreams: Arc<Downstreams>,
    /// What upstream CAs said last.
    pub(crate) upstreams: Upstreams,
    /// The id of this replica.
    pub(crate) id: SpiffeId,
    pub(crate) replica: String,
    pub(crate) started_at: Timestamp,
}

/// Whom a refusal is about, as far as known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused<'r> {
    /// Kind of caller; `unknown` before authentication.
    pub(crate) caller: &'static str,
    /// Whom the caller proved to be.
    pub(crate) subject: Option<&'r str>,
    /// Where it is.
    pub(crate) addr: Option<SocketAddr>,
}

/// Label of callers that are not authenticated yet.
pub(crate) const UNKNOWN_CALLER: &str = "unknown";

impl Ca {
    /// What time it is, for what cannot be taken back.
    pub(crate) fn believed_now(&self) -> Result<Timestamp, Refusal> {
        self.clock.agreed().map(|agreed| agreed.wall).map_err(|_| clock_diverged())
    }

    /// Writes a refusal down, in audit, metrics and log.
    pub(crate) fn refused(&self, refusal: &Refusal, about: Refused<'_>) {
        let reason = refusal.reason().as_str();
        let mut audit = AuditRefusal::new(reason, about.caller).detail(refusal.text());
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
