//! Leaves that were revoked: nobody is handed one any more, and whoever has one gets another, or one that nobody believes.
//!
//! A holder's protocol can put a secret into the place of another, and can take none away. So where the CA gives no other leaf, a
//! certificate that names nobody takes its place: once that is acknowledged the holder presents nothing of ours, and the leaf is
//! released.

use std::sync::Arc;
use std::time::Duration;

use trust::{Serial, Timestamp};

use super::state::Hub;
use super::subscription::Nobody;
use crate::holders::Holder;
use crate::install::{LeafSubscription, SubscriptionId, Taking};
use crate::key::{KeyError, PrivateKey};

/// Leaves that are kept in mind; the CA says them again on the next stream.
const REVOKED_MAX: usize = 65_536;

impl Hub {
    /// The CA says that no holder shall have these leaves.
    pub(super) fn revoke(&mut self, rows: &[(Serial, Timestamp)]) {
        let room = REVOKED_MAX.saturating_sub(self.revoked.len());
        self.revoked.extend(rows.iter().take(room).copied());
        for (identity, workload) in &mut self.workloads {
            let serial = workload.leaf.as_ref().map(|leaf| leaf.held().serial);
            let Some(serial) = serial.filter(|serial| self.revoked.contains_key(serial)) else {
                continue;
            };
            tracing::warn!(%identity, %serial, "the CA revoked the leaf: another one is asked for");
            workload.drop_leaf();
            workload.last_error = None;
            workload.not_before = Duration::ZERO;
            workload.backoff.reset();
        }
    }

    /// What is over is forgotten.
    pub(super) fn expire_revoked(&mut self, now: Timestamp) {
        self.revoked.retain(|_, until| *until > now);
    }

    pub(super) fn is_revoked(&self, serial: &Serial) -> bool {
        self.revoked.contains_key(serial)
    }

    /// Whether there is anything to take away.
    pub(super) fn takes_away(&self) -> bool {
        !self.revoked.is_empty()
    }

    /// Secrets of a holder that have a revoked leaf, and for which the CA gave no other one.
    pub(super) fn to_take_away(&self, holder: &Holder) -> Vec<SubscriptionId> {
        let is_due = |secret: &LeafSubscription| {
            let has = secret.may_hold.iter().any(|leaf| self.is_revoked(&leaf.serial));
            let is_free = secret.ready && secret.in_flight.is_none() && secret.taking == Taking::No;
            let gets_none = self
                .workloads
                .get(&secret.identity)
                .is_none_or(|workload| workload.leaf.is_none() && workload.last_error.is_some());
            has && is_free && gets_none
        };
        let due = holder.installed.leaves.iter().filter(|(_, secret)| is_due(secret));
        due.map(|(id, _)| *id).collect()
    }

    /// Makes what takes the place of leaves, once it is needed. Without it they stay where they are, and are said to.
    pub(super) fn make_nobody(&mut self) {
        if self.nobody.is_some() || !self.takes_away() {
            return;
        }
        match nobody() {
            Ok(nobody) => self.nobody = Some(Arc::new(nobody)),
            Err(error) => tracing::error!(%error, "a revoked leaf cannot be taken away"),
        }
    }
}

fn nobody() -> Result<Nobody, KeyError> {
    let key = PrivateKey::generate()?;
    Ok(Nobody { chain_pem: key.certificate_of_nobody()?, key })
}
