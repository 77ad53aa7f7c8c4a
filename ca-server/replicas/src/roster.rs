//! What one server knows of the others, and since when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rotation::ReplicaName;
use stores::spaces::REPLICAS;
use stores::{Hints, ReadError, SharedStore, settle};
use tokio::sync::watch;
use trust::Clock;

use crate::ReplicaRow;
use crate::row::Standing;

/// How often everything is read although nobody said that it changed, and leases are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The other replicas, as far as this one has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// By name; this one is not among them.
    pub peers: BTreeMap<ReplicaName, Peer>,
    /// Rows that nobody can read, one sentence each.
    pub unreadable: Vec<String>,
    /// The uptime at which the store last answered.
    pub read_at: Duration,
}

/// Another replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it says of itself.
    pub row: ReplicaRow,
    /// The uptime at which this server saw its last renewal.
    pub seen_at: Duration,
    /// By how much its wall clock was ahead of ours when a renewal of it was seen, in milliseconds; none until then.
    pub ahead_millis: Option<i64>,
}

impl Peer {
    /// Whether its lease may still be held at this uptime.
    pub fn may_hold(&self, uptime: Duration) -> bool {
        self.row.standing != Standing::Stopped
            && uptime.saturating_sub(self.seen_at) <= self.row.lease()
    }

    /// The uptime at which its lease has passed, unless it is seen to renew it.
    pub fn passes_at(&self) -> Duration {
        self.seen_at.saturating_add(self.row.lease())
    }
}

impl Roster {
    /// Whether `me` does what one of all has to do: no replica with a lesser name may hold its lease.
    pub fn leads(&self, me: &ReplicaName, uptime: Duration) -> bool {
        !self.peers.iter().any(|(name, peer)| name < me && peer.may_hold(uptime))
    }

    /// Who of the others reads the oldest records, and up to which format. Also of those that are silent or stopped: they may
    /// come back as they are.
    pub fn reads_least(&self) -> Option<(&ReplicaName, u32)> {
        let all = self.peers.iter().map(|(name, peer)| (name, peer.row.reads));
        all.min_by_key(|(_, reads)| *reads)
    }

    /// By how much this server's wall clock is away from the middle of all, in milliseconds; none while fewer than two
    /// others tell theirs: of two clocks nobody knows which is right.
    pub fn away_millis(&self, uptime: Duration) -> Option<i64> {
        let live = self.peers.values().filter(|peer| peer.may_hold(uptime));
        let mut ahead: Vec<i64> = live.filter_map(|peer| peer.ahead_millis).collect();
        if ahead.len() < 2 {
            return None;
        }
        ahead.push(0);
        ahead.sort_unstable();
        // Of an even number the one nearer to ours: nobody is fenced by a half.
        let (lower, upper) = (ahead.get((ahead.len() - 1) / 2)?, ahead.get(ahead.len() / 2)?);
        Some(if lower.abs() <= upper.abs() { -lower } else { -upper })
    }

    /// Takes what the store says at this moment.
    fn take(&mut self, read: Read, clock: &dyn Clock) {
        let (uptime, wall) = (clock.uptime(), clock.now_millis());
        let mut peers = BTreeMap::new();
        for (name, row) in read.rows {
            let former = self.peers.remove(&name);
            let peer = match former {
                Some(former) if former.row.beat == row.beat && former.row.holder == row.holder => {
                    Peer { row, ..former }
                }
                // One that was never seen to renew its lease may have done so a moment ago.
                former => Peer {
                    ahead_millis: former.map(|_| row.wall_millis.saturating_sub(wall)),
                    row,
                    seen_at: uptime,
                },
            };
            peers.insert(name, peer);
        }
        *self = Self { peers, unreadable: read.unreadable, read_at: uptime };
    }
}

#[derive(Default)]
struct Read {
    rows: BTreeMap<ReplicaName, ReplicaRow>,
    unreadable: Vec<String>,
}

/// Follows the others until nobody reads the roster any more.
pub async fn watch_roster(
    store: Arc<dyn SharedStore>,
    me: ReplicaName,
    clock: Arc<dyn Clock>,
    told: watch::Sender<Arc<Roster>>,
) {
    let mut roster = Roster::default();
    let mut hints: Option<Hints> = None;
    while !told.is_closed() {
        if hints.is_none() {
            hints = store.watch(REPLICAS).await.ok();
        }
        match read(store.as_ref(), &me).await {
            Ok(read) => {
                roster.take(read, clock.as_ref());
                told.send_replace(Arc::new(roster.clone()));
            }
            Err(error) => tracing::debug!(%error, "the other replicas cannot be read"),
        }
        match &mut hints {
            Some(hints) => {
                tokio::select! {
                    _ = hints.next() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

async fn read(store: &dyn SharedStore, me: &ReplicaName) -> Result<Read, ReadError> {
    let mut found = Read::default();
    for entry in settle::all(store, REPLICAS).await? {
        let row = ReplicaRow::decode(&entry.id, &entry.value);
        match (ReplicaName::parse(&entry.id), row) {
            (Ok(name), Ok(row)) if name != *me => _ = found.rows.insert(name, row),
            (Ok(_), Ok(_)) => {}
            (_, Err(unreadable)) => found.unreadable.push(unreadable.to_string()),
            (Err(_), Ok(_)) => found.unreadable.push(format!(
                "{}/{} is no name of a replica: delete it",
                REPLICAS.name(),
                entry.id
            )),
        }
    }
    Ok(found)
}
