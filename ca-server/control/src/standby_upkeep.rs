//! Keeps a standby root that lasts, where policy asks for one.

use rotation::{Event, State};
use rotation_driver::Word;
use trust::Timestamp;

use crate::levels::Level;
use crate::standby::{Due, Pauses, StandbyPolicy, given_up};
use crate::target;
use crate::upkeep::Upkeep;

/// Who wants it, in the journal.
const BY: &str = "schedule";

impl Upkeep {
    /// Keeps a standby root that lasts, where policy asks for one.
    pub(crate) async fn keep_standby(&mut self, now: Timestamp) {
        let Some(policy) = self.ca.standby.clone() else { return };
        let state = self.driver.state();
        let troubles = self.driver.troubles().borrow().clone();
        if let Some((request_id, why)) = given_up(&state, &troubles, now) {
            return self.ask(Event::AbortRequested { request_id }, why).await;
        }
        match policy.due(&state, now) {
            Due::Nothing | Due::Held(_) => {
                if state.phase.is_steady() {
                    self.standby = Pauses::default();
                    self.ca.levels.reached(Level::Standby);
                }
            }
            Due::Drop(root, request_id, why) => {
                self.ask(Event::StandbyDropped { request_id, root }, why).await;
            }
            Due::Prepare(request_id, why) => {
                let uptime = self.ca.clock.uptime();
                if !self.standby.is_over(uptime) {
                    return;
                }
                let event = policy.event(request_id);
                let obstacles = self.obstacles(&policy, &state, &event).await;
                if obstacles.is_empty() {
                    self.ca.levels.reached(Level::Standby);
                    return self.ask(event, why).await;
                }
                self.standby = self.standby.longer(uptime);
                let obstacles = obstacles.join("; ");
                self.ca.levels.failed(Level::Standby, &obstacles, self.ca.clock.as_ref());
            }
        }
    }

    /// Why it is not begun: what would not get on keeps others waiting.
    async fn obstacles(&self, policy: &StandbyPolicy, state: &State, event: &Event) -> Vec<String> {
        let name = policy.authority.as_str();
        if self.ca.upstreams.has(name) {
            let text = "is another CA, whose roots are followed: prepare a standby root there, and name another authority here";
            return vec![format!("authority {name} (root.standby.authority) {text}")];
        }
        target::obstacles(&self.ca, state, event).await
    }

    async fn ask(&self, event: Event, reason: String) {
        tracing::info!(event = event.name(), reason, "a standby root by policy");
        let word = Word { by: BY.to_owned(), reason };
        if let Err(error) = self.driver.submit_as(event, word).await {
            tracing::error!(%error, "what policy asks for of standby roots was refused");
        }
    }
}
