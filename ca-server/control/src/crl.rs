//! Certificate revocation lists, where the configuration asks for them: who is on them, who signs them, and who has them.
//!
//! Each issuer of this server whose leaves may live has a list, signed with its own key. All lists are signed together, under one
//! number, at each change and every so often; agents give them to their holders together with roots. What can go wrong with lists is
//! worse than what they are good for: a verifier that has any asks for one of each issuer, in time, and refuses everybody else. So
//! agents hear for which roots the lists are complete, keep them for a short time only without hearing it again, and do without
//! otherwise; and an issuer whose list is new signs only once nobody can have lists without it ([`Crl::may_begin`]).
//!
//! It is no evidence of a rotation: no gate depends on it.

mod coverage;
mod entries;
pub mod holders;
pub mod keeper;
mod numbers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use issuance::crl::Revoked;
use tokio::sync::{Notify, watch};
use trust::{CertificateId, RootId, Serial, Timestamp};

/// How much longer than agents keep lists a new issuer waits: for what is under way to holders.
const MARGIN: Duration = Duration::from_secs(2);
/// Leaves that are remembered with what their holders have.
const APPLIED_MAX: usize = 1_000_000;

/// How lists are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlSettings {
    /// How often they are signed again, though nothing changed.
    pub every: Duration,
    /// How long each is valid.
    pub lifetime: Duration,
    /// How long an agent that hears nothing keeps them.
    pub keep: Duration,
    /// How far clocks may be apart.
    pub skew: Duration,
}

/// The list of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerList {
    /// The issuer.
    pub issuer: CertificateId,
    /// Its root.
    pub root: RootId,
    /// Who is on it.
    pub listed: Vec<(Serial, Revoked)>,
    /// From when on it is valid.
    pub this_update: Timestamp,
    /// When it is over.
    pub next_update: Timestamp,
    /// The list.
    pub der: Vec<u8>,
}

/// All lists, as they were signed last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// The number of all of them; 0 before the first.
    pub number: u64,
    /// The number with which entries or issuers changed last.
    pub changed_number: u64,
    /// When that was.
    pub changed_at: Timestamp,
    /// When they were signed.
    pub signed_at: Timestamp,
    /// One of each issuer.
    pub lists: Vec<IssuerList>,
    /// Roots below which each issuer has one, and nobody else issues.
    pub roots: BTreeSet<RootId>,
    /// Why agents do without, one sentence.
    pub without: Option<String>,
}

/// The lists of a running CA.
#[derive(Debug)]
pub struct Crl {
    settings: Option<CrlSettings>,
    lists: watch::Sender<Arc<Lists>>,
    wake: Notify,
    /// Held to look and to note only.
    applied: Mutex<BTreeMap<Serial, Applied>>,
    begun: Mutex<BTreeMap<CertificateId, Begun>>,
}

/// What the holders of a leaf have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Applied {
    number: u64,
    at: Timestamp,
}

/// Since when an issuer has a list that agents have, or is waited for to have one, by uptime.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    /// It was among the first lists of this process: agents may have them from a former one.
    from_start: bool,
    told: Option<Duration>,
    asked: Option<Duration>,
}

impl Crl {
    /// None without settings.
    pub fn new(settings: Option<CrlSettings>) -> Self {
        Self {
            settings,
            lists: watch::channel(Arc::default()).0,
            wake: Notify::new(),
            applied: Mutex::default(),
            begun: Mutex::default(),
        }
    }

    /// How they are kept, if they are.
    pub const fn settings(&self) -> Option<CrlSettings> {
        self.settings
    }

    /// Somebody was revoked, banned or let go: looked at now and not at the next tick.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The lists of this moment.
    pub fn lists(&self) -> Arc<Lists> {
        Arc::clone(&self.lists.borrow())
    }

    /// The lists at each change.
    pub fn watch(&self) -> watch::Receiver<Arc<Lists>> {
        self.lists.subscribe()
    }

    /// Whether an issuer that takes the place of another under the same root may sign by now: once everybody who has lists has its own
    /// among them, or has none any more. Where its list does not come it is not waited for without end.
    pub fn may_begin(&self, issuer: &CertificateId, uptime: Duration) -> bool {
        let Some(settings) = self.settings else { return true };
        let lead = settings.keep + MARGIN;
        let mut begun = lock(&self.begun);
        if begun.values().all(|begun| begun.told.is_none() && !begun.from_start) {
            // Nobody was told any list.
            return true;
        }
        let begun = begun.entry(*issuer).or_default();
        let asked = *begun.asked.get_or_insert(uptime);
        let is_past = |since: Duration, wait: Duration| uptime.saturating_sub(since) >= wait;
        begun.from_start
            || begun.told.is_some_and(|told| is_past(told, lead))
            || is_past(asked, lead * 2)
    }

    /// Puts lists in force.
    fn publish(&self, lists: Lists, uptime: Duration) {
        if lists.without.is_none() {
            let mut begun = lock(&self.begun);
            let is_first = begun.values().all(|begun| begun.told.is_none());
            begun.retain(|issuer, begun| {
                begun.told.is_none() || lists.lists.iter().any(|list| list.issuer == *issuer)
            });
            for list in &lists.lists {
                let begun = begun.entry(list.issuer).or_default();
                begun.told.get_or_insert(uptime);
                begun.from_start |= is_first && begun.asked.is_none();
            }
        }
        self.lists.send_replace(Arc::new(lists));
    }

    /// An agent says what the holders of a leaf of its own have.
    pub fn heard(&self, serial: Serial, number: u64, at: Timestamp) {
        let mut applied = lock(&self.applied);
        if applied.len() < APPLIED_MAX || applied.contains_key(&serial) {
            // `since` is when this began to be so.
            let same = applied.get(&serial).filter(|former| former.number == number).copied();
            applied.insert(serial, same.unwrap_or(Applied { number, at }));
        }
    }

    fn applied(&self, serial: &Serial) -> Option<Applied> {
        lock(&self.applied).get(serial).copied()
    }

    /// Forgets leaves that are over.
    fn forget(&self, is_over: impl Fn(&Serial) -> bool) {
        lock(&self.applied).retain(|serial, _| !is_over(serial));
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(60);

    fn crl() -> Crl {
        let day = Duration::from_secs(86_400);
        let settings = CrlSettings { every: day, lifetime: day, keep: KEEP, skew: Duration::ZERO };
        Crl::new(Some(settings))
    }

    fn lists(issuers: &[CertificateId]) -> Lists {
        let list = |issuer: &CertificateId| IssuerList {
            issuer: *issuer,
            root: RootId::of(b"root"),
            listed: Vec::new(),
            this_update: Timestamp::default(),
            next_update: Timestamp::default(),
            der: Vec::new(),
        };
        Lists { number: 1, lists: issuers.iter().map(list).collect(), ..Lists::default() }
    }

    #[test]
    fn a_new_issuer_begins_once_nobody_can_have_lists_without_it() {
        let (one, two) = (CertificateId::of(b"one"), CertificateId::of(b"two"));
        let (crl, at) = (crl(), |seconds| Duration::from_secs(seconds));
        assert!(crl.may_begin(&one, at(0)), "nobody has lists");
        crl.publish(lists(&[one]), at(1));
        assert!(crl.may_begin(&one, at(1)), "it signed before");
        assert!(!crl.may_begin(&two, at(2)));
        crl.publish(lists(&[one, two]), at(10));
        assert!(!crl.may_begin(&two, at(71)));
        assert!(crl.may_begin(&two, at(72)), "who did not hear of it has none any more");
    }

    #[test]
    fn an_issuer_whose_list_does_not_come_is_not_waited_for_without_end() {
        let (one, two) = (CertificateId::of(b"one"), CertificateId::of(b"two"));
        let (crl, at) = (crl(), |seconds| Duration::from_secs(seconds));
        crl.publish(lists(&[one]), at(1));
        assert!(!crl.may_begin(&two, at(2)) && !crl.may_begin(&two, at(125)));
        assert!(crl.may_begin(&two, at(126)));
        assert!(Crl::new(None).may_begin(&two, at(2)));
    }
}
