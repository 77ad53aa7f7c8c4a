//! The servers of this CA, as operators are told of them.

use std::time::Duration;

use replicas::{Roster, Standing};
use rotation::{ReplicaName, State};
use trust::Timestamp;

use crate::ca::Ca;
use crate::replication::last_bound;

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: ReplicaName,
    /// What it says that it does, or `silent`.
    pub standing: &'static str,
    /// Whether it is the one that answers.
    pub answers: bool,
    /// Whether it stages roots and reports evidence.
    pub leads: bool,
    /// Where other servers reach it.
    pub address: Option<String>,
    /// Its release.
    pub version: String,
    /// Since when no renewal of its lease was seen.
    pub silent: Duration,
    /// The segment that it writes.
    pub segment: Option<String>,
    /// Until when its leaves may live.
    pub leaves_until: Option<Timestamp>,
    /// By how much its wall clock is ahead of this one's, in milliseconds.
    pub ahead_millis: i64,
}

/// Every server that is known here, by name.
pub fn list(ca: &Ca) -> Vec<Server> {
    let (roster, state) = (ca.replication.roster.borrow().clone(), ca.driver.state());
    let mut servers: Vec<_> =
        roster.peers.keys().filter_map(|name| peer(ca, &roster, &state, name)).collect();
    servers.push(this(ca, &roster, &state));
    servers.sort_by(|one, other| one.name.cmp(&other.name));
    servers
}

fn this(ca: &Ca, roster: &Roster, state: &State) -> Server {
    let replication = &ca.replication;
    let uptime = ca.clock.uptime();
    let standing = match (replication.lease.is_held(uptime), replication.drains()) {
        (false, _) => "silent",
        (true, true) => Standing::Drains.as_str(),
        (true, false) => Standing::Serves.as_str(),
    };
    Server {
        name: replication.name.clone(),
        standing,
        answers: true,
        leads: replication.lease.is_held(uptime) && roster.leads(&replication.name, uptime),
        address: replication.address.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        silent: Duration::ZERO,
        segment: Some(ca.ledger.segment().as_str().to_owned()),
        leaves_until: last_bound(state, &replication.name),
        ahead_millis: 0,
    }
}

fn peer(ca: &Ca, roster: &Roster, state: &State, name: &ReplicaName) -> Option<Server> {
    let (peer, uptime) = (roster.peers.get(name)?, ca.clock.uptime());
    let live = peer.may_hold(uptime);
    let silent = !live && peer.row.standing != Standing::Stopped;
    let this_leads = roster.leads(&ca.replication.name, uptime);
    Some(Server {
        name: name.clone(),
        standing: if silent { "silent" } else { peer.row.standing.as_str() },
        answers: false,
        leads: live && !this_leads && roster.leads(name, uptime),
        address: peer.row.address.clone(),
        version: peer.row.version.clone(),
        silent: uptime.saturating_sub(peer.seen_at),
        segment: peer.row.segment.clone(),
        leaves_until: last_bound(state, name),
        ahead_millis: peer.ahead_millis.unwrap_or_default(),
    })
}
