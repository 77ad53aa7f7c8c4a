//! Paced re-issue: while a root drains, agents are asked to renew its leaves, and in a canary those of the cohort, so many a second, never all at once.
//!
//! It asks; it decides nothing. An agent that does not hear it renews at half of the leaf's life anyway, and the leaf gate
//! waits for rows, not for answers.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ledger::{Cursor, Ledger, Row, RowFilter, RowKind};
use rotation::{Effect, State};
use rotation_driver::DriverHandle;
use tokio::time::MissedTickBehavior;
use trust::{Cohort, RootId, Serial};

use crate::ca::Ca;

/// How often a share of the budget is spent.
const TICK: Duration = Duration::from_secs(1);
/// Pages that are looked through for members of a cohort in one tick.
const PAGES_A_TICK: usize = 50;
/// Passes over all rows begin at most this often: what was asked for once is given time to come.
const PASS_EVERY: u32 = 20;

/// The port to the agents that can renew.
#[async_trait]
pub trait Agents: Send + Sync + Debug {
    /// Asks agents, by their names, to renew these leaves. Whoever does not hear it renews later, by itself.
    async fn ask_to_renew(&self, by_agent: BTreeMap<String, Vec<Serial>>);
}

/// Goes over the rows of the root that drains, those that live longest first.
#[derive(Debug)]
pub struct Reissue {
    driver: DriverHandle,
    ledger: Arc<Ledger>,
    agents: Arc<dyn Agents>,
    /// Leaves to ask for at each tick.
    budget: usize,
    /// What the present pass is about, and where it stands; `None` when it is over.
    pass: Option<(Due, Option<Cursor>)>,
    ticks_since_pass: u32,
    last: Option<Due>,
}

impl Reissue {
    /// Asks for at most `per_second` leaves a second.
    pub fn new(ca: Arc<Ca>, per_second: u64) -> Self {
        let (driver, ledger) = (ca.driver.clone(), Arc::clone(&ca.ledger));
        Self::of(driver, ledger, ca, per_second)
    }

    /// The same over these parts of a CA.
    pub fn of(
        driver: DriverHandle,
        ledger: Arc<Ledger>,
        agents: Arc<dyn Agents>,
        per_second: u64,
    ) -> Self {
        let budget = usize::try_from(per_second).unwrap_or(usize::MAX);
        Self { driver, ledger, agents, budget, pass: None, ticks_since_pass: 0, last: None }
    }

    /// Asks until it is dropped.
    pub async fn run(mut self) {
        let mut changes = self.driver.changes();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if changes.wait_for(|state| due(state).is_some()).await.is_err() {
                return;
            }
            ticks.tick().await;
            match due(&self.driver.state()) {
                Some(due) => self.tick(due).await,
                None => self.pass = None,
            }
        }
    }

    async fn tick(&mut self, due: Due) {
        self.ticks_since_pass = self.ticks_since_pass.saturating_add(1);
        let other = self.last.as_ref() != Some(&due);
        if other || (self.pass.is_none() && self.ticks_since_pass >= PASS_EVERY) {
            self.pass = Some((due.clone(), None));
            self.last = Some(due.clone());
            self.ticks_since_pass = 0;
        }
        let Some((_, mut after)) = self.pass.clone() else { return };
        let filter = RowFilter { root: Some(due.root), ..RowFilter::default() };
        let mut by_agent: BTreeMap<String, Vec<Serial>> = BTreeMap::new();
        let (mut asked, mut pages) = (0, 0);
        // Whoever is in no cohort is passed over, and not for nothing: a small cohort is found in a few ticks.
        while asked < self.budget && pages < PAGES_A_TICK {
            let page = self.ledger.rows(&filter, after, self.budget.saturating_sub(asked));
            for row in page.rows.iter().map(|live| &live.row) {
                if let Some(agent) = holder(row).filter(|_| due.is_about(row)) {
                    by_agent.entry(agent).or_default().push(row.serial);
                    asked += 1;
                }
            }
            pages += 1;
            after = page.next;
            self.pass = after.map(|next| (due.clone(), Some(next)));
            if after.is_none() || due.cohort.is_none() {
                break;
            }
        }
        self.agents.ask_to_renew(by_agent).await;
    }
}

#[async_trait]
impl Agents for Ca {
    async fn ask_to_renew(&self, by_agent: BTreeMap<String, Vec<Serial>>) {
        let mut elsewhere = Vec::new();
        for (agent, serials) in by_agent {
            if !self.sessions.is_connected(&agent) {
                elsewhere.push((agent, serials));
                continue;
            }
            let (count, taken) = (serials.len(), self.sessions.ask_to_renew(&agent, serials));
            tracing::debug!(agent, count, taken, "asked to renew leaves of the root that drains");
        }
        // The agents of those may be at another server.
        self.peers.ask_to_renew(elsewhere).await;
    }
}

/// Which leaves are to be renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    /// Under which root.
    root: RootId,
    /// Of whom, if not of everybody.
    cohort: Option<Cohort>,
}

impl Due {
    fn is_about(&self, row: &Row) -> bool {
        self.cohort.as_ref().is_none_or(|cohort| cohort.has(&row.identity))
    }
}

/// The leaves that are to be renewed now. A held rotation asks for none; and before the switch is in force a renewal
/// would only give another leaf of the same root.
fn due(state: &State) -> Option<Due> {
    if state.phase.rotation()?.held_since.is_some() {
        return None;
    }
    if let Some(canary) = state.phase.canary() {
        return Some(Due { root: canary.from, cohort: Some(canary.cohort.clone()) });
    }
    let phase = state.phase.draining()?;
    let switch = |effect: &Effect| matches!(effect, Effect::SwitchSigner { .. });
    let in_force = !state.pending.iter().any(|pending| switch(&pending.effect));
    in_force.then_some(Due { root: phase.from, cohort: None })
}

/// The agent that can renew this leaf.
fn holder(row: &Row) -> Option<String> {
    match row.kind {
        RowKind::AgentHeld | RowKind::AgentIdentity => row.agent.clone(),
        RowKind::CsrOnly | RowKind::ChannelTrusted | RowKind::Own | RowKind::Probe => None,
    }
}
