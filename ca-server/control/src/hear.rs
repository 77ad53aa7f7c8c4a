//! What agents say they hold, heard at every word of theirs, and brought into the record at a bounded rate. What is to be
//! thought of it is in [`crate::seen`].

use std::sync::Arc;
use std::time::Duration;

use rotation::{Event, State};
use rotation_driver::{RecordStore as _, SharedRecord};
use trust::{BundleDigest, Sequence};

use crate::ca::Ca;
use crate::seen::{Judgement, Stored, judge, latest_digest};

/// Time between two rounds of writing down what was heard: nobody makes this server write more often.
const ROUND: Duration = Duration::from_secs(1);
/// Longest wait until what is stored is shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

impl Ca {
    /// Judges what an agent that proved itself says it has stored, and notes what this record never published: the one
    /// place that every such word goes through, from `Hello`, acknowledgements and requests alike.
    pub fn hear(&self, agent: &str, stored: Stored) -> Judgement {
        let state = self.driver.state();
        let judgement = judge(stored, &state, |sequence| digest_of(self, &state, sequence));
        // A known sequence without a digest proves nothing either way.
        let tells = match judgement {
            Judgement::Known => false,
            Judgement::Newer => true,
            Judgement::Other(_) => stored.digest.is_some(),
        };
        if tells && !state.seen.dismissed.contains(agent) {
            self.seen.note(agent, stored, &state);
        }
        judgement
    }
}

fn digest_of(ca: &Ca, state: &State, sequence: Sequence) -> Option<BundleDigest> {
    let served = ca.cell.load().bundle().clone();
    if served.sequence() == sequence {
        return Some(served.digest());
    }
    if let Some(kept) = ca.history.get(sequence) {
        return Some(kept.bundle.digest());
    }
    (sequence == state.sequence).then(|| latest_digest(state)).flatten()
}

/// Waits until this server shows the record at least as it is stored now; `false` if the store does not say, or it is not shown
/// in time.
async fn is_up_to_date(ca: &Ca) -> bool {
    let Some(store) = &ca.replication.store else { return true };
    let Ok(Some(stored)) = SharedRecord::new(Arc::clone(store)).load().await else { return false };
    let mut changes = ca.driver.changes();
    let shown = changes.wait_for(|state| state.generation >= stored.generation);
    tokio::time::timeout(SHOWN_WITHIN, shown).await.is_ok_and(|shown| shown.is_ok())
}

/// Brings what was heard into the record, until it is dropped. What could not be stored is tried again.
pub async fn keep(ca: Arc<Ca>) {
    loop {
        ca.seen.wake.notified().await;
        // Another server may have published it, and this one had not seen that when it was heard.
        let is_up_to_date = is_up_to_date(&ca).await;
        for (agent, stored) in ca.seen.take() {
            let Stored { sequence, digest } = stored;
            if !is_up_to_date {
                ca.seen.put_back(agent, stored);
                continue;
            }
            let state = ca.driver.state();
            if judge(stored, &state, |sequence| digest_of(&ca, &state, sequence))
                == Judgement::Known
            {
                continue;
            }
            tracing::error!(
                agent, %sequence, ours = %ca.driver.state().sequence,
                "an agent holds a bundle that this server never published: no bundle changes until an operator decides"
            );
            let event = Event::BundleSighted { agent: agent.clone(), sequence, digest };
            if let Err(error) = ca.driver.submit_by(event, "agents").await {
                tracing::error!(%error, agent, "what an agent holds could not be written down; it is tried again");
                ca.seen.put_back(agent, stored);
            }
        }
        tokio::time::sleep(ROUND).await;
    }
}
