//! Distrusted issuers: one whose key may be somebody else's is replaced under the same root, and its leaves are asked for anew.
//!
//! The root stays. So whoever has the key goes on being believed by peers until the issuer's certificate is over, and only another root
//! ends that sooner: what is done here is that nothing of ours rests on it any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ledger::{Cursor, RowFilter, RowKind};
use registry::Ban;
use rotation::{ReplicaName, State};
use tokio::time::MissedTickBehavior;
use trust::plain::counted;
use trust::{CertificateId, RootId, Serial, Timestamp};

use crate::ca::Ca;
use crate::reissue::Agents as _;

/// How often a share of the budget is spent.
const TICK: Duration = Duration::from_secs(1);
/// Passes over all rows begin at most this often, in ticks: what was asked for once is given time to come.
const PASS_EVERY: u32 = 20;

/// An issuer that the record knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its root.
    pub root: RootId,
    /// The authority of that.
    pub authority: String,
    /// Whose key backend has its key, if the record says so.
    pub replica: Option<ReplicaName>,
    /// The earliest end in its chain.
    pub not_after: Timestamp,
    /// Whether somebody signs with it whenever its root signs.
    pub signs: bool,
    /// Whether its root is trusted.
    pub is_trusted: bool,
}

/// What the record knows of an issuer.
pub fn known(state: &State, issuer: &CertificateId) -> Option<Known> {
    state.roots.iter().find_map(|(root, entry)| {
        let found = entry.issuers.get(issuer)?;
        Some(Known {
            root: *root,
            authority: entry.authority.to_string(),
            replica: found.replica.clone(),
            not_after: found.not_after,
            signs: entry.signing_issuers().any(|signs| signs == *issuer),
            is_trusted: entry.state.is_trusted(),
        })
    })
}

/// Distrusted issuers that still sign here or have leaves here, one sentence each.
pub fn conditions(ca: &Ca, state: &State) -> Vec<String> {
    let distrusted = ca.registry.distrusted_issuers().into_iter();
    distrusted.filter_map(|(issuer, ban)| condition(ca, state, issuer, &ban)).collect()
}

fn condition(ca: &Ca, state: &State, issuer: CertificateId, ban: &Ban) -> Option<String> {
    let known = known(state, &issuer)?;
    let who = told(issuer, known.root, ban);
    if ca.cell.load().signer().issuer() == issuer {
        return Some(format!(
            "{who} and still signs here: a new one was asked of authority {}; `banyan authority check {}` says how that is, `banyan issuer \
             renew` asks again",
            known.authority, known.authority
        ));
    }
    let left = ca.ledger.rows_where(|row| row.issuer == issuer);
    let last = left.iter().map(|live| live.row.not_after).max()?;
    Some(format!(
        "{who}: {} of it may be in use, the last until {last}; agents are asked to renew theirs at rotation.reissue_per_second, the others \
         end by themselves (`banyan leaf list --root {}`)",
        counted(left.len(), "leaf", "leaves"),
        known.root.short()
    ))
}

/// Distrusted issuers of which nothing is left here, one sentence each, until their certificates are over.
pub fn over(ca: &Ca, state: &State) -> Vec<String> {
    let distrusted = ca.registry.distrusted_issuers().into_iter();
    distrusted
        .filter(|(issuer, ban)| condition(ca, state, *issuer, ban).is_none())
        .filter_map(|(issuer, ban)| {
            let known = known(state, &issuer).filter(|known| known.is_trusted)?;
            let who = told(issuer, known.root, &ban);
            Some(format!(
                "{who}, and none of its leaves is left here; whoever has its key is believed by peers until {} all the same, and only another \
                 root ends that: `banyan root distrust {}`",
                known.not_after,
                known.root.short()
            ))
        })
        .collect()
}

fn told(issuer: CertificateId, root: RootId, ban: &Ban) -> String {
    let (by, since, reason) = (&ban.word.by, ban.word.at, &ban.word.reason);
    format!(
        "issuer {} under root {} is distrusted by {by} since {since} ({reason})",
        issuer.short(),
        root.short()
    )
}

/// Asks agents to renew leaves of distrusted issuers, so many a second, until it is dropped.
pub async fn reissue(ca: Arc<Ca>, per_second: u64) {
    let budget = usize::try_from(per_second).unwrap_or(usize::MAX);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pass = Pass::default();
    loop {
        ticks.tick().await;
        let Some((issuer, root)) = due(&ca) else {
            pass = Pass::default();
            continue;
        };
        let Some(after) = pass.begin(issuer) else { continue };
        let filter = RowFilter { root: Some(root), ..RowFilter::default() };
        let page = ca.ledger.rows(&filter, after, budget);
        pass.after = page.next;
        pass.is_over = page.next.is_none();
        let mut by_agent: BTreeMap<String, Vec<Serial>> = BTreeMap::new();
        for live in page.rows.iter().filter(|live| live.row.issuer == issuer) {
            let by_its_agent = matches!(live.row.kind, RowKind::AgentHeld | RowKind::AgentIdentity);
            if let Some(agent) = live.row.agent.clone().filter(|_| by_its_agent) {
                by_agent.entry(agent).or_default().push(live.row.serial);
            }
        }
        ca.ask_to_renew(by_agent).await;
    }
}

/// Where the rows of an issuer are gone over.
#[derive(Debug, Default)]
struct Pass {
    issuer: Option<CertificateId>,
    after: Option<Cursor>,
    is_over: bool,
    ticks: u32,
}

impl Pass {
    /// From where to go on at this tick, if anything is to be done at it.
    fn begin(&mut self, issuer: CertificateId) -> Option<Option<Cursor>> {
        if self.issuer != Some(issuer) {
            *self = Self { issuer: Some(issuer), ..Self::default() };
        }
        self.ticks = self.ticks.saturating_add(1);
        if self.is_over {
            if self.ticks < PASS_EVERY {
                return None;
            }
            (self.is_over, self.after, self.ticks) = (false, None, 0);
        }
        Some(self.after)
    }
}

/// A distrusted issuer that does not sign here any more, so that a renewal gives a leaf of another one.
fn due(ca: &Ca) -> Option<(CertificateId, RootId)> {
    let distrusted = ca.registry.distrusted_issuers();
    if distrusted.is_empty() {
        return None;
    }
    let (state, signs) = (ca.driver.state(), ca.cell.load().signer().issuer());
    if distrusted.iter().any(|(issuer, _)| *issuer == signs) {
        return None;
    }
    distrusted.into_iter().find_map(|(issuer, _)| {
        let known = known(&state, &issuer).filter(|known| known.is_trusted)?;
        let is_left = !ca.ledger.rows_where(|row| row.issuer == issuer).is_empty();
        is_left.then_some((issuer, known.root))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_is_over_rests_and_one_of_another_issuer_begins_at_once() {
        let (one, other) = (CertificateId::of(b"one"), CertificateId::of(b"other"));
        let mut pass = Pass::default();
        assert_eq!(pass.begin(one), Some(None));
        pass.is_over = true;
        let rested = (0..100).take_while(|_| pass.begin(one).is_none()).count();
        assert_eq!(rested, PASS_EVERY as usize - 2);
        pass.is_over = true;
        assert_eq!(pass.begin(other), Some(None));
    }
}
