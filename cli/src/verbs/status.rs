//! `banyan status`.

use console::exit::{Failure, from_status};
use console::output;
use proto::banyan::admin::v1::{StatusRequest, StatusResponse};
use serde_json::{Value, json};

use crate::admin_client;
use crate::args::StatusOptions;
use crate::verbs::replica;

/// Runs the verb.
///
/// # Errors
/// [`Failure::Failed`] (exit code 1) if the server says that it is unhealthy, after its status was printed; others if
/// it is away or refuses.
pub async fn run(options: &StatusOptions) -> Result<(), Failure> {
    let mut client = admin_client::connect(&options.target).await?;
    let status =
        client.status(StatusRequest {}).await.map_err(|status| from_status(&status))?.into_inner();
    if options.json {
        output::json(&as_json(&status))?;
    } else {
        let whose = match status.agents_total {
            0 => String::new(),
            _ => replica::whose_word(&options.target).await,
        };
        output::line(&(as_text(&status) + &whose))?;
    }
    if status.healthy {
        return Ok(());
    }
    Err(Failure::Failed(anyhow::anyhow!(
        "the server is not healthy: {}",
        status.conditions.join("; ")
    )))
}

fn as_text(status: &StatusResponse) -> String {
    let ledger = status.ledger.clone().unwrap_or_default();
    let mut text = format!(
        "{} {} (replica {}, version {}, up since {})\n\
         phase {}, bundle sequence {}, digest {}, generation {}\n\
         active root {}, issuer valid until {}\n\
         issued {}, refused {}, live leaves {}, not yet proven {}",
        status.trust_domain,
        if status.healthy { "healthy" } else { "NOT HEALTHY" },
        status.replica,
        status.version,
        output::time(status.started_at),
        match status.ending.as_str() {
            "" => status.phase.clone(),
            ending => format!("{} (rotation {ending}, still finishing)", status.phase),
        },
        status.sequence,
        output::hex(status.bundle_digest.get(..8).unwrap_or_default()),
        status.generation,
        output::hex(status.active_root.get(..8).unwrap_or_default()),
        output::time(status.issuer_not_after),
        status.issued_total,
        status.refused_total,
        ledger.live_rows,
        ledger.unproven_rows,
    );
    for condition in &status.conditions {
        text.push_str(&format!("\n! {condition}"));
    }
    for waiting in &status.waiting {
        text.push_str(&format!("\nwaiting for a person: {waiting}"));
    }
    if status.agents_total > 0 || status.bans > 0 {
        text.push_str(&format!(
            "\nagents {}, connected {}, not known to have the bundle in force {}, banned names {}",
            status.agents_total, status.agents_connected, status.agents_behind, status.bans
        ));
    }
    let shown = u64::try_from(status.agents.len()).unwrap_or(u64::MAX);
    if shown < status.agents_total {
        text.push_str(&format!("; {shown} are shown, `banyan agent list` shows all"));
    }
    if !status.agents.is_empty() {
        let mut table = output::table(&[
            "AGENT",
            "CONNECTED",
            "LAST SEEN",
            "SEQUENCE",
            "LEAVES",
            "NACKS",
            "LAST NACK",
        ]);
        for agent in &status.agents {
            table.add_row([
                agent.id.clone(),
                if agent.connected { "yes" } else { "no" }.to_owned(),
                output::time(agent.last_seen),
                agent.sequence.to_string(),
                agent.live_rows.to_string(),
                agent.nacks.to_string(),
                agent.last_nack.clone(),
            ]);
        }
        text.push_str(&format!("\n\n{table}"));
    }
    text
}

fn as_json(status: &StatusResponse) -> Value {
    let ledger = status.ledger.clone().unwrap_or_default();
    let agents: Vec<_> = status
        .agents
        .iter()
        .map(|agent| {
            json!({
                "id": agent.id,
                "connected": agent.connected,
                "last_seen": output::time(agent.last_seen),
                "sequence": output::json_count(agent.sequence),
                "live_rows": agent.live_rows,
                "nacks": agent.nacks,
                "last_nack": agent.last_nack,
                "build": agent.build,
            })
        })
        .collect();
    json!({
        "healthy": status.healthy,
        "conditions": status.conditions,
        "waiting": status.waiting,
        "trust_domain": status.trust_domain,
        "replica": status.replica,
        "version": status.version,
        "ca_id": status.ca_id,
        "started_at": output::time(status.started_at),
        "phase": status.phase,
        "ending": status.ending,
        "generation": status.generation,
        "sequence": status.sequence,
        "bundle_digest": output::hex(&status.bundle_digest),
        "active_root": output::hex(&status.active_root),
        "issuer_not_after": output::time(status.issuer_not_after),
        "issued_total": status.issued_total,
        "refused_total": status.refused_total,
        "ledger": {
            "segment": ledger.segment,
            "live_rows": ledger.live_rows,
            "unproven_rows": ledger.unproven_rows,
            "files": ledger.files,
            "bytes": ledger.bytes,
        },
        "agents": agents,
        "agents_total": status.agents_total,
        "agents_connected": status.agents_connected,
        "agents_behind": status.agents_behind,
        "bans": status.bans,
    })
}
