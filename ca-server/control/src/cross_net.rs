//! The second net: while a rotation is under way, the new root as the old one signed it goes out behind the chains of new leaves
//! ([decision 63](../../../docs/decisions/0063-a-second-net.md)).
//!
//! No gate knows of it, and the record has nothing of it: it is a certificate in a space of the shared state, and whether it is sent
//! follows from the record at each moment ([`CrossNet::sent`]). So it is the same at all servers and after a restart, and gone in
//! the same instant in which the old root drains no more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use issuance::ProfileSettings;
use rotation::{Phase, State};
use serde::{Deserialize, Serialize};
use stores::spaces::CROSS_CERTIFICATES;
use stores::{ReadError, SharedStore, Version, settle};
use trust::plain::counted;
use trust::{Certificate, CertificateId, RootId, Timestamp};

use crate::stored;

/// What the ids of requests for cross certificates begin with.
pub(crate) const REQUESTS: &str = "cross.";

/// The root that comes and the one that signs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The root that comes, or signs already.
    pub new: RootId,
    /// The root that goes.
    pub old: RootId,
}

/// Cross certificates, and whether they are sent.
#[derive(Debug)]
pub struct CrossNet {
    is_wanted: bool,
    leaf: ProfileSettings,
    store: Arc<dyn SharedStore>,
    /// Held to look and to note only.
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Those of the store, by the root that was signed.
    kept: BTreeMap<RootId, Kept>,
    /// Why there is none, or none that is sent.
    trouble: Option<String>,
    /// One that does not hold at this server.
    unfit: Option<CertificateId>,
}

/// A cross certificate that was checked and rehearsed.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The root that signed it.
    pub by: RootId,
    /// The certificate.
    pub certificate: Certificate,
    /// What was rehearsed with it, in words.
    pub rehearsed: String,
    /// Which writing it comes from; none before it is written.
    pub version: Option<Version>,
}

/// Its form in the store.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    by: String,
    der: Vec<u8>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    rehearsed: String,
}

/// Who could be signed by whom now. None in an emergency, after a rollback, and from when the old root is withdrawn.
pub fn pair(state: &State) -> Option<Pair> {
    let (from, to) = match &state.phase {
        Phase::Distributing(phase) => (phase.from, phase.to),
        Phase::Canary(phase) => (phase.from, phase.to),
        Phase::Draining(phase) if !phase.rolled_back => (phase.from, phase.to),
        Phase::Uninitialised
        | Phase::Bootstrapping(_)
        | Phase::Steady(_)
        | Phase::Staging(_)
        | Phase::Draining(_)
        | Phase::Withdrawing(_) => return None,
    };
    let stands = |id: &RootId| {
        state.roots.get(id).is_some_and(|entry| entry.state.is_trusted() && !entry.tainted)
    };
    (stands(&from) && stands(&to)).then_some(Pair { new: to, old: from })
}

impl CrossNet {
    /// Over the shared state; without being wanted nothing is asked for and nothing sent.
    pub fn new(is_wanted: bool, leaf: ProfileSettings, store: Arc<dyn SharedStore>) -> Self {
        Self { is_wanted, leaf, store, seen: Mutex::default() }
    }

    /// Whether the configuration asks for it.
    pub const fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// How long one must last to be sent: then it shortens no leaf by more than half, and keeps none from being issued.
    pub fn useful(&self) -> Duration {
        (self.leaf.ttl_max / 2).max(self.leaf.ttl_min * 2)
    }

    /// How long one is asked for, where both roots last longer: what draws out a rotation more than this is renewed for.
    pub fn wanted_life(&self) -> Duration {
        self.leaf.ttl_max * 3
    }

    /// Reads what is in the store.
    ///
    /// # Errors
    /// [`ReadError`]; what was read before stays.
    pub async fn read(&self) -> Result<(), ReadError> {
        let mut kept = BTreeMap::new();
        for entry in settle::all(self.store.as_ref(), CROSS_CERTIFICATES).await? {
            let key = stored::key(CROSS_CERTIFICATES, &entry.id)?;
            let unreadable = |reason: String| ReadError::Unreadable {
                key: key.to_string(),
                reason: format!("{reason}; delete it, or restore a backup"),
            };
            let Form { by, der, rehearsed } = stored::decoded(&key, &entry.value)?;
            let root = entry.id.parse::<RootId>().map_err(|error| unreadable(error.to_string()))?;
            let by = by.parse::<RootId>().map_err(|error| unreadable(error.to_string()))?;
            let certificate =
                Certificate::parse(&der).map_err(|error| unreadable(error.to_string()))?;
            let version = Some(entry.version);
            kept.insert(root, Kept { by, certificate, rehearsed, version });
        }
        self.seen().kept = kept;
        Ok(())
    }

    /// Keeps a certificate of this root, in the place of the one that `former` was read from.
    pub(crate) async fn keep(
        &self,
        root: RootId,
        kept: Kept,
        former: Option<&Version>,
    ) -> Result<(), String> {
        let key = stored::key(CROSS_CERTIFICATES, &root.to_string());
        let key = key.map_err(|error| error.to_string())?;
        let Kept { by, certificate, rehearsed, .. } = &kept;
        let (by, der) = (by.to_string(), certificate.der().to_vec());
        let form = Form { by, der, rehearsed: rehearsed.clone() };
        let value = stored::encoded(&key, &form).map_err(|error| error.to_string())?;
        let written = settle::put(self.store.as_ref(), &key, &value, former).await;
        let version = written.map_err(|error| error.to_string())?;
        self.seen().kept.insert(root, Kept { version: Some(version), ..kept });
        Ok(())
    }

    /// Forgets certificates that are over for everybody: until then whoever has one may show it.
    pub(crate) async fn tidy(&self, now: Timestamp) {
        let skew = self.leaf.backdate * 2;
        let over = |kept: &Kept| kept.certificate.validity().not_after().plus(skew) < now;
        let ended: Vec<_> = self
            .seen()
            .kept
            .iter()
            .filter(|(_, kept)| over(kept))
            .filter_map(|(root, kept)| Some((*root, kept.version.clone()?)))
            .collect();
        for (root, version) in ended {
            let Ok(key) = stored::key(CROSS_CERTIFICATES, &root.to_string()) else { continue };
            // Whoever else forgets it, or wrote another one, was first.
            if settle::delete(self.store.as_ref(), &key, &version).await.is_ok() {
                self.seen().kept.remove(&root);
            }
        }
    }

    /// The one that there is for this pair, however long it lasts.
    pub fn kept(&self, pair: &Pair) -> Option<Kept> {
        self.seen().kept.get(&pair.new).filter(|kept| kept.by == pair.old).cloned()
    }

    /// The one of this root that was there before, whoever signed it.
    pub(crate) fn former(&self, root: &RootId) -> Option<Version> {
        self.seen().kept.get(root).and_then(|kept| kept.version.clone())
    }

    /// What is sent in this state, with leaves of which root: while a root that it is of signs, and it lasts.
    pub fn sent(&self, state: &State, now: Timestamp) -> Option<(RootId, Kept)> {
        let pair = pair(state).filter(|_| self.is_wanted)?;
        let signs = state.roots.get(&pair.new).is_some_and(|entry| entry.state.may_sign());
        let kept = self.kept(&pair).filter(|kept| signs && self.lasts(kept, now))?;
        (self.seen().unfit != Some(kept.certificate.id())).then_some((pair.new, kept))
    }

    /// Whether it is far enough from its end.
    pub(crate) fn lasts(&self, kept: &Kept, now: Timestamp) -> bool {
        kept.certificate.validity().not_after() >= now.plus(self.useful())
    }

    /// It does not hold here, so it is not sent.
    pub(crate) fn unfit(&self, root: RootId, certificate: CertificateId, why: &str) {
        let text = format!("the cross certificate of root {} is not sent: {why}", root.short());
        tracing::error!("{text}");
        let mut seen = self.seen();
        (seen.unfit, seen.trouble) = (Some(certificate), Some(text));
    }

    /// There is none, for this reason; none of both: all is well.
    pub(crate) fn told(&self, trouble: Option<String>) {
        let former = std::mem::replace(&mut self.seen().trouble, trouble.clone());
        if let Some(trouble) = trouble.filter(|trouble| former.as_ref() != Some(trouble)) {
            tracing::warn!("{trouble}");
        }
    }

    /// Why there is none, with what follows.
    pub fn trouble(&self) -> Option<String> {
        self.seen().trouble.clone()
    }

    /// What is wrong, one sentence each.
    pub fn conditions(&self, state: &State, now: Timestamp) -> Vec<String> {
        let trouble = self.trouble().into_iter();
        trouble.chain(self.believed_all_the_same(state, now)).collect()
    }

    /// Roots that are distrusted in this state and vouched for by one that is not, one sentence each.
    pub fn believed_all_the_same(&self, state: &State, now: Timestamp) -> Vec<String> {
        let mut said = Vec::new();
        let seen = self.seen();
        for (root, kept) in &seen.kept {
            let tainted = state.roots.get(root).is_some_and(|entry| entry.tainted);
            let believed = state.roots.get(&kept.by).is_some_and(|entry| entry.state.is_trusted());
            let ends = kept.certificate.validity().not_after();
            if tainted && believed && ends > now {
                let (root, by) = (root.short(), kept.by.short());
                said.push(format!(
                    "root {root} is distrusted, and a cross certificate says in the name of root {by} that it is good: whoever has the key \
                     of root {root} and that certificate is believed by everybody who trusts root {by}, until {ends}; only a \
                     rotation away from root {by}, once no other one is under way, ends that sooner: `banyan rotate start`"
                ));
            }
        }
        said
    }

    /// What there is of it in this state, one sentence each; `shown` is what leaves go out with now.
    pub fn said(&self, state: &State, now: Timestamp, shown: Option<CertificateId>) -> Vec<String> {
        let trouble = self.trouble();
        let Some(pair) = pair(state).filter(|_| self.is_wanted) else { return Vec::new() };
        let Some(kept) = self.kept(&pair) else { return trouble.into_iter().collect() };
        let (new, old) = (pair.new.short(), pair.old.short());
        let ends = kept.certificate.validity().not_after();
        let bytes = counted(kept.certificate.der().len(), "byte", "bytes");
        let rehearsed = &kept.rehearsed;
        let said = match shown {
            Some(shown) if shown == kept.certificate.id() => format!(
                "leaves of root {new} go out with its certificate by root {old}, {bytes} more in each handshake, until root {old} is \
                 withdrawn, or {ends}; {rehearsed}"
            ),
            _ if !self.lasts(&kept, now) => format!(
                "the certificate of root {new} by root {old} ends at {ends}, so leaves go out without it"
            ),
            _ => format!(
                "root {new} has a certificate by root {old} until {ends}, and its leaves will go out with it; {rehearsed}"
            ),
        };
        std::iter::once(said).chain(trouble).collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
