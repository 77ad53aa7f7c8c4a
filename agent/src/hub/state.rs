//! What the hub knows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use host::Disk;
use proto::banyan::agent::v1 as wire;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use trust::{Bundle, Clock, Randomness, Serial, SpiffeId, Timestamp};

use super::command::{Command, HubHandle};
use super::subscription::{Nobody, Pushed};
use super::told::Told;
use super::workload::{Issued, Workload, configured};
use crate::bundle_store::BundleStore;
use crate::ca_client::CaClient;
use crate::config::{AgentConfig, Entitlements, Process};
use crate::counted::Counted;
use crate::evidence::Evidence;
use crate::foreign::{Bundles, ForeignStore};
use crate::holders::{Account, HolderFile, Holders};
use crate::in_flight::{InFlight, Moment};
use crate::install::SubscriptionId;
use crate::leaf::Leaf;
use crate::lists::Known;
use crate::pods::View;
use crate::probed::{Found, Listened, Seen};
use crate::process::{ProcessId, Processes};
use crate::shares::Owner;
use crate::status::{Condition, Status};

/// What the hub is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) randomness: Arc<dyn Randomness>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) processes: Arc<dyn Processes>,
    pub(crate) store: BundleStore,
    pub(crate) foreign: ForeignStore,
    pub(crate) holder_file: HolderFile,
    pub(crate) client: Arc<CaClient>,
    pub(crate) in_flight: InFlight,
    /// The agent's own certificate of a former run, until it has another: it may come back with it.
    pub(crate) former: Option<(Serial, Timestamp)>,
    pub(crate) credential: watch::Receiver<Option<Arc<Leaf>>>,
    /// The Pods of the node, of an agent of a node.
    pub(crate) pods: Option<watch::Receiver<Arc<View>>>,
    pub(crate) publish: Publish,
}

/// Where the hub publishes.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) trust: watch::Sender<Option<Bundle>>,
    pub(crate) evidence: watch::Sender<Arc<Evidence>>,
    pub(crate) status: watch::Sender<Arc<Status>>,
    /// The leaves of identities that have listeners.
    pub(crate) listened: watch::Sender<Listened>,
    /// The agent's own certificate, if the CA wants that renewed, and over which time.
    pub(crate) renewal: watch::Sender<Option<(Serial, Duration)>>,
    /// The agent's own certificate, if the CA says that it is of another agent than the token of the node.
    pub(crate) misnamed: watch::Sender<Option<Serial>>,
}

#[derive(Debug)]
pub(crate) struct Hub {
    pub(super) parts: Parts,
    pub(super) entitlements: Entitlements,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) holders: Holders,
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) workloads: BTreeMap<SpiffeId, Workload>,
    pub(super) serials: Serials,
    /// Leaves that were revoked, each until it is over.
    pub(super) revoked: BTreeMap<Serial, Timestamp>,
    /// What takes their place where no other leaf does; made when it is first needed.
    pub(super) nobody: Option<Arc<Nobody>>,
    pub(super) nacks: Nacks,
    pub(super) conditions: BTreeMap<Condition, String>,
    pub(super) told: Told,
    pub(super) connected: bool,
    /// Since when it is up, or down.
    pub(super) connection_since: Timestamp,
    pub(super) doubts: Doubts,
    /// Identities whose holders have listeners, and how these are known.
    pub(super) listening: BTreeMap<SpiffeId, Vec<Process>>,
    /// Where Envoys say that they listen.
    pub(super) found: Found,
    /// What was seen there.
    pub(super) seen: BTreeMap<SpiffeId, Seen>,
    /// What their Envoys count of handshakes.
    pub(super) counted: BTreeMap<SpiffeId, Counted>,
    /// Bundles of other trust domains that are not durable yet.
    pub(super) foreign_heard: Option<Bundles>,
    /// Revocation lists, and the number of those in the file.
    pub(super) lists: Known,
    pub(super) lists_in_file: Option<u64>,
    /// See [`Account::silent_until`].
    pub(super) silent_until: Timestamp,
    /// The agent ends: it asks for nothing any more.
    pub(super) leaving: bool,
    /// The holders in memory differ from those on the disk.
    pub(super) holders_dirty: bool,
    pub(super) issuing: JoinSet<Issued>,
    pub(super) watching: JoinSet<ProcessId>,
    pub(super) watches: BTreeMap<ProcessId, AbortHandle>,
    pub(super) last_id: u64,
}

/// Serials of leaves that this agent got, and what became of them, until each expires.
#[derive(Debug, Default)]
pub(super) struct Serials {
    pub(super) live: BTreeMap<Serial, Timestamp>,
    pub(super) released: BTreeMap<Serial, Timestamp>,
}

/// Refusals, the newest few with their numbers.
#[derive(Debug, Default)]
pub(super) struct Nacks {
    pub(super) total: u64,
    pub(super) recent: VecDeque<(u64, wire::Nack)>,
}

/// One stream of secrets.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) holder: ProcessId,
    pub(super) owner: Owner,
    /// What it may have, the default one first.
    pub(super) entitled: Vec<SpiffeId>,
    pub(super) to: mpsc::Sender<Pushed>,
    pub(super) secrets: BTreeMap<String, SubscriptionId>,
    /// What the last delivery carried, until it is acknowledged.
    pub(super) outstanding: Option<SubscriptionId>,
    /// The number of the last delivery; answers to older ones are stale.
    pub(super) deliveries: u64,
}

/// What was asked on this stream.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    pub(super) open: Vec<(Moment, Serial, Timestamp)>,
    /// Whether the CA has asked about everything.
    pub(super) complete: bool,
}

impl Hub {
    /// Puts the state of a former run in place.
    pub(crate) fn new(parts: Parts, account: Account, last_id: u64) -> (Self, HubHandle) {
        let (handle, commands) = HubHandle::new();
        let workloads = configured(&parts.config);
        let listening = parts.config.processes();
        let Account { holders, silent_until } = account;
        let lists = Known::at(parts.clock.uptime());
        let mut hub = Self {
            entitlements: parts.config.entitlements(),
            connection_since: parts.clock.now(),
            parts,
            commands,
            holders,
            streams: BTreeMap::new(),
            workloads,
            serials: Serials::default(),
            revoked: BTreeMap::new(),
            nobody: None,
            nacks: Nacks::default(),
            conditions: BTreeMap::new(),
            told: Told::default(),
            connected: false,
            doubts: Doubts::default(),
            listening,
            found: Found::new(),
            seen: BTreeMap::new(),
            counted: BTreeMap::new(),
            foreign_heard: None,
            lists,
            lists_in_file: None,
            silent_until,
            leaving: false,
            // A first account is on the disk before any leaf is asked for.
            holders_dirty: true,
            issuing: JoinSet::new(),
            watching: JoinSet::new(),
            watches: BTreeMap::new(),
            last_id,
        };
        let held = hub.holders.values().flat_map(|holder| holder.may_hold());
        hub.serials.live = held.map(|leaf| (leaf.serial, leaf.not_after)).collect();
        (hub, handle)
    }
}

/// What the CA is told of a refusal: at most 256 bytes.
pub(super) fn cut(reason: &str) -> String {
    let mut end = reason.len().min(256);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default().to_owned()
}
