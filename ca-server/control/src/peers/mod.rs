//! The other servers of this CA, as far as leaves go: whose row is it, and what agents said of it.
//!
//! | module | what |
//! |---|---|
//! | [`calls`] | the port: what one server asks of another |
//! | [`lines`] | who is called now, how many calls at a time, and who is left alone for a while |
//! | [`owners`] | whose row a leaf has, and what that server says of it |
//! | [`outbox`] | what agents said of leaves that this server did not issue |
//! | [`telling`] | passes that on, and does so anew to a server that started anew |
//! | [`counters`] | what is counted of it |
//!
//! Nothing here is needed for safety: what is not passed on makes gates open later, and who cannot be asked is named in the
//! audit.

pub mod calls;
pub mod counters;
pub mod lines;
pub mod outbox;
pub mod owners;
pub mod telling;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Duration;

use auth::authn::mtls::Elsewhere;
use auth::bounded_cache::BoundedCache;
use replicas::Roster;
use tokio::sync::watch;
use trust::{CertificateId, Clock};

use calls::PeerCalls;
use counters::PeerCounters;
use lines::Lines;
use outbox::{Outbox, Voice};

/// Answers about leaves that are remembered.
const ANSWERS: usize = 16 * 1024;

/// What one server has to do with the others.
#[derive(Debug)]
pub struct Peers {
    lines: Lines,
    /// What agents said here of leaves of other servers.
    pub outbox: Arc<Outbox>,
    /// What was answered about a leaf, and the uptime until which that counts.
    answers: BoundedCache<CertificateId, (Elsewhere, Duration)>,
    clock: Arc<dyn Clock>,
}

impl Peers {
    /// Calls those of the roster by these calls.
    pub fn new(
        roster: watch::Receiver<Arc<Roster>>,
        calls: Arc<dyn PeerCalls>,
        clock: Arc<dyn Clock>,
        counters: PeerCounters,
    ) -> Self {
        let lines = Lines::new(roster, calls, Arc::clone(&clock), counters.clone());
        let outbox = Arc::new(Outbox::new(Arc::clone(&clock), counters));
        Self { lines, outbox, answers: BoundedCache::new(ANSWERS), clock }
    }

    /// What an agent says on one stream, from now on.
    pub fn voice(&self, agent: &str) -> Voice {
        self.outbox.voice(agent)
    }

    /// Servers that hold their leases and cannot be asked, one sentence each.
    pub fn conditions(&self) -> Vec<String> {
        self.lines.conditions()
    }
}
