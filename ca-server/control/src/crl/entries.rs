//! Who is on the lists: leaves that were revoked, and those of banned identities and keys.

use std::collections::BTreeMap;
use std::time::Duration;

use issuance::crl::{RevocationReason, Revoked};
use ledger::{LiveRow, RowFilter, RowKind};
use registry::{Ban, BanSubject};
use trust::{CertificateId, Serial, Timestamp};

use crate::ca::Ca;

/// A revoked leaf whose agent is connected goes on the list when its holders have another one, and after this time whatever they have:
/// else peers would refuse the workload in between.
const REPLACED_WITHIN: Duration = Duration::from_secs(5);
/// Rows that are looked at before others get their turn.
const PAGE: usize = 1_000;

/// Everybody who is on a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    /// By issuer.
    by_issuer: BTreeMap<CertificateId, BTreeMap<Serial, Revoked>>,
    /// Revoked leaves whose rows are not known here: they are on every list.
    of_anybody: BTreeMap<Serial, Revoked>,
    /// Whether a revoked leaf is still being replaced at its holders, and left out until then.
    pub(super) waits: bool,
}

/// The words of operators that lists rest on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    revoked: Vec<(Serial, Ban)>,
    bans: Vec<(BanSubject, Ban)>,
}

impl Words {
    /// Those that stand now.
    pub(super) fn of(ca: &Ca, now: Timestamp) -> Self {
        let mut bans = ca.registry.all_bans_after("", usize::MAX);
        bans.retain(|(subject, ban)| {
            ban.stands(now) && matches!(subject, BanSubject::Identity(_) | BanSubject::Key(_))
        });
        Self { revoked: ca.registry.revoked_leaves(), bans }
    }
}

impl Entries {
    /// Those that follow from these words now.
    pub(super) async fn of(ca: &Ca, words: &Words, now: Timestamp) -> Self {
        let mut entries = Self::default();
        entries.add_banned(ca, words, now).await;
        for (serial, ban) in &words.revoked {
            let Some(until) = ban.until else { continue };
            let entry = Revoked { at: ban.word.at, reason: RevocationReason::Unknown, until };
            let live = ca.ledger.find(serial);
            if live.as_ref().is_some_and(|live| is_being_replaced(ca, live, ban, now)) {
                entries.waits = true;
                continue;
            }
            let list = match live {
                Some(live) => entries.by_issuer.entry(live.row.issuer).or_default(),
                None => &mut entries.of_anybody,
            };
            list.entry(*serial).or_insert(entry);
        }
        entries
    }

    async fn add_banned(&mut self, ca: &Ca, words: &Words, now: Timestamp) {
        if words.bans.is_empty() {
            return;
        }
        // Also those that have a successor: whoever has a copy shows which one it likes.
        let filter = RowFilter { ended_too: true, ..RowFilter::default() };
        let mut after = None;
        loop {
            let page = ca.ledger.rows(&filter, after, PAGE);
            for live in &page.rows {
                let (row, until) = (&live.row, ca.policy.over_at(live.row.not_after));
                if until <= now || matches!(row.kind, RowKind::Own | RowKind::AgentIdentity) {
                    continue;
                }
                let ban = words.bans.iter().find(|(subject, _)| match subject {
                    BanSubject::Identity(cover) => cover.has(&row.identity),
                    BanSubject::Key(key) => row.spki == *key,
                    _ => false,
                });
                let Some((subject, ban)) = ban else { continue };
                let reason = match subject {
                    BanSubject::Key(_) => RevocationReason::KeyCompromise,
                    _ => RevocationReason::PrivilegeWithdrawn,
                };
                let entry = Revoked { at: ban.word.at, reason, until };
                self.by_issuer.entry(row.issuer).or_default().insert(row.serial, entry);
            }
            after = page.next;
            if after.is_none() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Who is over is on no list any more.
    pub(super) fn expire(&mut self, now: Timestamp) {
        for list in self.by_issuer.values_mut() {
            list.retain(|_, entry| entry.until > now);
        }
        self.by_issuer.retain(|_, list| !list.is_empty());
        self.of_anybody.retain(|_, entry| entry.until > now);
    }

    /// Those of one issuer, by serial number.
    pub(super) fn of_issuer(&self, issuer: &CertificateId) -> Vec<(Serial, Revoked)> {
        let mut all = self.of_anybody.clone();
        all.extend(self.by_issuer.get(issuer).into_iter().flatten().map(|(s, e)| (*s, *e)));
        all.into_iter().collect()
    }
}

fn is_being_replaced(ca: &Ca, live: &LiveRow, ban: &Ban, now: Timestamp) -> bool {
    let agent = live.row.agent.as_deref();
    let is_fresh = now >= ban.word.at && now < ban.word.at.plus(REPLACED_WITHIN);
    is_fresh && live.counts() && agent.is_some_and(|agent| ca.sessions.is_connected(agent))
}
