//! The loop: commands in, then everything by level.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::Disk;
use proto::banyan::agent::v1 as wire;
use tokio_util::sync::CancellationToken;
use trust::{Bundle, Serial};

use super::command::{Command, OfferError};
use super::state::{Hub, cut};
use crate::bundle_store::{BundleRefused, Verdict};
use crate::install::SubscriptionId;
use crate::process::ProcessId;
use crate::status::Condition;

/// Commands handled before the state is settled and made durable once for all of them.
const BATCH_MAX: usize = 256;
/// How often clocks are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Refusals kept to be told to the CA.
const NACKS_MAX: usize = 64;

impl Hub {
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

    pub(super) async fn handle(&mut self, command: Command) {
        // A requester that has gone away needs no reply.
        match command {
            Command::Open { peer, to, reply } => {
                let opened = self.open(peer, to);
                let number = opened.as_ref().ok().copied();
                if let (Err(_), Some(number)) = (reply.send(opened), number) {
                    self.close(number);
                }
            }
            Command::Heard { stream, heard } => self.heard(stream, &heard),
            Command::Refuse { stream, refusal } => self.end_with(stream, refusal),
            Command::Close { stream } => self.close(stream),
            Command::Fetch { peer, name, reply } => {
                let _ = reply.send(self.fetch(peer, &name).await);
            }
            Command::Offer { offered, reply } => {
                let _ = reply.send(self.offer(offered).await);
            }
            Command::Foreign(offered) => self.heard_of_others(offered),
            Command::Reissue { serials, spread } => self.reissue(&serials, spread),
            Command::Condition(condition, what) => self.condition(condition, what),
            Command::Uplink(up) => {
                if up != self.connected {
                    self.connection_since = self.parts.clock.now();
                }
                self.connected = up;
                if up {
                    self.retry_soon();
                }
                self.doubts_end();
            }
            Command::Doubt { rows, last } => self.doubted(&rows, last),
            Command::Probed(seen) => self.seen = seen,
            Command::Found(found) => self.found = found,
            Command::Counted(counted) => self.counted = counted,
            Command::Revoke(rows) => self.revoke(&rows),
            Command::Lists(word) => self.heard_of_lists(word),
            Command::Farewell { reply } => {
                self.farewell().await;
                let _ = reply.send(());
            }
        }
    }

    pub(super) async fn settle(&mut self) {
        self.end_streams_of_gone_pods();
        self.expire();
        self.drop_idle();
        self.shed();
        self.resolve_doubts();
        self.store_foreign().await;
        self.look_for_missing();
        self.look_at_lists().await;
        self.push().await;
        self.request_leaves();
        if self.holders_dirty {
            self.persist_holders().await;
        }
        self.publish();
    }

    /// Judges a bundle, makes it durable and only then puts it in force.
    pub(super) async fn offer(
        &mut self,
        offered: Result<Bundle, BundleRefused>,
    ) -> Result<(), OfferError> {
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
        let (disk, path) = self.parts.store.file();
        let stored = replace(disk, path, bytes).await;
        self.condition(
            Condition::BundleNotStored,
            stored.as_ref().err().map(|error| {
                format!("the bundle cannot be stored: {error}; make room on the disk")
            }),
        );
        stored.map_err(OfferError::NotDurable)?;
        self.parts.store.adopt(history);
        self.condition(Condition::BundleRefused, None);
        tracing::info!(sequence = newer.sequence().0, digest = %newer.digest(), "bundle in force");
        self.parts.publish.trust.send_replace(Some(newer));
        Ok(())
    }

    /// Makes the account of holders durable; says whether it is.
    pub(super) async fn persist_holders(&mut self) -> bool {
        let bytes = self.parts.holder_file.encode(&self.holders, self.silent_until);
        let (disk, path) = self.parts.holder_file.file();
        let stored = replace(disk, path, bytes).await;
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

    pub(super) fn condition(&mut self, condition: Condition, what: Option<String>) {
        match what {
            Some(what) => {
                if self.told.is_news(condition, &what) {
                    tracing::warn!(condition = condition.name(), what);
                }
                self.conditions.insert(condition, what);
            }
            None => {
                self.told.over(condition);
                if self.conditions.remove(&condition).is_some() {
                    tracing::info!(condition = condition.name(), "no longer");
                }
            }
        }
    }

    /// Notes a refusal; without serial it is the agent itself that refused.
    pub(super) fn nack(&mut self, serial: Option<Serial>, sequence: trust::Sequence, reason: &str) {
        let own = || self.parts.credential.borrow().as_ref().map(|leaf| leaf.held().serial);
        let serial =
            serial.or_else(own).map(|serial| serial.as_bytes().to_vec()).unwrap_or_default();
        let reason = cut(reason);
        self.nacks.total += 1;
        let nack = wire::Nack { serial, sequence: sequence.0, reason };
        self.nacks.recent.push_back((self.nacks.total, nack));
        if self.nacks.recent.len() > NACKS_MAX {
            self.nacks.recent.pop_front();
        }
    }

    pub(super) fn watch(&mut self, process: ProcessId) {
        let gone = self.parts.processes.gone(process);
        let watch = self.watching.spawn(async move {
            gone.await;
            process
        });
        self.watches.insert(process, watch);
    }

    pub(super) fn unwatch(&mut self, process: ProcessId) {
        if let Some(watch) = self.watches.remove(&process) {
            watch.abort();
        }
    }

    pub(super) fn gone(&mut self, process: ProcessId) {
        self.unwatch(process);
        let streams: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.holder == process)
            .map(|(id, _)| *id)
            .collect();
        for stream in streams {
            self.streams.remove(&stream);
        }
        if self.holders.remove(&process).is_some() {
            tracing::info!(pid = process.pid, "holder is gone");
            self.holders_dirty = true;
        }
    }

    pub(super) fn sequence(&self) -> trust::Sequence {
        self.parts.store.current().map(Bundle::sequence).unwrap_or_default()
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn next_subscription(&mut self) -> SubscriptionId {
        SubscriptionId(self.next_id())
    }
}

/// Writes a file where blocking does no harm.
pub(super) async fn replace(
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bytes: Vec<u8>,
) -> std::io::Result<()> {
    let write = move || disk.replace(&path, &bytes, 0o600);
    tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)?
}
