//! The registry as one view in memory over the shared store: what it is made of, and how it is read.
//!
//! Rows are read at the start and stay in memory ([`follow`](crate::follow)); they change key by key in the store, and then here
//! ([`change`](crate::change)). Reading never waits for the store: while it is away everything that was known is answered, and
//! nothing can be changed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use stores::{HintSender, SharedStore};
use tokio::sync::Semaphore;
use trust::Clock;

use crate::cache::{Cache, Write};
use crate::pace::Pace;
use crate::row::{Kind, Row};
use crate::rows::Seen;
use crate::sessions::Sessions;

/// Changes of this server that are under way at once; others wait for a place. What is bounded by a count of rows may be passed
/// by so many for each server.
const CHANGES_MAX: usize = 16;

/// The registry as one server sees it. Clones are the same registry.
#[derive(Clone)]
pub struct AgentRegistry(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn SharedStore>,
    pub(crate) membership: Membership,
    time: Mutex<Served>,
    /// Agents that were seen since their rows were written. Locked for map work only, after `cache` where both are.
    pub(crate) seen: Mutex<HashMap<String, Seen>>,
    /// How fast JWT callers may register new keys.
    pub(crate) pace: Pace,
    /// Places for changes that are under way.
    pub(crate) changes: Arc<Semaphore>,
    /// Locked for map work only.
    cache: RwLock<Cache>,
    /// Where to say which keys are to be read again.
    doubts: Vec<(Kind, HintSender)>,
    /// Why the last write failed.
    unwritten: Mutex<Option<String>>,
}

/// The time that servers have served this registry, in seconds. Each server counts from what it read, and goes on with a longer
/// time that it hears of: so it is the longest count of any server, and not the sum of those that serve at once.
#[derive(Debug, Clone, Copy, Default)]
struct Served {
    /// What counts in addition to the uptime.
    before: u64,
    /// The uptime at the start.
    uptime: Duration,
    /// What it was when this process had read everything.
    opened: u64,
}

/// The bounds of the registry.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Agents that may be registered. A tenth is kept for join tokens.
    pub max: usize,
    /// Agents that one JWT caller may have, and new keys that it may register within an hour.
    pub per_caller: usize,
    /// An agent that was not seen for so long is forgotten.
    pub forget_after: Duration,
    /// An agent that was not seen for so long has no certificate that lives.
    pub idle_after: Duration,
}

#[cfg(test)]
impl Limits {
    pub(crate) const fn bounded(max: usize, per_caller: usize) -> Self {
        let (forget_after, idle_after) =
            (Duration::from_secs(31 * 86_400), Duration::from_secs(86_400));
        Self { max, per_caller, forget_after, idle_after }
    }
}

#[cfg(test)]
impl Default for Limits {
    fn default() -> Self {
        Self::bounded(100_000, 16)
    }
}

/// What the registry asks about agents, and the bounds that it keeps.
#[derive(Debug, Clone)]
pub struct Membership {
    /// The name of this server among those that share the registry.
    pub replica: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who is connected.
    pub sessions: Sessions,
    /// The bounds.
    pub limits: Limits,
}

impl Served {
    fn at(&self, uptime: Duration) -> u64 {
        self.before.saturating_add(uptime.saturating_sub(self.uptime).as_secs())
    }

    fn go_on_from(&mut self, heard: u64, uptime: Duration) {
        self.before = self.before.saturating_add(heard.saturating_sub(self.at(uptime)));
    }
}

impl AgentRegistry {
    /// The connections of agents, as far as they are known.
    pub fn sessions(&self) -> Sessions {
        self.0.membership.sessions.clone()
    }

    /// Whether the last write failed, so that no agent can join until the store takes one again.
    pub fn is_broken(&self) -> bool {
        self.0.unwritten().is_some()
    }

    /// Tries to write after a failed write, and says whether the store takes writes now.
    pub async fn probe(&self) -> bool {
        let served = self.0.now().served;
        let probe = move |tables: &Cache| {
            let served = served.max(tables.served);
            Ok((vec![Write::confirming(Row::Served(Some(served)))], ()))
        };
        self.change(probe).await.is_ok()
    }

    /// What is wrong with the store or with rows in it, and what to do, one sentence each.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if let Some(reason) = self.0.unwritten() {
            troubles.push(format!(
                "the registry of agents cannot be written, so no agent can join: {reason}; it is tried again every few seconds"
            ));
        }
        let cache = self.read();
        if let Some(reason) = cache.behind() {
            troubles.push(format!(
                "the registry of agents cannot be read again, so what other servers change in it, bans among it, is not seen here: \
                 {reason}; it is tried again every few seconds"
            ));
        }
        troubles.extend(cache.unreadable());
        troubles
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Cache> {
        self.0.read()
    }
}

impl Inner {
    pub(crate) fn new(
        store: Arc<dyn SharedStore>,
        membership: Membership,
        doubts: Vec<(Kind, HintSender)>,
    ) -> Self {
        let time = Served { uptime: membership.clock.uptime(), ..Served::default() };
        let pace = Pace::new(membership.limits.per_caller);
        Self {
            store,
            membership,
            time: Mutex::new(time),
            seen: Mutex::default(),
            pace,
            changes: Arc::new(Semaphore::new(CHANGES_MAX)),
            cache: RwLock::default(),
            doubts,
            unwritten: Mutex::default(),
        }
    }

    /// Notes that everything has been read.
    pub(crate) fn note_opened(&self) {
        let served = self.now().served;
        self.time().opened = served;
    }

    /// The time served when this process had read everything, and the time since.
    pub(crate) fn since_opened(&self) -> (u64, Duration) {
        let (time, uptime) = (*self.time(), self.membership.clock.uptime());
        (time.opened, uptime.saturating_sub(time.uptime))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Cache> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lock(&self) -> RwLockWriteGuard<'_, Cache> {
        self.cache.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// This moment.
    pub(crate) fn now(&self) -> Seen {
        let clock = &self.membership.clock;
        let served = self.time().at(clock.uptime());
        Seen { at: clock.now(), served }
    }

    /// Goes on after rows were taken over: with the longest time served that they tell of, and with agents that may call no more,
    /// which are judged again. Those that are gone and not connected are forgotten.
    pub(crate) fn took(&self, judged: &[String]) {
        let (heard, uptime) = (self.read().heard, self.membership.clock.uptime());
        self.time().go_on_from(heard, uptime);
        for agent in judged {
            self.membership.sessions.judge_again(agent);
            if !self.read().agents.contains_key(agent) {
                self.membership.sessions.forget(agent);
            }
        }
    }

    /// Has a key read again as soon as the store answers.
    pub(crate) fn doubt(&self, kind: Kind, id: &str) {
        let of_kind = self.doubts.iter().find(|(other, _)| *other == kind);
        of_kind.into_iter().for_each(|(_, doubts)| doubts.at(id));
    }

    /// Notes how a write ended.
    pub(crate) fn wrote(&self, failed: Option<String>) {
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        if let (None, Some(reason)) = (unwritten.as_ref(), failed.as_ref()) {
            tracing::error!(
                reason,
                "the registry could not be written; no agent can join until it can"
            );
        }
        *unwritten = failed;
    }

    fn unwritten(&self) -> Option<String> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn time(&self) -> MutexGuard<'_, Served> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AgentRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentRegistry")
            .field("agents", &self.read().agents.len())
            .finish_non_exhaustive()
    }
}
