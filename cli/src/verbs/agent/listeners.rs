//! Where workloads listen, as their agents know it: `banyan agent list --listeners`.

use console::output;
use proto::banyan::admin::v1::{Agent, AgentListener};
use serde_json::{Value, json};

/// One line for each listener, and for each process without one.
pub(super) fn table(agents: &[Agent]) -> String {
    let mut table = output::table(&["AGENT", "IDENTITY", "LISTENER", "KNOWN FROM"]);
    let mut is_empty = true;
    for agent in agents {
        for listener in &agent.listeners {
            is_empty = false;
            table.add_row([
                agent.id.clone(),
                listener.spiffe_id.clone(),
                at(&listener.address, &listener.why_none),
                from(&listener.learnt_from),
            ]);
        }
    }
    match is_empty {
        true => "no agent that is connected knows where a workload listens: `listeners` or `envoy_admin` of agent.toml says it".to_owned(),
        false => table.to_string(),
    }
}

/// Where it is, or why it is not known.
pub(super) fn at(address: &str, why_none: &str) -> String {
    match address {
        "" => format!("none: {why_none}"),
        address => address.to_owned(),
    }
}

/// Who says so.
pub(super) fn from(learnt_from: &str) -> String {
    match learnt_from {
        "" => "agent.toml".to_owned(),
        admin => format!("Envoy at {admin}"),
    }
}

/// One listener.
pub(super) fn as_json(listener: &AgentListener) -> Value {
    let or_null = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "identity": listener.spiffe_id,
        "address": or_null(&listener.address),
        "learnt_from": or_null(&listener.learnt_from),
        "why_none": or_null(&listener.why_none),
    })
}
