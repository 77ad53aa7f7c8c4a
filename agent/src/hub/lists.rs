//! Revocation lists on their way to holders: with which roots they go, who has them, and the file for who reads one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use trust::{RootId, Serial};

use super::state::Hub;
use crate::holders::Holder;
use crate::install::{Push, SubscriptionId, TrustSubscription};
use crate::lists::{Lists, ListsRefused, Word};
use crate::secret_name::SecretKind;
use crate::status::Condition;

/// Lists are no secret, and who reads them runs as somebody else.
const MODE: u32 = 0o644;

impl Hub {
    /// Notes what the CA said of lists.
    pub(super) fn heard_of_lists(&mut self, word: Result<Word, ListsRefused>) {
        let uptime = self.parts.clock.uptime();
        if let Err(refused) = word.and_then(|word| self.lists.hear(word, uptime)) {
            self.lists.forget(refused.to_string());
        }
    }

    /// Says so while holders do without, and keeps the file.
    pub(super) async fn look_at_lists(&mut self) {
        let (now, uptime) = (self.parts.clock.now(), self.parts.clock.uptime());
        let trouble = self.lists.trouble(now, uptime);
        let what = trouble.map(|why| {
            format!("proxies verify without revocation lists, so a revoked leaf is believed until its end: {why}")
        });
        self.condition(Condition::WithoutLists, what);
        let Some(path) = self.parts.config.crl_file.clone() else { return };
        if !self.lists.is_settled(uptime) {
            return;
        }
        let roots = self.parts.store.current().map(crate::bundle_store::view);
        let lists = roots.and_then(|view| self.lists_with(&view.roots));
        let number = lists.as_ref().map_or(0, |lists| lists.number);
        if self.lists_in_file == Some(number) {
            return;
        }
        // Without lists it is empty: who reads it then verifies without.
        let pem = lists.map(|lists| lists.pem.clone()).unwrap_or_default();
        let written = self.write(path.clone(), pem).await;
        if written.is_ok() {
            self.lists_in_file = Some(number);
            tracing::info!(number, file = %path.display(), "revocation lists are in the file");
        }
        let what = written.err().map(|error| {
            format!("the revocation lists cannot be written to {}: {error}; make its directory writable for this agent, or correct crl_file", path.display())
        });
        self.condition(Condition::ListsNotWritten, what);
    }

    async fn write(&self, path: PathBuf, pem: String) -> std::io::Result<()> {
        let disk = Arc::clone(&self.parts.disk);
        let write = move || disk.replace(&path, pem.as_bytes(), MODE);
        tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other)?
    }

    fn lists_with(&self, roots: &BTreeSet<RootId>) -> Option<Arc<Lists>> {
        let (now, uptime) = (self.parts.clock.now(), self.parts.clock.uptime());
        self.lists.with(roots, now, uptime).map(Arc::clone)
    }

    /// The lists that go to a holder with these roots: none that it refused.
    pub(super) fn lists_for(
        &self,
        secret: Option<&TrustSubscription>,
        roots: &BTreeSet<RootId>,
    ) -> Option<Arc<Lists>> {
        let refused = secret.and_then(|secret| secret.lists_refused);
        self.lists_with(roots).filter(|lists| Some(lists.number) != refused)
    }

    /// Secrets whose roots stay as they are, and that have other lists than they shall have.
    pub(super) fn new_lists(&self, holder: &Holder, known: &BTreeSet<RootId>) -> Vec<Push> {
        if !self.lists.is_settled(self.parts.clock.uptime()) {
            return Vec::new();
        }
        let is_of_roots = |id: &SubscriptionId| {
            let name = holder.subscriptions.get(id).map(|known| &known.name.kind);
            name == Some(&SecretKind::Roots)
        };
        let secrets = holder.installed.trust.iter();
        let stale = secrets.filter_map(|(id, secret)| {
            let has = secret.applied.as_ref().filter(|view| view.roots.is_subset(known))?;
            let wanted = self.lists_for(Some(secret), &has.roots).map_or(0, |lists| lists.number);
            let is_free = secret.ready && secret.in_flight.is_none();
            (is_free && is_of_roots(id) && secret.lists != wanted)
                .then(|| Push::Trust(*id, has.clone()))
        });
        stale.collect()
    }

    /// The lists that the holders of each leaf have; the least of them counts. Who has none is left out.
    pub(super) fn lists_held(&self) -> BTreeMap<Serial, u64> {
        let mut least: BTreeMap<Serial, u64> = BTreeMap::new();
        for holder in self.holders.values() {
            let number = held_by(holder);
            for leaf in holder.may_hold() {
                let known = least.entry(leaf.serial).or_insert(number);
                *known = (*known).min(number);
            }
        }
        least
    }
}

/// The number that a holder has on every validation secret of ours.
fn held_by(holder: &Holder) -> u64 {
    let installed = &holder.installed;
    if installed.unproven || !installed.lost.is_empty() {
        return 0;
    }
    installed.trust.values().map(|secret| secret.lists).min().unwrap_or_default()
}
