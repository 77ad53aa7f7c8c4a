//! All connections of one port: who gets a place, who has had it for too long, and who goes when places are needed.
//!
//! Nobody is turned away because others sit idle: when the port is full, those go first that have shown no credential and
//! have nothing under way, the oldest of the address with the most connections first. The rules of a port are its
//! [`Rules`]; one task of each crowd looks at all of it every [`TICK`].

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::conduct::{Conduct, Cut, Network, Stage};
use crate::config::LimitsConfig;
use crate::metrics::Metrics;

/// How often connections are looked at, and the unit in which their time is counted.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// An idle connection without a credential goes after this time, if idle ones may stay longer.
const UNTRUSTED_IDLE: Duration = Duration::from_secs(60);
/// Time that an idle connection has to end in order.
const GOODBYE: Duration = Duration::from_secs(5);
/// Part of the places that is cleared at once when all are taken.
const CLEARED_AT_ONCE: usize = 64;
/// Connections that end at one tick for an answer that they did not take: so many, or one of so many. Those that came
/// together would come back together, and their handshakes would hold up everybody else.
const LATE_AT_ONCE: usize = 8;
const LATE_SHARES: usize = 16;
/// Budgets that may wait for connections that are known.
const KNOWN_SHARE: u64 = 4;
/// While half of their places are taken, half-open connections of an address that has more than this part of the places
/// have only that part of the time.
const HALF_OPEN_SHARES: usize = 8;
const PRESSED: u32 = 5;

/// What holds on one port. Times are in ticks.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Name of the port in metrics.
    pub(crate) port: &'static str,
    /// Connections at a time.
    pub(crate) places: usize,
    /// Handshakes under way, beyond half of which time grows short.
    pub(crate) half_open: usize,
    /// Connections of one address.
    pub(crate) per_network: usize,
    /// Streams of a connection on which nobody showed a credential.
    pub(crate) untrusted_streams: u32,
    /// Bytes that wait for all connections.
    pub(crate) budget: u64,
    /// Time for a handshake.
    pub(crate) handshake: u32,
    /// Time from the handshake to the first request.
    pub(crate) first_request: u32,
    /// Time that a connection may be idle, and one without a credential.
    pub(crate) idle: u32,
    pub(crate) untrusted_idle: u32,
    /// Time in which a client takes an answer.
    pub(crate) answer: u32,
    /// Everybody is known here, and nobody is cut.
    pub(crate) all_known: bool,
    /// A connection with requests under way goes too when places are needed, if all have.
    pub(crate) busy_go_too: bool,
}

/// What the connections of one crowd share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(super) rules: Rules,
    tick: AtomicU32,
    /// What waits for all of its connections.
    held: Gauge,
    over: Notify,
    pressed: AtomicBool,
    metrics: Arc<Metrics>,
}

/// The connections of one port.
#[derive(Debug)]
pub(crate) struct Crowd {
    common: Arc<Common>,
    table: Mutex<Table>,
    gently: CancellationToken,
}

#[derive(Debug, Default)]
struct Table {
    last_number: u64,
    all: HashMap<u64, Arc<Conduct>>,
    half_open: BTreeMap<u64, Arc<Conduct>>,
    networks: HashMap<Network, usize>,
}

/// A place in the crowd, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    conduct: Arc<Conduct>,
}

/// A duration in ticks, at least one.
pub(crate) fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX).max(1)
}

/// Bytes as a gauge counts them.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Rules {
    /// Those of the TLS port.
    pub(crate) fn of_untrusted(limits: &LimitsConfig, places: usize) -> Self {
        Self {
            port: "grpc",
            places,
            half_open: limits.handshakes(),
            per_network: limits.connections_per_address(),
            untrusted_streams: limits.streams_without_credential(),
            budget: limits.unsent_bytes(),
            handshake: ticks(limits.handshake_timeout()),
            first_request: ticks(limits.first_request_timeout()),
            idle: ticks(limits.idle_timeout()),
            untrusted_idle: ticks(limits.idle_timeout().min(UNTRUSTED_IDLE)),
            answer: ticks(limits.answer_timeout()),
            all_known: false,
            busy_go_too: false,
        }
    }

    /// Those of a port of probes: `within` a time they ask, take the answer, or ask again.
    pub(crate) fn of_probes(places: usize, within: Duration) -> Self {
        let within = ticks(within);
        Self {
            port: "plain",
            places,
            half_open: places,
            per_network: places,
            untrusted_streams: 16,
            budget: 16 * 1024 * 1024,
            handshake: within,
            first_request: within,
            idle: within,
            untrusted_idle: within,
            answer: within,
            all_known: false,
            busy_go_too: true,
        }
    }

    /// Those of a port that only operators can reach.
    pub(crate) const fn of_operators(places: usize) -> Self {
        Self {
            port: "admin",
            places,
            half_open: places,
            per_network: places,
            untrusted_streams: u32::MAX,
            budget: u64::MAX,
            handshake: u32::MAX,
            first_request: u32::MAX,
            idle: u32::MAX,
            untrusted_idle: u32::MAX,
            answer: u32::MAX,
            all_known: true,
            busy_go_too: false,
        }
    }
}

impl Rules {
    /// How many go when places run out: some at once, so that looking for them is cheap.
    fn share_of(&self, places: usize) -> Share {
        Share { most: (places / CLEARED_AT_ONCE).max(1), busy_too: self.busy_go_too }
    }
}

/// How many connections go at once, and which.
#[derive(Clone, Copy, Debug)]
struct Share {
    most: usize,
    busy_too: bool,
}

impl Common {
    pub(super) fn now(&self) -> u32 {
        self.tick.load(Relaxed)
    }

    pub(super) fn is_over_budget(&self) -> bool {
        self.held() > self.rules.budget
    }

    fn held(&self) -> u64 {
        u64::try_from(self.held.get()).unwrap_or_default()
    }

    pub(super) fn hold(&self, bytes: u64) {
        let before = self.held.inc_by(signed(bytes));
        let before = u64::try_from(before).unwrap_or_default();
        if before <= self.rules.budget && before.saturating_add(bytes) > self.rules.budget {
            self.over.notify_one();
        }
    }

    pub(super) fn let_go(&self, bytes: u64) {
        self.held.dec_by(signed(bytes));
    }

    pub(super) fn note(&self, why: Cut) {
        self.metrics.connection_cut(why.as_str());
    }
}

impl Crowd {
    /// Nobody yet. `gently` ends every connection in order.
    pub(crate) fn new(rules: Rules, metrics: Arc<Metrics>, gently: CancellationToken) -> Arc<Self> {
        let common = Common {
            // 0 stands for "never" in some places.
            tick: AtomicU32::new(1),
            held: metrics.unsent_bytes(rules.port),
            over: Notify::new(),
            pressed: AtomicBool::new(false),
            metrics,
            rules,
        };
        Arc::new(Self { common: Arc::new(common), table: Mutex::default(), gently })
    }

    pub(crate) fn places(&self) -> usize {
        self.common.rules.places
    }

    /// Takes a connection in; `None` when its address has too many, all of them in use.
    pub(crate) fn admit(self: &Arc<Self>, addr: Option<SocketAddr>) -> Option<Place> {
        let network = addr.map(Network::of);
        let rules = &self.common.rules;
        let mut table = self.lock();
        if let Some(network) = network
            && table.networks.get(&network).copied().unwrap_or(0) >= rules.per_network
            && table.evict(rules.share_of(rules.per_network), Some(network), Cut::Address) == 0
        {
            self.common.note(Cut::Address);
            return None;
        }
        table.last_number += 1;
        let number = table.last_number;
        let ending = self.gently.child_token();
        let conduct = Arc::new(Conduct::new(number, network, Arc::clone(&self.common), ending));
        table.all.insert(number, Arc::clone(&conduct));
        table.half_open.insert(number, Arc::clone(&conduct));
        if let Some(network) = network {
            *table.networks.entry(network).or_default() += 1;
        }
        drop(table);
        Some(Place { crowd: Arc::clone(self), conduct })
    }

    /// All places are taken: those go that need theirs least. It goes on at every tick until
    /// [`found_room`](Self::found_room).
    pub(crate) fn make_room(&self) {
        self.common.pressed.store(true, Relaxed);
        let rules = &self.common.rules;
        self.lock().evict(rules.share_of(rules.places), None, Cut::Evicted);
    }

    pub(crate) fn found_room(&self) {
        self.common.pressed.store(false, Relaxed);
    }

    /// Looks after the crowd until its server stops.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut timer = tokio::time::interval(TICK);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.gently.cancelled() => return,
                () = self.common.over.notified() => {}
                _ = timer.tick() => {
                    self.common.tick.fetch_add(1, Relaxed);
                    self.look();
                }
            }
            if self.common.is_over_budget() {
                self.spare_memory();
            }
            if self.common.pressed.load(Relaxed) {
                self.make_room();
            }
        }
    }

    fn look(&self) {
        let rules = &self.common.rules;
        let table = self.lock();
        let pressed = table.half_open.len() > rules.half_open / 2;
        let counts = if pressed { table.half_open_by_network() } else { HashMap::new() };
        let share = rules.half_open / HALF_OPEN_SHARES;
        let patience = |conduct: &Conduct| match counts.get(&conduct.network) {
            Some(count) if *count > share => (rules.handshake / PRESSED).max(1),
            _ => rules.handshake,
        };
        let mut late = LATE_AT_ONCE.max(table.all.len() / LATE_SHARES);
        for conduct in table.all.values() {
            let (rest, stage) = (conduct.rest(), conduct.stage());
            let idle = if conduct.is_known() { rules.idle } else { rules.untrusted_idle };
            match stage {
                Stage::Shaking if rest > patience(conduct) => conduct.cut(Cut::HalfOpen),
                Stage::Silent if rest > rules.first_request => conduct.cut(Cut::Silent),
                Stage::Open if late > 0 && conduct.is_late() => {
                    late -= 1;
                    conduct.cut(Cut::AnswerNotTaken);
                }
                Stage::Open if conduct.is_idle() && rest > idle.saturating_add(ticks(GOODBYE)) => {
                    conduct.cut(Cut::Idle);
                }
                Stage::Open if conduct.is_idle() && rest > idle => conduct.ending.cancel(),
                _ => {}
            }
        }
    }

    /// Ends the connections for which most waits, until a quarter of the budget is free. Those that are known wait for a
    /// bundle all at once when it changes; they go only when far more than the budget waits. What belongs to connections
    /// that were told to end is on its way out, and costs nobody else a place.
    fn spare_memory(&self) {
        let table = self.lock();
        let stays = |conduct: &Conduct| conduct.stage() != Stage::Leaving && conduct.held() > 0;
        let mut heavy: Vec<_> = table.all.values().filter(|conduct| stays(conduct)).collect();
        heavy.sort_by_key(|conduct| (conduct.is_known(), std::cmp::Reverse(conduct.held())));
        let budget = self.common.rules.budget;
        let mut waiting: u64 = heavy.iter().map(|conduct| conduct.held()).sum();
        for conduct in heavy {
            let most = if conduct.is_known() { budget.saturating_mul(KNOWN_SHARE) } else { budget / 4 * 3 };
            if waiting <= most {
                return;
            }
            waiting = waiting.saturating_sub(conduct.held());
            conduct.cut(Cut::Budget);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Ends connections without a credential, of one address if one is given. Answers how many.
    fn evict(&mut self, share: Share, of: Option<Network>, why: Cut) -> usize {
        let crowding = |conduct: &Conduct| {
            conduct.network.and_then(|network| self.networks.get(&network)).copied().unwrap_or(0)
        };
        let stays = |conduct: &Conduct| {
            conduct.is_known()
                || conduct.stage() == Stage::Leaving
                || (!share.busy_too && !conduct.is_idle())
                || of.is_some_and(|of| conduct.network != Some(of))
        };
        let mut going: Vec<_> = self.all.values().filter(|conduct| !stays(conduct)).cloned().collect();
        going.sort_by_cached_key(|conduct| {
            (!conduct.is_idle(), std::cmp::Reverse(crowding(conduct)), conduct.last(), conduct.number)
        });
        going.truncate(share.most);
        for conduct in &going {
            conduct.cut(why);
            self.forget(conduct);
        }
        going.len()
    }

    fn forget(&mut self, conduct: &Conduct) {
        self.half_open.remove(&conduct.number);
        if self.all.remove(&conduct.number).is_none() {
            return;
        }
        if let Some(network) = conduct.network
            && let Some(count) = self.networks.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&network);
            }
        }
    }

    /// How many half-open connections each address has.
    fn half_open_by_network(&self) -> HashMap<Option<Network>, usize> {
        let mut counts = HashMap::new();
        for conduct in self.half_open.values() {
            *counts.entry(conduct.network).or_default() += 1;
        }
        counts
    }
}

impl Place {
    pub(crate) const fn conduct(&self) -> &Arc<Conduct> {
        &self.conduct
    }

    /// The handshake waits for the server now, and not for the client; or for the client again.
    pub(crate) fn computes(&self, computes: bool) {
        self.conduct.enter(if computes { Stage::Computing } else { Stage::Shaking });
    }

    /// The handshake is done.
    pub(crate) fn shaken(&self) {
        self.conduct.enter(Stage::Silent);
        self.crowd.lock().half_open.remove(&self.conduct.number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.lock().forget(&self.conduct);
    }
}
