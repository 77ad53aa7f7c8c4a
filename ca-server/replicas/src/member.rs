//! One server among the replicas: how it joins, and how it keeps its lease.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use rotation::ReplicaName;
use stores::{Key, SharedStore, Version, WriteError};
use tokio::sync::Mutex;
use trust::Clock;

use crate::{JoinError, Lease, Lost, ReplicaRow, Standing};

/// Pause between two looks at a row that somebody else may hold, and between two tries of a store that does not answer.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// A lease is renewed so many times before it ends.
const RENEWALS: u32 = 3;

/// Who wants to join.
#[derive(Debug)]
pub struct Joining {
    /// Its name.
    pub name: ReplicaName,
    /// What it says of itself; its beat does not matter.
    pub row: ReplicaRow,
    /// Where all replicas are written.
    pub store: Arc<dyn SharedStore>,
    /// The boot clock.
    pub clock: Arc<dyn Clock>,
    /// Whether no other process can have the store: a former row is of a process that is gone.
    pub is_alone: bool,
}

/// Whether what a server serves is as new as what the store has.
#[async_trait]
pub trait Currency: Send + Sync + Debug {
    /// Reads the store, and compares. `false` when that cannot be known.
    async fn is_current(&self) -> bool;
}

/// This server, as a replica. Clones are the same.
#[derive(Clone, Debug)]
pub struct Member(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: ReplicaName,
    key: Key,
    store: Arc<dyn SharedStore>,
    clock: Arc<dyn Clock>,
    lease: Lease,
    length: Duration,
    /// What the lease is renewed for; until there is something to serve there is none.
    currency: OnceLock<Arc<dyn Currency>>,
    /// The row as it was last written, or shall be written next. Held while it is written: each write needs the version that the
    /// one before came to.
    row: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    row: ReplicaRow,
    version: Version,
}

/// What looking at the row of a name found.
enum Found {
    Ours(Version),
    Over(Version),
    Held { beat: u64, address: Option<String>, lease: Duration, version: Version },
}

impl Member {
    /// Takes the name: at once if nobody has it, if who had it stopped in order or ran on this data directory; otherwise once the
    /// former holder's lease has passed without a renewal. Waits for a store that does not answer.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(joining: Joining) -> Result<Self, JoinError> {
        let key = ReplicaRow::key(&joining.name)?;
        let mut waited: Option<(u64, Duration)> = None;
        loop {
            let sent = joining.clock.uptime();
            let written = match found(&joining, &key).await? {
                None => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    continue;
                }
                Some(None) => joining.store.create(&key, &joining.row.encode()).await,
                Some(Some(Found::Ours(version))) => Ok(version),
                Some(Some(Found::Over(version))) => {
                    joining.store.put(&key, &joining.row.encode(), &version).await
                }
                Some(Some(Found::Held { beat, address, lease, version })) => match waited {
                    Some((seen, _)) if seen != beat => {
                        return Err(JoinError::NameTaken { name: joining.name, address });
                    }
                    Some((_, since)) if joining.clock.uptime().saturating_sub(since) > lease => {
                        joining.store.put(&key, &joining.row.encode(), &version).await
                    }
                    waiting => {
                        if waiting.is_none() {
                            let secs = lease.as_secs_f32();
                            tracing::info!(name = %joining.name, secs, "a process that did not stop in order had this name: waiting for the end of its lease");
                            waited = Some((beat, joining.clock.uptime()));
                        }
                        tokio::time::sleep(LOOK_AGAIN).await;
                        continue;
                    }
                },
            };
            match written {
                Ok(version) => return Ok(Self::of(joining, key, version, sent)),
                // Looked at again, whatever became of it.
                Err(WriteError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, "the store does not take this replica yet");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    fn of(joining: Joining, key: Key, version: Version, sent: Duration) -> Self {
        let Joining { name, row, store, clock, is_alone } = joining;
        let length = row.lease();
        let lease = if is_alone { Lease::unbounded() } else { Lease::new() };
        lease.extend(sent.saturating_add(length));
        let row = Mutex::new(Written { row, version });
        let currency = OnceLock::new();
        Self(Arc::new(Inner { name, key, store, clock, lease, length, currency, row }))
    }

    /// Its lease.
    pub fn lease(&self) -> Lease {
        self.0.lease.clone()
    }

    /// From now on the lease is extended only while this says that what is served is current: others count on it that a server
    /// whose lease holds serves nothing older than the store had a lease ago. The first word counts.
    pub fn serve_only_current(&self, currency: Arc<dyn Currency>) {
        let _ = self.0.currency.set(currency);
    }

    /// Its name.
    pub fn name(&self) -> &ReplicaName {
        &self.0.name
    }

    /// Changes what it says of itself; the next renewal writes it, and one is made at once. A store that does not answer
    /// is no reason to wait: a later renewal writes it.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn say(&self, change: impl FnOnce(&mut ReplicaRow) + Send) -> Result<(), Lost> {
        change(&mut self.0.row.lock().await.row);
        self.renew().await.map(drop)
    }

    /// Renews the lease until the name is lost.
    pub async fn keep(&self) -> Lost {
        let between = self.0.length / (RENEWALS + 1);
        let mut was_held = true;
        loop {
            let pause = match self.renew().await {
                Ok(true) => between,
                Ok(false) => LOOK_AGAIN.min(between),
                Err(lost) => return lost,
            };
            let lease = &self.0.lease;
            let is_held = lease.is_held(self.0.clock.uptime());
            match (was_held, is_held) {
                (true, false) => {
                    let why = lease.trouble().unwrap_or_default();
                    tracing::warn!(why, "the lease of this replica lapsed: it releases nothing");
                }
                (false, true) => tracing::info!("the lease of this replica is held again"),
                _ => {}
            }
            was_held = is_held;
            tokio::time::sleep(pause).await;
        }
    }

    /// Says that it stopped in order, and holds its lease no more. Nothing may be in flight.
    pub async fn leave(&self) {
        self.0.lease.end();
        let left = self.say(|row| row.standing = Standing::Stopped).await;
        if let Err(lost) = left {
            tracing::warn!(%lost, "this replica was none any more when it stopped");
        }
    }

    /// Renews the lease once; `false` if the store did not say that it did, or if what is served is not current.
    ///
    /// # Errors
    /// [`Lost`]: the lease has ended for ever.
    pub async fn renew(&self) -> Result<bool, Lost> {
        let inner = &*self.0;
        let mut written = inner.row.lock().await;
        // The lease is counted from before the store was asked what is current.
        let sent = inner.clock.uptime();
        let is_current = match inner.currency.get() {
            Some(currency) => currency.is_current().await,
            None => true,
        };
        let mut next = written.row.clone();
        next.beat = next.beat.saturating_add(1);
        next.wall_millis = inner.clock.now_millis();
        let error = match inner.store.put(&inner.key, &next.encode(), &written.version).await {
            Ok(version) => {
                *written = Written { row: next, version };
                if is_current {
                    inner.lease.extend(sent.saturating_add(inner.length));
                }
                let stale = "what this server serves is older than the record";
                inner.lease.set_trouble((!is_current).then(|| stale.to_owned()));
                return Ok(is_current);
            }
            Err(error) => error,
        };
        tracing::debug!(%error, "the lease was not renewed");
        inner.lease.set_trouble(Some(error.to_string()));
        // What is there decides, whatever was said of the write.
        match inner.store.get(&inner.key).await {
            Err(_) => Ok(false),
            Ok(None) => Err(self.lost(Lost::Removed { name: inner.name.clone() })),
            Ok(Some(there)) => match ReplicaRow::decode(inner.key.id(), &there.value) {
                Err(unreadable) => Err(self.lost(unreadable.into())),
                Ok(row) if row.holder == next.holder => {
                    written.row.beat = row.beat;
                    written.version = there.version;
                    Ok(false)
                }
                Ok(row) => {
                    Err(self.lost(Lost::Taken { name: inner.name.clone(), address: row.address }))
                }
            },
        }
    }

    fn lost(&self, why: Lost) -> Lost {
        self.0.lease.end();
        why
    }
}

/// Looks at the row of the name. `None` when the store does not answer, `Some(None)` when there is no row.
async fn found(joining: &Joining, key: &Key) -> Result<Option<Option<Found>>, JoinError> {
    let there = match joining.store.get(key).await {
        Ok(there) => there,
        Err(error) => {
            tracing::warn!(%error, "the store does not answer; waiting");
            return Ok(None);
        }
    };
    let Some(there) = there else { return Ok(Some(None)) };
    let row = ReplicaRow::decode(key.id(), &there.value)?;
    let version = there.version;
    let (mine, former) = (row.holder == joining.row.holder, row.place == joining.row.place);
    let is_over = joining.is_alone || former || row.standing == Standing::Stopped;
    Ok(Some(Some(match (mine, is_over) {
        (true, _) => Found::Ours(version),
        (false, true) => Found::Over(version),
        (false, false) => {
            let lease = row.lease();
            Found::Held { beat: row.beat, address: row.address, lease, version }
        }
    })))
}
