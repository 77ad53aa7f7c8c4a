//! All connections of one port: who gets a place, who has had it for too long, and who goes when places are needed.
//!
//! Nobody is turned away because others sit idle: when the port is full, those go first that have shown no credential and
//! have nothing under way, the oldest of the address with the most connections first. The rules of a port are its
//! [`Rules`]; one task of each crowd looks at all of it every `TICK`.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::common::Common;
use crate::conduct::{Conduct, Network, Stage};
use crate::cut::Cut;
use crate::meter::Meter;
use crate::rules::{Rules, Share, TICK, ticks};

/// Time that an idle connection has to end in order.
const GOODBYE: Duration = Duration::from_secs(5);
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

/// The connections of one port.
#[derive(Debug)]
pub struct Crowd {
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
pub struct Place {
    crowd: Arc<Crowd>,
    conduct: Arc<Conduct>,
}

impl Crowd {
    /// Nobody yet. `gently` ends every connection in order.
    pub fn new(rules: Rules, meter: Arc<dyn Meter>, gently: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            common: Arc::new(Common::new(rules, meter)),
            table: Mutex::default(),
            gently,
        })
    }

    /// How many connections there may be.
    pub fn places(&self) -> usize {
        self.common.rules.places
    }

    /// Takes a connection in; `None` when its address has too many, all of them in use.
    pub fn admit(self: &Arc<Self>, addr: Option<SocketAddr>) -> Option<Place> {
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

    /// There are places again.
    pub(crate) fn found_room(&self) {
        self.common.pressed.store(false, Relaxed);
    }

    /// Looks after the crowd until its server stops.
    pub async fn watch(self: Arc<Self>) {
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
            let most = if conduct.is_known() {
                budget.saturating_mul(KNOWN_SHARE)
            } else {
                budget / 4 * 3
            };
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
        let mut going: Vec<_> =
            self.all.values().filter(|conduct| !stays(conduct)).cloned().collect();
        going.sort_by_cached_key(|conduct| {
            (
                !conduct.is_idle(),
                std::cmp::Reverse(crowding(conduct)),
                conduct.last(),
                conduct.number,
            )
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
    /// How the connection behaves.
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
