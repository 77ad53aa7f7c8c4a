//! What the Envoys of agents' workloads count of handshakes: `banyan agent list --handshakes`.

use console::output;
use proto::banyan::admin::v1::{Agent, HandshakeTally};
use serde_json::{Value, json};

/// One line for each identity of each agent that reads counters.
pub(super) fn table(agents: &[Agent]) -> String {
    let mut table = output::table(&[
        "AGENT",
        "IDENTITY",
        "HANDSHAKES",
        "FAILED",
        "PEERS REFUSED",
        "SINCE",
        "SEEN",
        "ENVOYS",
    ]);
    let mut is_empty = true;
    for agent in agents {
        for tally in &agent.handshakes {
            is_empty = false;
            table.add_row([
                agent.id.clone(),
                tally.spiffe_id.clone(),
                tally.handshakes.to_string(),
                tally.connection_errors.to_string(),
                tally.refused_peers.to_string(),
                output::time(tally.since),
                output::time(tally.seen_at),
                envoys(tally),
            ]);
        }
    }
    match is_empty {
        true => "no agent reads the counters of an Envoy: `envoy_admin` of agent.toml names where they are".to_owned(),
        false => table.to_string(),
    }
}

fn envoys(tally: &HandshakeTally) -> String {
    match tally.silent_endpoints {
        0 => tally.endpoints.to_string(),
        silent => format!("{}, {silent} without an answer", tally.endpoints),
    }
}

/// One identity.
pub(super) fn as_json(tally: &HandshakeTally) -> Value {
    json!({
        "identity": tally.spiffe_id,
        "since": output::time(tally.since),
        "seen": output::time(tally.seen_at),
        "handshakes": tally.handshakes,
        "connection_errors": tally.connection_errors,
        "refused_peers": tally.refused_peers,
        "envoys": tally.endpoints,
        "envoys_without_answer": tally.silent_endpoints,
    })
}
