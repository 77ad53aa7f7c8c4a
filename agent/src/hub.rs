//! The one task that owns the agent's state: bundles, leaves, holders and their streams.
//!
//! Everybody else sends it [`Command`]s over a bounded channel and reads what it publishes. After each batch of commands
//! it settles: it expires, plans (see [`crate::install`]), makes durable, pushes, asks for leaves, and publishes. All of
//! that is by level, so a command lost or repeated does no harm, and a clock that jumps is noticed at the next tick.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::Disk;
use proto::banyan::agent::v1 as wire;
use proto::sds::{DiscoveryRequest, DiscoveryResponse};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::Status as Refusal;
use trust::{Bundle, Clock, Randomness, Serial, SpiffeId, Timestamp};

use crate::bundle_store::{BundleRefused, BundleStore, Verdict};
use crate::ca_client::CaClient;
use crate::config::AgentConfig;
use crate::evidence::Evidence;
use crate::holders::{Account, HolderFile, Holders};
use crate::in_flight::InFlight;
use crate::install::SubscriptionId;
use crate::leaf::Leaf;
use crate::process::{ProcessId, Processes};
use crate::status::{Condition, Status};

mod doubts;
mod pushes;
mod report;
mod streams;
mod workloads;

use doubts::Doubts;
use streams::Stream;
use workloads::{Issued, Workload};

/// Commands that wait at most; senders then wait too.
const COMMANDS_MAX: usize = 1024;
/// Commands handled before the state is settled and made durable once for all of them.
const BATCH_MAX: usize = 256;
/// How often clocks are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Refusals kept to be told to the CA.
const NACKS_MAX: usize = 64;

/// Who is at the other end of a connection, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) pid: Option<i32>,
    pub(crate) uid: u32,
}

/// What a stream's reader gets from the hub.
pub(crate) type Pushed = Result<DiscoveryResponse, Refusal>;

/// What others want of the hub.
#[derive(Debug)]
pub(crate) enum Command {
    /// A stream of secrets is opened; the reply is its number.
    Open { peer: Peer, to: mpsc::Sender<Pushed>, reply: oneshot::Sender<Result<u64, Refusal>> },
    /// Something came on a stream.
    Request { stream: u64, request: DiscoveryRequest },
    /// A stream ended.
    Close { stream: u64 },
    /// Secrets are asked for once.
    Fetch { peer: Peer, request: DiscoveryRequest, reply: oneshot::Sender<Pushed> },
    /// A bundle came from the CA, or from where it is pinned.
    Offer { offered: Result<Bundle, BundleRefused>, reply: oneshot::Sender<Result<(), OfferError>> },
    /// The CA wants leaves renewed, spread over a time.
    Reissue { serials: Vec<Serial>, spread: Duration },
    /// Something began or ceased to be wrong.
    Condition(Condition, Option<String>),
    /// The stream to the CA is up or down.
    Uplink(bool),
    /// The CA counts these leaves as this agent's, and was not told of them.
    Doubt { rows: Vec<(Serial, Timestamp)>, last: bool },
    /// The agent ends in order.
    Farewell { reply: oneshot::Sender<()> },
}

/// A bundle that was not put in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferError {
    /// It is not to be believed.
    #[error(transparent)]
    Refused(#[from] BundleRefused),
    /// It could not be made durable, so nobody is told of it.
    #[error("the bundle cannot be stored: {0}")]
    NotDurable(std::io::Error),
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    Stopped,
}

/// Sends commands to the hub.
#[derive(Clone, Debug)]
pub(crate) struct HubHandle(mpsc::Sender<Command>);

impl HubHandle {
    /// Sends a command; waits while the hub is busy. An error means that the agent is shutting down.
    pub(crate) async fn send(&self, command: Command) -> Result<(), OfferError> {
        self.0.send(command).await.map_err(|_| OfferError::Stopped)
    }

    /// Offers a bundle, and waits until it is durable and in force, or refused.
    pub(crate) async fn offer(&self, offered: Result<Bundle, BundleRefused>) -> Result<(), OfferError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Offer { offered, reply }).await?;
        answer.await.map_err(|_| OfferError::Stopped)?
    }

    /// Says that something is wrong, or no longer.
    pub(crate) async fn condition(&self, condition: Condition, what: Option<String>) {
        // At shutdown nobody reads conditions any more.
        let _ = self.send(Command::Condition(condition, what)).await;
    }
}

/// What the hub is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) randomness: Arc<dyn Randomness>,
    pub(crate) processes: Arc<dyn Processes>,
    pub(crate) store: BundleStore,
    pub(crate) holder_file: HolderFile,
    pub(crate) client: Arc<CaClient>,
    pub(crate) in_flight: InFlight,
    /// The agent's own certificate of a former run, until it has another: it may come back with it.
    pub(crate) former: Option<(Serial, Timestamp)>,
    pub(crate) credential: watch::Receiver<Option<Arc<Leaf>>>,
    pub(crate) publish: Publish,
}

/// Where the hub publishes.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) trust: watch::Sender<Option<Bundle>>,
    pub(crate) evidence: watch::Sender<Arc<Evidence>>,
    pub(crate) status: watch::Sender<Arc<Status>>,
    /// The agent's own certificate, if the CA wants that renewed, and over which time.
    pub(crate) renewal: watch::Sender<Option<(Serial, Duration)>>,
}

#[derive(Debug)]
pub(crate) struct Hub {
    parts: Parts,
    entitlements: BTreeMap<u32, Vec<SpiffeId>>,
    commands: mpsc::Receiver<Command>,
    holders: Holders,
    streams: BTreeMap<u64, Stream>,
    workloads: BTreeMap<SpiffeId, Workload>,
    serials: Serials,
    nacks: Nacks,
    conditions: BTreeMap<Condition, String>,
    connected: bool,
    doubts: Doubts,
    /// See [`Account::silent_until`].
    silent_until: Timestamp,
    /// The agent ends: it asks for nothing any more.
    leaving: bool,
    /// The holders in memory differ from those on the disk.
    holders_dirty: bool,
    issuing: JoinSet<Issued>,
    watching: JoinSet<ProcessId>,
    watches: BTreeMap<ProcessId, AbortHandle>,
    last_id: u64,
}

/// Serials of leaves that this agent got, and what became of them, until each expires.
#[derive(Debug, Default)]
struct Serials {
    live: BTreeMap<Serial, Timestamp>,
    released: BTreeMap<Serial, Timestamp>,
}

/// Refusals, the newest few with their numbers.
#[derive(Debug, Default)]
struct Nacks {
    total: u64,
    recent: VecDeque<(u64, wire::Nack)>,
}

impl Hub {
    /// Puts the state of a former run in place.
    pub(crate) fn new(parts: Parts, account: Account, last_id: u64) -> (Self, HubHandle) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let workloads = workloads::configured(&parts.config);
        let Account { holders, silent_until } = account;
        let mut hub = Self {
            entitlements: parts.config.entitlements(),
            parts,
            commands,
            holders,
            streams: BTreeMap::new(),
            workloads,
            serials: Serials::default(),
            nacks: Nacks::default(),
            conditions: BTreeMap::new(),
            connected: false,
            doubts: Doubts::default(),
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
        (hub, HubHandle(sender))
    }

    /// Runs until cancelled. Then every stream ends, and every key is wiped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let restored: Vec<ProcessId> = self.holders.keys().copied().collect();
        restored.into_iter().for_each(|process| self.watch(process));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                received = self.commands.recv_many(&mut batch, BATCH_MAX) => {
                    if received == 0 {
                        break;
                    }
                    for command in batch.drain(..) {
                        self.handle(command).await;
                    }
                }
                Some(Ok(issued)) = self.issuing.join_next() => self.issued(issued).await,
                Some(Ok(process)) = self.watching.join_next() => self.gone(process),
                _ = tick.tick() => {}
            }
            self.settle().await;
        }
        self.issuing.shutdown().await;
        self.watching.shutdown().await;
    }

    async fn handle(&mut self, command: Command) {
        // A requester that has gone away needs no reply.
        match command {
            Command::Open { peer, to, reply } => {
                let opened = self.open(peer, to);
                let number = opened.as_ref().ok().copied();
                if let (Err(_), Some(number)) = (reply.send(opened), number) {
                    self.close(number);
                }
            }
            Command::Request { stream, request } => self.request(stream, &request),
            Command::Close { stream } => self.close(stream),
            Command::Fetch { peer, request, reply } => {
                let _ = reply.send(self.fetch(peer, &request).await);
            }
            Command::Offer { offered, reply } => {
                let _ = reply.send(self.offer(offered).await);
            }
            Command::Reissue { serials, spread } => self.reissue(&serials, spread),
            Command::Condition(condition, what) => self.condition(condition, what),
            Command::Uplink(up) => {
                self.connected = up;
                self.doubts_end();
            }
            Command::Doubt { rows, last } => self.doubted(&rows, last),
            Command::Farewell { reply } => {
                self.farewell().await;
                let _ = reply.send(());
            }
        }
    }

    async fn settle(&mut self) {
        self.expire();
        self.drop_idle();
        self.shed();
        self.resolve_doubts();
        self.push().await;
        self.request_leaves();
        if self.holders_dirty {
            self.persist_holders().await;
        }
        self.publish();
    }

    /// Judges a bundle, makes it durable and only then puts it in force.
    async fn offer(&mut self, offered: Result<Bundle, BundleRefused>) -> Result<(), OfferError> {
        let judged = offered.and_then(|bundle| self.parts.store.judge(&bundle));
        let newer = match judged {
            Ok(Verdict::Newer(bundle)) => bundle,
            Ok(Verdict::Same) => {
                self.condition(Condition::BundleRefused, None);
                return Ok(());
            }
            Ok(Verdict::Older) => return Ok(()),
            Err(refused) => {
                tracing::error!(error = %refused, "bundle refused, the last good one stays");
                self.nack(None, self.sequence(), &refused.to_string());
                self.condition(Condition::BundleRefused, Some(refused.to_string()));
                return Err(refused.into());
            }
        };
        let (history, bytes) = self.parts.store.staged(&newer);
        let stored = replace(self.parts.store.file(), bytes).await;
        self.condition(
            Condition::BundleNotStored,
            stored
                .as_ref()
                .err()
                .map(|error| format!("the bundle cannot be stored: {error}; make room on the disk")),
        );
        stored.map_err(OfferError::NotDurable)?;
        self.parts.store.adopt(history);
        self.condition(Condition::BundleRefused, None);
        tracing::info!(sequence = newer.sequence().0, digest = %newer.digest(), "bundle in force");
        self.parts.publish.trust.send_replace(Some(newer));
        Ok(())
    }

    /// Makes the account of holders durable; says whether it is.
    async fn persist_holders(&mut self) -> bool {
        let bytes = self.parts.holder_file.encode(&self.holders, self.silent_until);
        let stored = replace(self.parts.holder_file.file(), bytes).await;
        self.holders_dirty = stored.is_err();
        let what = stored.err().map(|error| {
            format!(
                "the account of holders cannot be stored: {error}; no new leaf is handed over until it can"
            )
        });
        let durable = what.is_none();
        self.condition(Condition::HoldersNotStored, what);
        durable
    }

    fn condition(&mut self, condition: Condition, what: Option<String>) {
        match what {
            Some(what) => {
                let changed = self.conditions.insert(condition, what.clone()).as_ref() != Some(&what);
                if changed {
                    tracing::warn!(condition = condition.name(), what);
                }
            }
            None => {
                self.conditions.remove(&condition);
            }
        }
    }

    /// Notes a refusal; without serial it is the agent itself that refused.
    fn nack(&mut self, serial: Option<Serial>, sequence: trust::Sequence, reason: &str) {
        let own = || self.parts.credential.borrow().as_ref().map(|leaf| leaf.held().serial);
        let serial = serial.or_else(own).map(|serial| serial.as_bytes().to_vec()).unwrap_or_default();
        let reason = cut(reason);
        self.nacks.total += 1;
        let nack = wire::Nack { serial, sequence: sequence.0, reason };
        self.nacks.recent.push_back((self.nacks.total, nack));
        if self.nacks.recent.len() > NACKS_MAX {
            self.nacks.recent.pop_front();
        }
    }

    fn watch(&mut self, process: ProcessId) {
        let gone = self.parts.processes.gone(process);
        let watch = self.watching.spawn(async move {
            gone.await;
            process
        });
        self.watches.insert(process, watch);
    }

    fn unwatch(&mut self, process: ProcessId) {
        if let Some(watch) = self.watches.remove(&process) {
            watch.abort();
        }
    }

    fn gone(&mut self, process: ProcessId) {
        self.unwatch(process);
        let streams: Vec<u64> =
            self.streams.iter().filter(|(_, stream)| stream.holder == process).map(|(id, _)| *id).collect();
        for stream in streams {
            self.streams.remove(&stream);
        }
        if self.holders.remove(&process).is_some() {
            tracing::info!(pid = process.pid, "holder is gone");
            self.holders_dirty = true;
        }
    }

    fn sequence(&self) -> trust::Sequence {
        self.parts.store.current().map(Bundle::sequence).unwrap_or_default()
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn next_subscription(&mut self) -> SubscriptionId {
        SubscriptionId(self.next_id())
    }
}

/// What the CA is told of a refusal: at most 256 bytes.
fn cut(reason: &str) -> String {
    let mut end = reason.len().min(256);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default().to_owned()
}

/// Writes a file where blocking does no harm.
async fn replace((disk, path): (Arc<dyn Disk>, PathBuf), bytes: Vec<u8>) -> std::io::Result<()> {
    let write = move || disk.replace(&path, &bytes, 0o600);
    tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)?
}
