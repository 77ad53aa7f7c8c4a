//! The task that keeps the registry's account of agents: who was seen is written down, who was not for long is forgotten.

use std::time::Duration;

use registry::AgentRegistry;
use tokio::time::MissedTickBehavior;

const EVERY: Duration = Duration::from_secs(60);

/// Works until it is dropped.
pub async fn run(registry: AgentRegistry) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match registry.tend().await {
            Ok(forgotten) => forgotten.iter().for_each(|agent| registry.sessions().forget(agent)),
            // Said by `status`, as a level.
            Err(error) => tracing::debug!(%error, "the account of agents is not written"),
        }
    }
}
