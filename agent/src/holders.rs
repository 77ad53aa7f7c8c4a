//! The processes that hold secrets of ours, and the durable account of which leaves they may present.
//!
//! A holder goes on with its secrets when the agent restarts, or when its stream ends. So the account survives the
//! agent: an entry is on the disk BEFORE the leaf that it names is handed over, and it goes only when its process is gone
//! or has acknowledged something newer.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host::Disk;
use serde::{Deserialize, Serialize};
use trust::{RootId, Sequence, Serial, SpiffeId, Timestamp, TrustDomain};

use crate::foreign::ForeignSubscription;
use crate::install::{
    HeldLeaf, Installed, LeafSubscription, SubscriptionId, Taking, TrustSubscription,
};
use crate::pods::PodUid;
use crate::process::ProcessId;
use crate::secret_name::{SecretKind, SecretName};
use crate::shares::Owner;

/// One process that holds secrets of ours.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) uid: u32,
    /// The Pod that it runs in, of an agent of a node.
    pub(crate) pod: Option<PodUid>,
    pub(crate) installed: Installed,
    /// Its validation secrets of other trust domains.
    pub(crate) foreign: BTreeMap<SubscriptionId, ForeignSubscription>,
    pub(crate) subscriptions: BTreeMap<SubscriptionId, Subscription>,
    /// Uptime of the agent's machine when it was first seen in this run.
    pub(crate) seen_at: Duration,
}

/// The account of a former run.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) holders: Holders,
    /// Of leaves that end by then this agent says nothing: holders of an account before this one may have them. The end
    /// of time while it is not known what the CA counts from before; the beginning if nothing is.
    pub(crate) silent_until: Timestamp,
}

/// One secret that a holder subscribes to, or did.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) name: SecretName,
    /// The stream it is served on; without one it was served on a stream that ended.
    pub(crate) stream: Option<u64>,
    /// Uptime when its stream ended.
    pub(crate) absent_since: Option<Duration>,
    /// What the holder said when it refused its roots last.
    pub(crate) refusal: String,
}

/// The account on the disk.
#[derive(Debug)]
pub(crate) struct HolderFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    boot: String,
}

/// An account that cannot be read. It is never replaced by an empty one: leaves may be in use that it names.
#[derive(Debug, thiserror::Error)]
pub enum HolderFileError {
    /// The file cannot be read.
    #[error("the account of holders in {} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is there and is not what was written.
    #[error(
        "the account of holders in {} is damaged ({what}); remove it once every process that this agent served has been restarted",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    boot: String,
    #[serde(default)]
    silent_until: i64,
    holders: Vec<StoredHolder>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredHolder {
    pid: i32,
    start: u64,
    uid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    unproven: bool,
    trust: Vec<String>,
    leaves: Vec<StoredSecret>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSecret {
    name: String,
    identity: String,
    may_hold: Vec<StoredLeaf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLeaf {
    serial: String,
    root: String,
    not_after: i64,
    born: u64,
    #[serde(default)]
    promised: bool,
}

/// All holders, by process.
pub(crate) type Holders = BTreeMap<ProcessId, Holder>;

impl Holder {
    /// A process that has shown up.
    pub(crate) fn new(uid: u32, uptime: Duration) -> Self {
        let installed = Installed { trust_expected: true, ..Installed::default() };
        let (subscriptions, foreign) = (BTreeMap::new(), BTreeMap::new());
        Self { uid, pod: None, installed, foreign, subscriptions, seen_at: uptime }
    }

    /// Whose share of the bounds it takes.
    pub(crate) fn owner(&self) -> Owner {
        match &self.pod {
            Some(pod) => Owner::Pod(pod.clone()),
            None => Owner::User(self.uid),
        }
    }

    /// Every leaf that this holder may present.
    pub(crate) fn may_hold(&self) -> impl Iterator<Item = &HeldLeaf> {
        self.installed.leaves.values().flat_map(|secret| &secret.may_hold)
    }

    /// Adds a subscription that has no stream.
    pub(crate) fn subscribe(&mut self, id: SubscriptionId, name: SecretName, uptime: Duration) {
        match &name.kind {
            SecretKind::Leaf(identity) => {
                let secret = LeafSubscription {
                    identity: identity.clone(),
                    may_hold: Vec::new(),
                    installed: None,
                    in_flight: None,
                    refused: None,
                    taking: Taking::No,
                    ready: false,
                };
                self.installed.leaves.insert(id, secret);
            }
            SecretKind::Roots | SecretKind::All => {
                self.installed.trust.insert(id, TrustSubscription::default());
            }
            SecretKind::Foreign(_) => {
                self.foreign.insert(id, ForeignSubscription::default());
                self.installed.believes_others = true;
            }
        }
        let (absent_since, refusal) = (Some(uptime), String::new());
        self.subscriptions.insert(id, Subscription { name, stream: None, absent_since, refusal });
    }

    /// Forgets a subscription.
    pub(crate) fn forget(&mut self, id: SubscriptionId) {
        self.subscriptions.remove(&id);
        self.installed.trust.remove(&id);
        self.installed.leaves.remove(&id);
        self.foreign.remove(&id);
        self.installed.believes_others = !self.foreign.is_empty();
    }

    /// Nobody came back for a secret, while the holder has others up. What it had of a validation secret it may still
    /// use, so that one is missed until it is back.
    pub(crate) fn lose(&mut self, id: SubscriptionId) {
        if self.installed.trust.contains_key(&id)
            && let Some(subscription) = self.subscriptions.get(&id)
        {
            self.installed.lost.insert(subscription.name.text.clone());
        }
        self.forget(id);
    }

    /// The stream of a subscription ended.
    pub(crate) fn detach(&mut self, id: SubscriptionId, uptime: Duration) {
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.stream = None;
            subscription.absent_since = Some(uptime);
        }
        if let Some(secret) = self.installed.trust.get_mut(&id) {
            secret.detach();
        }
        if let Some(secret) = self.installed.leaves.get_mut(&id) {
            secret.detach();
        }
        if let Some(secret) = self.foreign.get_mut(&id) {
            secret.detach();
        }
    }

    /// Says whether something can be pushed to a subscription now.
    pub(crate) fn set_ready(&mut self, id: SubscriptionId, ready: bool) {
        if let Some(secret) = self.installed.trust.get_mut(&id) {
            secret.ready = ready;
        }
        if let Some(secret) = self.installed.leaves.get_mut(&id) {
            secret.ready = ready;
        }
        if let Some(secret) = self.foreign.get_mut(&id) {
            secret.ready = ready;
        }
    }

    /// Whether any of its streams is up.
    pub(crate) fn connected(&self) -> bool {
        self.subscriptions.values().any(|subscription| subscription.stream.is_some())
    }
}

impl HolderFile {
    /// Names the file; reads nothing.
    pub(crate) fn new(disk: Arc<dyn Disk>, state_dir: &Path, boot: String) -> Self {
        Self { disk, path: state_dir.join("holders.json"), boot }
    }

    /// Reads what a former run left; without holders after the machine was booted anew, since no process survives that.
    pub(crate) fn read(
        &self,
        trust_domain: &TrustDomain,
        uptime: Duration,
        mut next_id: impl FnMut() -> SubscriptionId,
    ) -> Result<Account, HolderFileError> {
        let bytes = match self.disk.read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Account {
                    holders: Holders::new(),
                    silent_until: Timestamp::from_secs(i64::MAX),
                });
            }
            Err(source) => return Err(HolderFileError::Io { path: self.path.clone(), source }),
        };
        let damaged = |what: String| HolderFileError::Damaged { path: self.path.clone(), what };
        let stored: Stored =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if stored.format != 1 {
            return Err(damaged(format!("format {} is unknown", stored.format)));
        }
        let silent_until = Timestamp::from_secs(stored.silent_until);
        let mut holders = Holders::new();
        if stored.boot != self.boot {
            return Ok(Account { holders, silent_until });
        }
        for holder in stored.holders {
            let process = ProcessId { pid: holder.pid, start: holder.start };
            let restored =
                restore(holder, trust_domain, uptime, &mut next_id).ok_or_else(|| {
                    damaged(format!("the entry of process {} does not parse", process.pid))
                })?;
            holders.insert(process, restored);
        }
        Ok(Account { holders, silent_until })
    }

    /// The bytes to make durable.
    pub(crate) fn encode(&self, holders: &Holders, silent_until: Timestamp) -> Vec<u8> {
        let one = |(process, holder): (&ProcessId, &Holder)| StoredHolder {
            pid: process.pid,
            start: process.start,
            uid: holder.uid,
            pod: holder.pod.as_ref().map(ToString::to_string),
            unproven: holder.installed.unproven,
            trust: holder.validation_secrets(),
            leaves: holder
                .installed
                .leaves
                .iter()
                .filter_map(|(id, secret)| store(holder, id, secret))
                .collect(),
        };
        let stored = Stored {
            format: 1,
            boot: self.boot.clone(),
            silent_until: silent_until.as_secs(),
            holders: holders.iter().map(one).collect(),
        };
        // Plain text and numbers always have a JSON form.
        serde_json::to_vec_pretty(&stored).unwrap_or_default()
    }

    pub(crate) fn file(&self) -> (Arc<dyn Disk>, PathBuf) {
        (Arc::clone(&self.disk), self.path.clone())
    }
}

impl Holder {
    /// All that it was ever seen to use and did not give up; those that stay away among them.
    fn validation_secrets(&self) -> Vec<String> {
        let (trust, foreign) = (&self.installed.trust, &self.foreign);
        let validates = |id| trust.contains_key(id) || foreign.contains_key(id);
        let served = self.subscriptions.iter().filter(|(id, _)| validates(*id));
        let served = served.map(|(_, subscription)| &subscription.name.text);
        served.chain(&self.installed.lost).cloned().collect()
    }
}

fn store(holder: &Holder, id: &SubscriptionId, secret: &LeafSubscription) -> Option<StoredSecret> {
    let leaf = |leaf: &HeldLeaf| StoredLeaf {
        serial: leaf.serial.to_string(),
        root: leaf.root.to_string(),
        not_after: leaf.not_after.as_secs(),
        born: leaf.born.0,
        promised: leaf.promised,
    };
    Some(StoredSecret {
        name: holder.subscriptions.get(id)?.name.text.clone(),
        identity: secret.identity.to_string(),
        may_hold: secret.may_hold.iter().map(leaf).collect(),
    })
}

fn restore(
    stored: StoredHolder,
    trust_domain: &TrustDomain,
    uptime: Duration,
    next_id: &mut impl FnMut() -> SubscriptionId,
) -> Option<Holder> {
    let mut holder = Holder::new(stored.uid, uptime);
    if let Some(pod) = stored.pod {
        holder.pod = Some(PodUid::parse(&pod)?);
    }
    holder.installed.unproven = stored.unproven;
    // It is no newcomer: which validation secrets it has is known.
    holder.installed.trust_expected = false;
    for text in stored.trust {
        let other = text.strip_prefix("spiffe://").filter(|other| *other != trust_domain.as_str());
        let kind = match other.map(TrustDomain::parse) {
            Some(Ok(other)) => SecretKind::Foreign(other),
            _ if text == "ALL" => SecretKind::All,
            _ => SecretKind::Roots,
        };
        holder.subscribe(next_id(), SecretName { text, kind }, uptime);
    }
    for secret in stored.leaves {
        let identity = SpiffeId::parse(&secret.identity).ok()?;
        (identity.trust_domain() == trust_domain).then_some(())?;
        let id = next_id();
        let name = SecretName { text: secret.name, kind: SecretKind::Leaf(identity) };
        holder.subscribe(id, name, uptime);
        let may_hold = secret.may_hold.iter().map(restore_leaf).collect::<Option<Vec<_>>>()?;
        holder.installed.leaves.get_mut(&id)?.may_hold = may_hold;
    }
    Some(holder)
}

fn restore_leaf(stored: &StoredLeaf) -> Option<HeldLeaf> {
    Some(HeldLeaf {
        serial: serial(&stored.serial)?,
        root: stored.root.parse::<RootId>().ok()?,
        not_after: Timestamp::from_secs(stored.not_after),
        born: Sequence(stored.born),
        promised: stored.promised,
    })
}

fn serial(hex: &str) -> Option<Serial> {
    (hex.len() == 2 * Serial::LEN).then_some(())?;
    Serial::from_bytes(&u128::from_str_radix(hex, 16).ok()?.to_be_bytes())
}

#[cfg(test)]
#[path = "holders_tests.rs"]
mod tests;
