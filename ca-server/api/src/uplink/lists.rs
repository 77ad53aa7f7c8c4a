//! Revocation lists, down.

use std::sync::Arc;
use std::time::Duration;

use control::ca::Ca;
use control::crl::Lists as Signed;
use proto::banyan::agent::v1::RevocationLists;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

/// What one agent is told of revocation lists: nothing where the CA has none.
pub(super) struct Lists {
    signed: watch::Receiver<Arc<Signed>>,
    /// How long it keeps them, and when it is told again that it may.
    keep: Option<(Duration, Interval)>,
    /// The number whose lists were sent on this stream.
    sent: u64,
}

impl Lists {
    pub(super) fn of(ca: &Ca) -> Self {
        let keep = ca.crl.settings().map(|settings| {
            let mut ticks = tokio::time::interval(settings.keep / 4);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            (settings.keep, ticks)
        });
        Self { signed: ca.crl.watch(), keep, sent: 0 }
    }

    /// The next word about them. Nothing is lost when it is dropped.
    pub(super) async fn next(&mut self) -> RevocationLists {
        let Some((keep, ticks)) = &mut self.keep else { return std::future::pending().await };
        tokio::select! {
            _ = ticks.tick() => {}
            Ok(()) = self.signed.changed() => {}
        }
        let signed = Arc::clone(&self.signed.borrow_and_update());
        let keep_seconds = keep.as_secs().try_into().unwrap_or(u32::MAX);
        if signed.number == 0 || signed.without.is_some() {
            self.sent = 0;
            let without = signed.without.clone().unwrap_or_else(|| "none is signed yet".to_owned());
            return RevocationLists { keep_seconds, without, ..RevocationLists::default() };
        }
        let is_news = self.sent != signed.number;
        self.sent = signed.number;
        let lists = signed.lists.iter().filter(|_| is_news).map(|list| list.der.clone());
        RevocationLists {
            number: signed.number,
            lists: lists.collect(),
            roots: signed.roots.iter().map(|root| root.as_bytes().to_vec()).collect(),
            keep_seconds,
            without: String::new(),
        }
    }
}
