//! The task that signs the lists: at each change, every so often, and with a number that is durable first.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host::Disk;
use issuance::crl::{ListFields, ListIssuer};
use plugins::{KeyBackend, KeyId};
use rotation::State;
use tokio::time::MissedTickBehavior;
use trust::{Certificate, CertificateId, RootId, Timestamp};

use super::coverage::{self, Faults};
use super::entries::{Entries, Words};
use super::numbers::Numbers;
use super::{CrlSettings, IssuerList, Lists};
use crate::ca::Ca;
use crate::levels::Level;

/// How often it is looked whether anything changed that nobody told.
const TICK: Duration = Duration::from_secs(1);
/// After a change rows are looked at once more: a request may have been under way that was let in before.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Bytes of all lists together; an agent takes messages of 4 MiB.
const BYTES_MAX: usize = 2 << 20;

/// Keeps the lists.
#[derive(Debug)]
pub struct CrlKeeper {
    ca: Arc<Ca>,
    settings: CrlSettings,
    keys: Arc<dyn KeyBackend>,
    numbers: Numbers,
    issuers: BTreeMap<CertificateId, ListIssuer>,
    words: Words,
    entries: Entries,
    /// Uptime at which rows are looked at once more.
    again: Option<Duration>,
}

/// What it works with.
#[derive(Debug)]
pub struct KeeperParts {
    /// The keys of issuers.
    pub keys: Arc<dyn KeyBackend>,
    /// Where the number is stored.
    pub disk: Arc<dyn Disk>,
    /// In this file.
    pub path: PathBuf,
}

/// What lists are to be signed of: who is on them, by issuer.
type Wanted = Vec<(RootId, CertificateId, usize)>;

impl CrlKeeper {
    /// Of this CA; nothing where its configuration asks for no lists.
    pub fn of(ca: &Arc<Ca>, parts: KeeperParts) -> Option<Self> {
        let settings = ca.crl.settings()?;
        let KeeperParts { keys, disk, path } = parts;
        Some(Self {
            ca: Arc::clone(ca),
            settings,
            keys,
            numbers: Numbers::new(disk, path),
            issuers: BTreeMap::new(),
            words: Words::default(),
            entries: Entries::default(),
            again: Some(Duration::ZERO),
        })
    }

    /// Works until it is dropped.
    pub async fn run(mut self) {
        let mut changes = self.ca.driver.changes();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ca = Arc::clone(&self.ca);
            tokio::select! {
                _ = ticks.tick() => {}
                () = ca.crl.wake.notified() => {}
                changed = changes.changed() => if changed.is_err() { return },
            }
            if self.ca.levels.is_due(Level::RevocationLists, self.ca.clock.as_ref()) {
                self.look().await;
            }
        }
    }

    async fn look(&mut self) {
        // What is valid from when to when must not rest on a clock that is not believed; what was signed stays.
        let Ok(now) = self.ca.clock.agreed() else { return };
        let (now, uptime) = (now.wall, self.ca.clock.uptime());
        let words = Words::of(&self.ca, now);
        let news = words != self.words;
        if news || self.again.is_some_and(|again| uptime >= again) {
            self.entries = Entries::of(&self.ca, &words, now).await;
            self.again = match self.entries.waits {
                true => Some(uptime),
                false => news.then(|| uptime + LOOK_AGAIN),
            };
            self.words = words;
        }
        self.entries.expire(now);
        match self.bring_about(now).await {
            Ok(()) => self.ca.levels.reached(Level::RevocationLists),
            Err(error) => {
                self.ca.levels.failed(Level::RevocationLists, &error, self.ca.clock.as_ref());
            }
        }
    }

    async fn bring_about(&mut self, now: Timestamp) -> std::io::Result<()> {
        let state = self.ca.driver.state();
        let former = self.ca.crl.lists();
        let wanted = coverage::wanted(&state, now);
        self.issuers.retain(|issuer, _| wanted.iter().any(|(_, one)| one == issuer));
        let mut faults = Faults::new();
        for (root, issuer) in &wanted {
            if let Err(why) = self.learn(&state, root, issuer).await {
                faults.insert(*issuer, why);
            }
        }
        let (roots, mut without) = coverage::covered(&self.ca, &state, &faults, now);
        let signs: Wanted = wanted
            .into_iter()
            .filter(|(_, issuer)| self.issuers.contains_key(issuer))
            .map(|(root, issuer)| (root, issuer, self.entries.of_issuer(&issuer).len()))
            .collect();
        let changed = self.has_changed(&former, &signs);
        let age = now.since(former.signed_at);
        let due = changed || age >= self.settings.every || now < former.signed_at;
        if !due && former.roots == roots && former.without == without {
            return Ok(());
        }
        if !due {
            let lists = Lists { roots, without, ..Lists::clone(&former) };
            self.told(&former, lists);
            return Ok(());
        }
        let number = self.numbers.next(now).await?;
        let mut lists = Vec::new();
        for (root, issuer, _) in &signs {
            match self.signed(number, *root, *issuer, now).await {
                Ok(list) => lists.push(list),
                Err(error) => {
                    let why = format!("issuer {}: {error}", issuer.short());
                    without = without.or(Some(why));
                }
            }
        }
        let bytes: usize = lists.iter().map(|list| list.der.len()).sum();
        if bytes > BYTES_MAX {
            without = without.or_else(|| {
                Some(format!(
                    "the lists have {bytes} bytes, and agents take {BYTES_MAX}: ban fewer leaves at a time, or `banyan root distrust` ends all \
                     of a root"
                ))
            });
        }
        let (changed_number, changed_at) = match changed {
            true => (number, now),
            false => (former.changed_number, former.changed_at),
        };
        let lists =
            Lists { number, changed_number, changed_at, signed_at: now, lists, roots, without };
        self.told(&former, lists);
        let ledger = Arc::clone(&self.ca.ledger);
        self.ca.crl.forget(|serial| ledger.find(serial).is_none());
        Ok(())
    }

    /// Whether other issuers have lists, or others are on them.
    fn has_changed(&self, former: &Lists, signs: &Wanted) -> bool {
        let same = former.lists.len() == signs.len()
            && former.lists.iter().zip(signs).all(|(list, (root, issuer, _))| {
                list.issuer == *issuer
                    && list.root == *root
                    && list.listed == self.entries.of_issuer(issuer)
            });
        former.number == 0 || !same
    }

    fn told(&self, former: &Lists, lists: Lists) {
        let (number, entries) =
            (lists.number, lists.lists.iter().map(|list| list.listed.len()).sum::<usize>());
        match (&former.without, &lists.without) {
            (former, Some(why)) if former.as_ref() != Some(why) => {
                tracing::warn!(number, why, "agents do without revocation lists");
            }
            (Some(_), None) => tracing::info!(number, entries, "agents get revocation lists"),
            _ if lists.changed_number == number => {
                tracing::info!(number, entries, "revocation lists changed");
            }
            _ => tracing::debug!(number, entries, "revocation lists signed again"),
        }
        self.ca.crl.publish(lists, self.ca.clock.uptime());
    }

    /// Finds what signs the list of an issuer, once.
    async fn learn(
        &mut self,
        state: &State,
        root: &RootId,
        issuer: &CertificateId,
    ) -> Result<(), String> {
        if self.issuers.contains_key(issuer) {
            return Ok(());
        }
        let entry = state.roots.get(root).and_then(|root| root.issuers.get(issuer));
        let entry = entry.ok_or("it is not in the record")?;
        let key = KeyId::parse(entry.key.as_str()).map_err(|error| error.to_string())?;
        let first = entry.chain.first().ok_or("it has no certificate")?;
        let certificate =
            Certificate::parse(first.as_bytes()).map_err(|error| error.to_string())?;
        let found = ListIssuer::new(Arc::clone(&self.keys), key, certificate).await;
        self.issuers.insert(*issuer, found.map_err(|error| error.to_string())?);
        Ok(())
    }

    async fn signed(
        &self,
        number: u64,
        root: RootId,
        issuer: CertificateId,
        now: Timestamp,
    ) -> Result<IssuerList, String> {
        let signer = self.issuers.get(&issuer).ok_or("it is not known")?;
        let listed = self.entries.of_issuer(&issuer);
        let this_update = now.minus(self.settings.skew);
        let next_update = now.plus(self.settings.lifetime);
        let fields = ListFields { number, this_update, next_update, revoked: &listed };
        let der = signer.sign(fields).await.map_err(|error| error.to_string())?;
        Ok(IssuerList { issuer, root, listed, this_update, next_update, der })
    }
}
