//! Passes on what agents said: to every other server once, and all of it anew to one that started anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rotation::ReplicaName;
use tokio::task::JoinSet;
use trust::Serial;

use super::Peers;
use super::calls::{AgentLeaves, RENEWALS_MAX, STATEMENTS_MAX, Statement};
use super::lines::NotAnswered;

/// How often it is looked who can be told, though nothing was heard.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What one server was told.
#[derive(Debug, Default)]
struct Told {
    /// The process that was told.
    holder: String,
    /// Up to which number.
    upto: u64,
    is_under_way: bool,
}

/// A call that is over.
struct Over {
    name: ReplicaName,
    holder: String,
    upto: u64,
    statements: Vec<Statement>,
    answer: Result<Vec<Serial>, NotAnswered>,
}

impl Peers {
    /// Tells the others until it is dropped. That a leaf was given up is kept for as long as a leaf may live.
    pub async fn keep_telling(self: Arc<Self>, longest_leaf: Duration) {
        let (mut said, mut roster) = (self.outbox.changes(), self.lines.changes());
        let mut told: BTreeMap<ReplicaName, Told> = BTreeMap::new();
        let mut under_way: JoinSet<Over> = JoinSet::new();
        loop {
            for (name, holder) in self.lines.callable() {
                let told = told.entry(name.clone()).or_default();
                if told.holder != holder {
                    *told = Told { holder: holder.clone(), ..Told::default() };
                }
                if !told.is_under_way {
                    let batch = self.outbox.after(told.upto, STATEMENTS_MAX);
                    if let Some((upto, _)) = batch.last() {
                        told.is_under_way = true;
                        let statements = batch.iter().map(|(_, said)| said.clone()).collect();
                        under_way.spawn(Arc::clone(&self).tell(name, holder, *upto, statements));
                    }
                }
            }
            tokio::select! {
                changed = said.changed() => if changed.is_err() { return },
                Ok(()) = roster.changed() => {}
                Some(Ok(over)) = under_way.join_next() => self.over(over, &mut told),
                () = tokio::time::sleep(LOOK_EVERY) => {
                    self.outbox.expire(self.clock.uptime(), longest_leaf);
                }
            }
        }
    }

    async fn tell(
        self: Arc<Self>,
        name: ReplicaName,
        holder: String,
        upto: u64,
        statements: Vec<Statement>,
    ) -> Over {
        let told = statements.clone();
        let call = self
            .lines
            .call(&name, "tell", |calls, place| async move { calls.tell(&place, told).await });
        let answer = call.await;
        Over { name, holder, upto, statements, answer }
    }

    fn over(&self, over: Over, told: &mut BTreeMap<ReplicaName, Told>) {
        let Over { name, holder, upto, statements, answer } = over;
        // Another process of that name has heard none of it.
        let Some(told) = told.get_mut(&name).filter(|told| told.holder == holder) else { return };
        told.is_under_way = false;
        if let Ok(ours) = answer {
            told.upto = told.upto.max(upto);
            let ours: BTreeSet<_> = ours.into_iter().collect();
            self.outbox.settled(&statements, &ours);
        }
    }

    /// Has the other servers ask agents that are connected there to renew leaves of this one.
    pub async fn ask_to_renew(&self, mut leaves: Vec<AgentLeaves>) {
        let mut left = RENEWALS_MAX;
        for (_, serials) in &mut leaves {
            serials.truncate(left);
            left -= serials.len();
        }
        leaves.retain(|(_, serials)| !serials.is_empty());
        if leaves.is_empty() {
            return;
        }
        let others = self.lines.callable();
        let asked = others.iter().map(|(name, _)| {
            let leaves = leaves.clone();
            self.lines.call(name, "ask_to_renew", |calls, place| async move {
                calls.ask_to_renew(&place, leaves).await
            })
        });
        // Who was not reached is asked again in the next pass.
        join_all(asked).await;
    }
}

#[cfg(test)]
mod tests;
