//! Keeps up what other trust domains publish: reads each endpoint when it is due, and tells what is served and what is wrong.
//!
//! Every server tells what is stored; one of them reads the endpoints. What cannot be read, or is not to be believed, changes
//! nothing: the last good bundle stays, in the store that all share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use registry::{AgentRegistry, Checked, FEDERATED_PARTY, FederationRow, ForeignBundle};
use rotation_driver::Duty;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use trust::{Bundle, Clock, Timestamp, TrustDomain};

use crate::endpoint;

/// How often a bundle is read that says nothing of it, and how often ours wants to be unless it is configured.
pub const REFRESH_HINT: Duration = Duration::from_secs(300);
/// Bounds of what a bundle says of that.
const HINTS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(3_600)];
/// How often what is stored is looked at.
const TICK: Duration = Duration::from_millis(500);
/// Wait before an endpoint is read again after a failure; doubled each time.
const AGAIN: Duration = Duration::from_secs(2);
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// A bundle is told as old when it was not read for so many times its hint, where another server reads.
const OLD_AFTER: u32 = 3;

/// Bundles of other trust domains; `None` while they are not known, so that nobody is told that one is gone.
pub type Foreign = Option<Arc<Vec<Bundle>>>;
/// What is wrong, by trust domain, one sentence each.
pub type Troubles = BTreeMap<String, String>;

/// What the work needs.
pub struct Keeper {
    /// Where they are stored.
    pub registry: AgentRegistry,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The trust domain of this CA.
    pub ours: TrustDomain,
    /// Whether this server reads endpoints.
    pub duty: watch::Receiver<Duty>,
    /// What is served.
    pub foreign: watch::Sender<Foreign>,
    /// What is wrong.
    pub troubles: watch::Sender<Troubles>,
}

/// What became of reading one endpoint.
#[derive(Debug, Default)]
struct Attempts {
    asked: Option<FederationRow>,
    under_way: bool,
    /// Uptime from when on it is read again.
    due: Duration,
    pause: Duration,
    failing: Option<(Timestamp, String)>,
}

/// What agents were told, in DER.
type Served = Option<Vec<(String, Vec<Vec<u8>>)>>;
type Rows = Vec<(String, FederationRow)>;
type Look = (String, FederationRow, Result<Checked, String>);

impl Keeper {
    /// Keeps them up until it is dropped.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut attempts, mut looks) =
            (BTreeMap::<String, Attempts>::new(), JoinSet::<Look>::new());
        let mut served: Served = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Some(Ok((domain, asked, became))) = looks.join_next() => {
                    self.ended(&domain, &asked, became, &mut attempts);
                }
            }
            let Some(rows) = self.registry.readable_federations() else { continue };
            self.serve(&rows, &mut served);
            attempts.retain(|domain, _| rows.iter().any(|(known, _)| known == domain));
            if self.duty.borrow().leads {
                self.keep_parties().await;
                for (domain, row) in &rows {
                    self.begin(
                        domain,
                        row,
                        attempts.entry(domain.clone()).or_default(),
                        &mut looks,
                    );
                }
            } else {
                attempts.clear();
            }
            self.tell(&rows, &attempts);
        }
    }

    /// Reads an endpoint if it is due.
    fn begin(
        &self,
        domain: &str,
        row: &FederationRow,
        attempts: &mut Attempts,
        looks: &mut JoinSet<Look>,
    ) {
        let is_other = |asked: &FederationRow| {
            let given = |row: &FederationRow| row.given.clone();
            !asked.asks_like(row) || given(asked) != given(row) || asked.at != row.at
        };
        if attempts.asked.as_ref().is_none_or(is_other) {
            *attempts = Attempts { under_way: attempts.under_way, ..Attempts::default() };
            attempts.asked = Some(row.clone());
        }
        let uptime = self.clock.uptime();
        if attempts.under_way || uptime < attempts.due {
            return;
        }
        let Ok(name) = TrustDomain::parse(domain) else { return };
        if name == self.ours {
            return;
        }
        attempts.under_way = true;
        let (registry, clock, row) = (self.registry.clone(), Arc::clone(&self.clock), row.clone());
        looks.spawn(async move {
            let became = match endpoint::look(&name, &row, &clock).await {
                Ok(read) => take(&registry, &name, &row, read, clock.now()).await,
                Err(why) => Err(why),
            };
            (name.as_str().to_owned(), row, became)
        });
    }

    fn ended(
        &self,
        domain: &str,
        asked: &FederationRow,
        became: Result<Checked, String>,
        attempts: &mut BTreeMap<String, Attempts>,
    ) {
        let Some(attempts) = attempts.get_mut(domain) else { return };
        attempts.under_way = false;
        // What was asked has been changed meanwhile: the new place is asked at once.
        if attempts.asked.as_ref().is_some_and(|now| !now.asks_like(asked)) {
            return;
        }
        let (uptime, now) = (self.clock.uptime(), self.clock.now());
        let rows = self.registry.federations();
        let row = rows.iter().find(|(known, _)| known == domain).map(|(_, row)| row);
        let every = row.map_or(REFRESH_HINT, every);
        match became {
            Ok(checked) => {
                if checked == Checked::Newer {
                    let sequence = row.and_then(|row| row.bundle.as_ref()?.sequence);
                    tracing::info!(domain, sequence, "a new bundle of another trust domain");
                }
                if let Some((since, _)) = attempts.failing.take() {
                    tracing::info!(domain, %since, "the bundle of another trust domain can be read again");
                }
                (attempts.due, attempts.pause) = (uptime + every, Duration::ZERO);
            }
            Err(why) => {
                let pause = (attempts.pause * 2).clamp(AGAIN, AGAIN_MAX.min(every.max(AGAIN)));
                (attempts.due, attempts.pause) = (uptime + pause, pause);
                let (since, known) = attempts.failing.take().unwrap_or((now, String::new()));
                if known != why {
                    tracing::warn!(
                        domain,
                        why,
                        "the bundle of another trust domain cannot be read"
                    );
                }
                attempts.failing = Some((since, why));
            }
        }
    }

    /// Tells agents what there is, if it is something else.
    fn serve(&self, rows: &Rows, served: &mut Served) {
        let stored = rows
            .iter()
            .filter_map(|(domain, row)| Some((domain.clone(), row.bundle.as_ref()?.roots.clone())));
        let stored: Vec<_> = stored.collect();
        if served.as_ref() == Some(&stored) {
            return;
        }
        let all = rows.iter().filter_map(|(domain, row)| {
            let domain = TrustDomain::parse(domain).ok().filter(|domain| *domain != self.ours)?;
            endpoint::bundle(&domain, row.bundle.as_ref()?).ok()
        });
        self.foreign.send_replace(Some(Arc::new(all.collect())));
        *served = Some(stored);
    }

    /// Whoever reads our bundle is waited for: also if somebody removed or changed its relying party.
    async fn keep_parties(&self) {
        for (domain, within) in self.registry.federated_parties_missing() {
            let name = format!("{FEDERATED_PARTY}{domain}");
            let now = self.clock.now();
            match self.registry.add_relying_party(name.clone(), Some(within), None, now).await {
                Ok(_) => tracing::info!(name, "a trust domain that reads our bundle is waited for"),
                Err(error) => tracing::warn!(name, %error, "a relying party could not be added"),
            }
        }
    }

    fn tell(&self, rows: &Rows, attempts: &BTreeMap<String, Attempts>) {
        let now = self.clock.now();
        let wrong = rows.iter().filter_map(|(domain, row)| {
            let failing = attempts.get(domain).and_then(|attempts| attempts.failing.as_ref());
            Some((domain.clone(), self.wrong(domain, row, failing, now)?))
        });
        let wrong: Troubles = wrong.collect();
        self.troubles.send_if_modified(|told| {
            let news = *told != wrong;
            *told = wrong;
            news
        });
    }

    fn wrong(
        &self,
        domain: &str,
        row: &FederationRow,
        failing: Option<&(Timestamp, String)>,
        now: Timestamp,
    ) -> Option<String> {
        if domain == self.ours.as_str() {
            return Some(format!(
                "federation with {domain}: that is the trust domain of this CA itself, so nothing is read or served of it: {}",
                endpoint::ended_by(domain, row)
            ));
        }
        if let Some(bundle) = &row.bundle
            && let Ok(name) = TrustDomain::parse(domain)
            && let Err(why) = endpoint::bundle(&name, bundle)
        {
            return Some(format!(
                "federation with {domain}: {why}; its members are believed by nobody here: give its bundle by hand, {}",
                endpoint::given_by(row)
            ));
        }
        let meanwhile = match &row.bundle {
            Some(bundle) => {
                let sequence = bundle
                    .sequence
                    .map_or("without a sequence".to_owned(), |number| format!("sequence {number}"));
                let right = bundle.checked.unwrap_or(bundle.taken);
                format!(
                    "its last good one ({sequence}), which was right at {right}, is served meanwhile"
                )
            }
            None => "there is none to go by, so nobody here believes its members".to_owned(),
        };
        if let Some((since, why)) = failing {
            return Some(format!(
                "federation with {domain}: its bundle cannot be read since {since}, and {meanwhile}: {why}"
            ));
        }
        let bundle = row.bundle.as_ref()?;
        let right = bundle.checked.unwrap_or(row.at);
        let is_old = now.since(right) > every(row) * OLD_AFTER + AGAIN_MAX;
        is_old.then(|| {
            format!(
                "federation with {domain}: no server of this CA has read its bundle lately, and {meanwhile}: `banyan status` of the others \
                 says why"
            )
        })
    }
}

/// How often the bundle of a domain is read.
pub fn every(row: &FederationRow) -> Duration {
    let hint = row.bundle.as_ref().and_then(|bundle| bundle.refresh_hint);
    let [least, most] = HINTS;
    hint.map_or(REFRESH_HINT, Duration::from_secs).clamp(least, most)
}

async fn take(
    registry: &AgentRegistry,
    domain: &TrustDomain,
    asked: &FederationRow,
    read: ForeignBundle,
    now: Timestamp,
) -> Result<Checked, String> {
    let taken = registry.take_foreign(domain.as_str().to_owned(), asked.clone(), read, now).await;
    match taken {
        Ok(Ok(checked)) => Ok(checked),
        Ok(Err(refused)) => Err(format!(
            "what {} answers is not taken: {refused}; if it is right after all, give it by hand: {}",
            asked.endpoint,
            endpoint::given_by(asked)
        )),
        Err(error) => Err(format!("it could not be stored: {error}")),
    }
}
