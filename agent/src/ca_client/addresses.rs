//! Where the CA is: several addresses, one of which is in use.
//!
//! Stream and calls go to the same place, over one connection: what the server at one end hears of an agent's evidence and what
//! it issues to it then rest on one ledger, and a place that cannot do one of the two is left for both.
//!
//! Names are resolved anew whenever a place is chosen, and each address of a name is a place of its own. Among the places that
//! have not failed lately the choice is random, so that agents spread at the start and those of a server that died spread
//! over all that live. There is no favourite: an agent stays where it is until that place fails or its server sends it away, so a
//! server that returns does not meet a herd.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use trust::randomness::random_bytes;
use trust::{Clock, Randomness, Timestamp};

use super::call_error::{CallError, Way};
use crate::backoff::spread;
use crate::config::CaAddress;
use crate::status::CaAddressStatus;

/// Time for all names to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// A place that failed once is not among the first choices for about so long; the time doubles at each further failure.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A failure that is older than this is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// One address of one configured name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) named: CaAddress,
    /// Where the name led.
    pub(crate) at: SocketAddr,
    /// Which choice this is: another choice of the same address makes a new connection.
    pub(super) choice: u64,
}

/// The CA's addresses, and what is remembered of each.
#[derive(Debug)]
pub(crate) struct Addresses {
    configured: Vec<CaAddress>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    memory: Mutex<Memory>,
    in_use: watch::Sender<Option<Place>>,
}

#[derive(Debug, Default)]
struct Memory {
    failures: BTreeMap<Key, Failure>,
    /// Where the names led when they were last resolved.
    places: Vec<Place>,
    choices: u64,
}

/// A place, or a name that led to none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    address: String,
    at: Option<SocketAddr>,
}

#[derive(Clone, Debug)]
struct Failure {
    count: u32,
    /// Uptime at which it happened, and until which the place is no first choice.
    at: Duration,
    until: Duration,
    way: Way,
    /// The same for people, and why.
    since: Timestamp,
    why: String,
}

impl Place {
    /// What people are told: as configured, and where that led if it is a name.
    pub(crate) fn label(&self) -> String {
        match self.named.address == self.at.to_string() {
            true => self.named.address.clone(),
            false => format!("{} ({})", self.named.address, self.at),
        }
    }

    fn key(&self) -> Key {
        Key { address: self.named.address.clone(), at: Some(self.at) }
    }
}

impl Addresses {
    pub(crate) fn new(
        configured: Vec<CaAddress>,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
    ) -> Self {
        let (memory, in_use) = (Mutex::default(), watch::channel(None).0);
        Self { configured, clock, randomness, memory, in_use }
    }

    /// The place in use; chosen now if there is none.
    pub(crate) async fn place(&self) -> Result<Place, CallError> {
        if let Some(place) = self.in_use.borrow().clone() {
            return Ok(place);
        }
        let found = self.resolved().await;
        let chosen =
            self.choose(found.places, None).ok_or(CallError::Unresolved(found.problems))?;
        // Somebody else may have chosen meanwhile: everybody goes to the same place.
        let mut taken = chosen.clone();
        self.in_use.send_if_modified(|in_use| match in_use {
            Some(place) => {
                taken = place.clone();
                false
            }
            None => {
                *in_use = Some(chosen);
                true
            }
        });
        Ok(taken)
    }

    /// A place beside this one that has not failed lately.
    pub(crate) async fn another(&self, than: &Place) -> Option<Place> {
        let found = self.resolved().await;
        let uptime = self.clock.uptime();
        let chosen = self.choose(found.places, Some(than.at))?;
        self.memory().is_fresh(&chosen.key(), uptime).then_some(chosen)
    }

    /// From now on this place is in use.
    pub(crate) fn move_to(&self, place: &Place) {
        self.in_use.send_replace(Some(place.clone()));
    }

    /// A stream is up: that nobody answered there is forgotten. Whether its server can serve shows when it is asked.
    pub(crate) fn answers(&self, place: &Place) {
        let key = place.key();
        self.memory()
            .failures
            .retain(|other, failure| *other != key || failure.way != Way::NoAnswer);
    }

    /// The server gave a certificate: what was wrong before is forgotten.
    pub(crate) fn serves(&self, place: &Place) {
        self.memory().failures.remove(&place.key());
    }

    /// The place failed: whoever asks next gets another one, or another connection if there is only this one. Of servers that
    /// answer and cannot serve a new connection is made only as often as a place may be tried.
    pub(crate) fn leave(&self, place: &Place, way: Way, why: &str) {
        let uptime = self.clock.uptime();
        let is_worth_it = || {
            let memory = self.memory();
            let mut all = memory.places.iter().chain([place]);
            all.any(|place| memory.is_fresh(&place.key(), uptime))
        };
        if way == Way::CannotServe && !is_worth_it() {
            return;
        }
        self.failed(place.key(), way, why);
        let left = self.in_use.send_if_modified(|in_use| {
            let is_this = in_use.as_ref().is_some_and(|in_use| in_use.choice == place.choice);
            if is_this {
                *in_use = None;
            }
            is_this
        });
        if left && self.configured.len() > 1 {
            tracing::info!(address = place.label(), why, "leaving this address of the CA");
        }
    }

    /// Notes that a place that is not in use failed.
    pub(crate) fn note(&self, place: &Place, why: &str) {
        self.failed(place.key(), Way::NoAnswer, why);
    }

    /// Notes that the server of a place sends agents elsewhere: for about so long it is no first choice.
    pub(crate) fn sent_away(&self, place: &Place, pause: Duration) {
        let why = "its server sends agents elsewhere";
        let mut memory = self.memory();
        let (at, since) = (self.clock.uptime(), self.clock.now());
        let (until, way) = (at + pause.max(PAUSE_MAX), Way::CannotServe);
        let failure = Failure { count: 1, at, until, way, since, why: why.to_owned() };
        memory.failures.insert(place.key(), failure);
    }

    /// Whether a place may be tried at once: one that has not failed lately.
    pub(crate) async fn has_fresh(&self) -> bool {
        let found = self.resolved().await;
        let (uptime, memory) = (self.clock.uptime(), self.memory());
        found.places.iter().any(|place| memory.is_fresh(&place.key(), uptime))
    }

    /// Follows which place is in use.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Place>> {
        self.in_use.subscribe()
    }

    /// What people are told: each configured address, which one is in use, and why others are not.
    pub(crate) fn report(&self) -> Vec<CaAddressStatus> {
        let (memory, in_use) = (self.memory(), self.in_use.borrow().clone());
        let mut told = Vec::new();
        for configured in &self.configured {
            let address = configured.address.clone();
            let used = in_use.iter().filter(|place| place.named.address == address);
            let used = used.map(|place| (Some(place.at), None));
            let failed = memory.failures.iter().filter(|(key, _)| key.address == address);
            let failed = failed
                .filter(|(key, _)| in_use.as_ref().is_none_or(|place| place.key() != **key))
                .map(|(key, failure)| (key.at, Some((failure.since, failure.why.clone()))));
            let rows: Vec<_> = used.chain(failed).collect();
            let nothing = rows.is_empty().then_some((None, None));
            let is_in_use = |at: Option<SocketAddr>| {
                at.is_some() && in_use.as_ref().map(|place| place.at) == at
            };
            told.extend(rows.into_iter().chain(nothing).map(|(at, left)| CaAddressStatus {
                address: address.clone(),
                at: at.map(|at| at.to_string()),
                in_use: left.is_none() && is_in_use(at),
                left_since: left.as_ref().map(|(since, _)| *since),
                left_because: left.map(|(_, why)| why),
            }));
        }
        told
    }

    async fn resolved(&self) -> Resolved {
        let looks = self.configured.iter().map(|configured| async move {
            let look = tokio::net::lookup_host(configured.address.clone());
            let found = tokio::time::timeout(RESOLVE_TIMEOUT, look).await;
            let found = found.map_err(std::io::Error::from).flatten();
            (configured, found.map(|found| found.collect::<Vec<_>>()))
        });
        let mut all = Resolved::default();
        for (configured, found) in join_all(looks).await {
            let problem = match found {
                Ok(found) if !found.is_empty() => {
                    let place = |at| Place { named: configured.clone(), at, choice: 0 };
                    all.places.extend(found.into_iter().map(place));
                    continue;
                }
                Ok(_) => "the name has no address".to_owned(),
                Err(error) => error.to_string(),
            };
            let key = Key { address: configured.address.clone(), at: None };
            self.failed(key, Way::NoAnswer, &problem);
            all.problems.push(format!("{}: {problem}", configured.address));
        }
        self.memory().keep(&all.places, self.clock.uptime());
        all
    }

    /// The best of these: those that have not failed lately, by how often they did, otherwise at random; then whichever may be
    /// tried again first.
    fn choose(&self, found: Vec<Place>, except: Option<SocketAddr>) -> Option<Place> {
        let (uptime, mut memory) = (self.clock.uptime(), self.memory());
        let rank = |place: &Place| {
            let failure = memory.failures.get(&place.key());
            let wait =
                failure.map_or(Duration::ZERO, |failure| failure.until.saturating_sub(uptime));
            let dice = u64::from_be_bytes(random_bytes(self.randomness.as_ref()));
            (wait, failure.map_or(0, |failure| failure.count), dice)
        };
        let others = found.into_iter().filter(|place| Some(place.at) != except);
        let chosen = others.map(|place| (rank(&place), place)).min_by_key(|(rank, _)| *rank);
        memory.choices += 1;
        let choice = memory.choices;
        chosen.map(|(_, place)| Place { choice, ..place })
    }

    fn failed(&self, key: Key, way: Way, why: &str) {
        let (at, since) = (self.clock.uptime(), self.clock.now());
        let mut memory = self.memory();
        let count = memory.failures.get(&key).map_or(0, |failure| failure.count).saturating_add(1);
        let bound = PAUSE.saturating_mul(1 << count.saturating_sub(1).min(16)).min(PAUSE_MAX);
        // Half of it in any case, so that nobody hammers.
        let until = at + bound / 2 + spread(bound / 2, self.randomness.as_ref());
        let why = why.to_owned();
        memory.failures.insert(key, Failure { count, at, until, way, since, why });
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn is_fresh(&self, key: &Key, uptime: Duration) -> bool {
        self.failures.get(key).is_none_or(|failure| failure.until <= uptime)
    }

    /// Keeps what is known of places that are still there, for a while.
    fn keep(&mut self, places: &[Place], uptime: Duration) {
        self.failures.retain(|key, failure| {
            let resolves = places.iter().any(|place| place.named.address == key.address);
            let there = match key.at {
                // What a name led to counts for as long as nothing newer is known of the name.
                Some(at) => !resolves || places.iter().any(|place| place.at == at),
                None => !resolves,
            };
            there && uptime.saturating_sub(failure.at) < FORGET_AFTER
        });
        self.places = places.to_vec();
    }
}

/// What the names lead to now, and those that lead nowhere.
#[derive(Debug, Default)]
struct Resolved {
    places: Vec<Place>,
    problems: Vec<String>,
}

#[cfg(test)]
mod tests {
    use trust::{ManualClock, SeededRandomness};

    use super::*;
    use crate::fakes::NOW;

    fn addresses(seed: u64, all: &[&str]) -> (Addresses, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(NOW));
        let named = |address: &&str| CaAddress {
            address: (*address).to_owned(),
            server_name: "ca".to_owned(),
        };
        let configured = all.iter().map(named).collect();
        let randomness = Arc::new(SeededRandomness::new(seed));
        (Addresses::new(configured, Arc::clone(&clock) as _, randomness), clock)
    }

    const THREE: [&str; 3] = ["127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"];

    #[tokio::test]
    async fn agents_spread_over_all_addresses_at_the_start_and_those_of_a_dead_one_over_the_rest() {
        let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
        for seed in 0..300 {
            let (addresses, _) = addresses(seed, &THREE);
            let place = addresses.place().await.unwrap();
            *first.entry(place.label()).or_insert(0) += 1;
            if place.label() == THREE[0] {
                addresses.leave(&place, Way::NoAnswer, "gone");
                *second.entry(addresses.place().await.unwrap().label()).or_insert(0) += 1;
            }
        }
        assert!(first.len() == 3 && first.values().all(|count| *count > 70), "{first:?}");
        assert!(second.len() == 2 && second.values().all(|count| *count > 25), "{second:?}");
        assert!(!second.contains_key(THREE[0]), "{second:?}");
    }

    #[tokio::test]
    async fn a_dead_address_is_not_tried_first_each_time_and_is_no_favourite_when_it_is_back() {
        let (addresses, clock) = addresses(1, &THREE[..2]);
        let dead = addresses.place().await.unwrap();
        addresses.leave(&dead, Way::NoAnswer, "gone");
        let other = addresses.place().await.unwrap();
        assert_ne!(other.at, dead.at);
        addresses.answers(&other);
        // Its pause is over: it may be tried again, and nobody goes there for that alone.
        clock.advance(Duration::from_secs(120));
        assert!(addresses.has_fresh().await);
        assert_eq!(addresses.place().await.unwrap(), other);
        // One that never failed comes before one that did.
        addresses.leave(&other, Way::NoAnswer, "gone");
        let back = addresses.place().await.unwrap();
        assert_eq!(back.at, dead.at, "the other has just failed");
        addresses.leave(&back, Way::NoAnswer, "gone");
        assert!(!addresses.has_fresh().await, "both have just failed");
        let told = addresses.report();
        assert!(told.iter().all(|row| row.left_because.as_deref() == Some("gone")), "{told:?}");
    }

    #[tokio::test]
    async fn a_place_is_left_once_however_many_calls_failed_there() {
        let (addresses, _) = addresses(2, &THREE);
        let place = addresses.place().await.unwrap();
        addresses.leave(&place, Way::NoAnswer, "gone");
        let next = addresses.place().await.unwrap();
        addresses.leave(&place, Way::NoAnswer, "gone");
        assert_eq!(addresses.place().await.unwrap(), next);
    }

    #[tokio::test]
    async fn a_server_that_cannot_serve_is_left_for_another_and_alone_only_as_often_as_it_may_be_tried()
     {
        let (one, clock) = addresses(6, &THREE[..1]);
        let first = one.place().await.unwrap();
        one.leave(&first, Way::CannotServe, "no lease");
        let second = one.place().await.unwrap();
        assert_ne!(first, second, "another connection: behind a balancer it may lead elsewhere");
        one.answers(&second);
        one.leave(&second, Way::CannotServe, "no lease");
        assert_eq!(one.place().await.unwrap(), second, "not at every call");
        clock.advance(PAUSE);
        one.leave(&second, Way::CannotServe, "no lease");
        assert_ne!(one.place().await.unwrap(), second, "but again after a while");
        let (two, _) = addresses(6, &THREE[..2]);
        let first = two.place().await.unwrap();
        two.leave(&first, Way::CannotServe, "no lease");
        let other = two.place().await.unwrap();
        two.leave(&other, Way::CannotServe, "no lease");
        let last = two.place().await.unwrap();
        two.leave(&last, Way::CannotServe, "no lease");
        assert_eq!(two.place().await.unwrap(), last, "nobody can serve: nobody is hammered");
    }

    #[tokio::test]
    async fn whoever_sends_agents_away_is_gone_to_last() {
        let (addresses, _) = addresses(7, &THREE[..2]);
        let first = addresses.place().await.unwrap();
        let other = addresses.another(&first).await.unwrap();
        assert_ne!(other.at, first.at);
        addresses.sent_away(&first, Duration::from_secs(100));
        addresses.move_to(&other);
        assert_eq!(addresses.another(&other).await, None, "from there nothing leads back");
        assert_eq!(addresses.place().await.unwrap(), other);
    }

    #[tokio::test]
    async fn pauses_grow_to_a_minute_and_never_end_at_once() {
        let (addresses, clock) = addresses(3, &THREE[..1]);
        let mut longest = Duration::ZERO;
        for failure in 0..20_u32 {
            let place = addresses.place().await.unwrap();
            addresses.leave(&place, Way::NoAnswer, "gone");
            let memory = addresses.memory();
            let pause = memory.failures[&place.key()].until - clock.uptime();
            let least = (PAUSE / 2) * 2_u32.pow(failure.min(5));
            assert!(
                pause >= least.min(PAUSE_MAX / 2) && pause <= PAUSE_MAX,
                "{failure}: {pause:?}"
            );
            longest = longest.max(pause);
        }
        assert!(longest > PAUSE_MAX / 2);
    }

    #[tokio::test]
    async fn a_name_that_leads_nowhere_is_told_and_the_others_are_used() {
        let (two, _) = addresses(4, &["no-such-host.invalid:1", "127.0.0.1:1"]);
        assert_eq!(two.place().await.unwrap().label(), "127.0.0.1:1");
        let told = two.report();
        assert!(told[0].left_because.is_some() && !told[0].in_use, "{told:?}");
        assert!(told[1].in_use, "{told:?}");
        let (one, _) = addresses(4, &["no-such-host.invalid:1"]);
        let error = one.place().await.unwrap_err();
        assert!(error.to_string().contains("no-such-host.invalid:1: "), "{error}");
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_a_place() {
        // `localhost` is 127.0.0.1, and ::1 where there is IPv6: what fails is a place, not the name.
        let (addresses, _) = addresses(5, &["localhost:1", "127.0.0.2:1"]);
        let found = addresses.resolved().await.places;
        assert!(found.iter().any(|place| place.named.address == "localhost:1"));
        let label = found[0].label();
        assert!(label.starts_with("localhost:1 (") && label.ends_with(":1)"), "{label}");
    }
}
