//! `banyan agent status`: how the agent of this machine is, as it says itself at its own socket.

use std::path::PathBuf;

use agent::AgentConfig;
use console::exit::{Failure, Told, from_status};
use console::{admin_socket, output};
use proto::banyan::agent::v1::local_service_client::LocalServiceClient;
use proto::banyan::agent::v1::{
    AgentStatus, GetStatusRequest, LocalCaAddress, LocalHolder, LocalListener, LocalWorkload,
};
use serde_json::{Value, json};

use crate::args::AgentStatusOptions;
use crate::config_file;
use crate::verbs::agent::listeners;

/// Runs the verb.
///
/// # Errors
/// [`Failure::Failed`] if the agent says that something is wrong; others if it is away or refuses.
pub(super) async fn run(options: &AgentStatusOptions) -> Result<(), Failure> {
    let socket = socket(options)?;
    let channel = admin_socket::open(&socket).await.map_err(|detail| {
        let told = Told::new(format!("cannot reach the agent at {}: {detail}", socket.display()));
        Failure::Unreachable(
            told.advising("check that `banyan agent` runs here, and name its socket with --socket"),
        )
    })?;
    let answer = LocalServiceClient::new(channel).get_status(GetStatusRequest {}).await;
    let status = answer.map_err(|status| failure(&status))?.into_inner();
    match options.json {
        true => output::json(&as_json(&status))?,
        false => output::line(&as_text(&status))?,
    }
    match status.conditions.len() {
        0 => Ok(()),
        1 => Err(Failure::Failed(anyhow::anyhow!("the agent says that something is wrong"))),
        many => {
            Err(Failure::Failed(anyhow::anyhow!("the agent says that {many} things are wrong")))
        }
    }
}

/// An agent that is shutting down is away, as far as its asker is concerned; the text of a server does not fit it.
fn failure(status: &tonic::Status) -> Failure {
    match from_status(status) {
        Failure::Unreachable(_) => Failure::Unreachable(
            Told::new(format!("the agent does not answer: {}", status.message()))
                .advising("try again"),
        ),
        other => other,
    }
}

fn socket(options: &AgentStatusOptions) -> Result<PathBuf, Failure> {
    if let Some(socket) = &options.socket {
        return Ok(socket.clone());
    }
    let file = config_file::find(options.config.as_deref(), config_file::AGENT)?;
    let config =
        AgentConfig::read(&file).map_err(|error| Failure::Configuration(error.to_string()))?;
    Ok(config.socket().to_owned())
}

fn as_text(status: &AgentStatus) -> String {
    let since = output::time(status.connection_since);
    let mut lines = vec![match status.connected {
        true => format!("connected to the CA at {} since {since}", status.ca_address),
        false => format!(
            "NOT connected to the CA at {} since {since}; what was received is still served",
            status.ca_address
        ),
    }];
    lines.push(match status.sequence {
        0 => "no bundle yet".to_owned(),
        sequence => format!(
            "bundle {sequence}, digest {}, {} {}",
            output::hex(&status.bundle_digest),
            status.roots.len(),
            if status.roots.len() == 1 { "root" } else { "roots" },
        ),
    });
    lines.push(match status.id.as_str() {
        "" => "no certificate of its own yet".to_owned(),
        id => {
            format!("{id}, certificate {} until {}", status.serial, output::time(status.not_after))
        }
    });
    if status.ca_addresses.len() > 1 {
        lines.extend(status.ca_addresses.iter().filter(|row| !row.in_use).map(other_address));
    }
    lines.extend(status.conditions.iter().map(|condition| format!("! {condition}")));
    lines.extend(status.waits.iter().map(|wait| format!("waiting for {wait}")));
    let mut text = lines.join("\n");
    if !status.workloads.is_empty() {
        text.push_str(&format!("\n\n{}", workloads(&status.workloads)));
    }
    if status.workloads.iter().any(|row| !row.listeners.is_empty()) {
        text.push_str(&format!("\n\n{}", where_they_listen(&status.workloads)));
    }
    if !status.holders.is_empty() {
        text.push_str(&format!("\n\n{}", holders(&status.holders)));
    }
    text
}

/// What is known of an address of the CA that is not in use.
fn other_address(row: &LocalCaAddress) -> String {
    let led = match row.at.as_str() {
        "" => row.address.clone(),
        at if at == row.address => row.address.clone(),
        at => format!("{} ({at})", row.address),
    };
    match row.left_because.as_str() {
        "" => format!("another address of the CA: {led}"),
        why => {
            format!(
                "another address of the CA: {led}, left {}: {why}",
                output::time(row.left_since)
            )
        }
    }
}

fn workloads(rows: &[LocalWorkload]) -> output::Table {
    let mut table =
        output::table(&["IDENTITY", "CERTIFICATE", "UNTIL", "ROOT", "RENEWALS", "LAST ERROR"]);
    for row in rows {
        table.add_row([
            row.id.clone(),
            or_none(&row.serial),
            output::time(row.not_after),
            or_none(&output::hex(row.root.get(..8).unwrap_or_default())),
            row.renewals.to_string(),
            row.last_error.clone(),
        ]);
    }
    table
}

fn where_they_listen(rows: &[LocalWorkload]) -> output::Table {
    let mut table = output::table(&["IDENTITY", "LISTENER", "KNOWN FROM"]);
    for row in rows {
        for listener in &row.listeners {
            table.add_row([
                row.id.clone(),
                listeners::at(&listener.address, &listener.why_none),
                listeners::from(&listener.learnt_from),
            ]);
        }
    }
    table
}

fn holders(rows: &[LocalHolder]) -> output::Table {
    // An agent of a node tells Pods apart, and another one users.
    let by_pod = rows.iter().any(|row| !row.pod.is_empty());
    let who = if by_pod { "POD" } else { "USER" };
    let mut table = output::table(&["PROCESS", who, "CONNECTED", "ACKNOWLEDGED", "HOLDS"]);
    for row in rows {
        table.add_row([
            row.pid.to_string(),
            if by_pod { row.pod.clone() } else { row.uid.to_string() },
            if row.connected { "yes" } else { "no" }.to_owned(),
            if row.acknowledged == 0 {
                "none".to_owned()
            } else {
                format!("bundle {}", row.acknowledged)
            },
            if row.serials.is_empty() { "nothing".to_owned() } else { row.serials.join("\n") },
        ]);
    }
    table
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "none".to_owned() } else { text.to_owned() }
}

fn as_json(status: &AgentStatus) -> Value {
    let listener = |row: &LocalListener| {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        json!({
            "address": some(&row.address),
            "learnt_from": some(&row.learnt_from),
            "why_none": some(&row.why_none),
        })
    };
    let workload = |row: &LocalWorkload| {
        json!({
            "id": row.id,
            "serial": row.serial,
            "not_after": output::time(row.not_after),
            "root": output::hex(&row.root),
            "renewals": row.renewals,
            "last_error": row.last_error,
            "listeners": row.listeners.iter().map(listener).collect::<Vec<_>>(),
        })
    };
    let holder = |row: &LocalHolder| {
        json!({
            "pid": row.pid,
            "uid": row.uid,
            "pod": (!row.pod.is_empty()).then_some(&row.pod),
            "connected": row.connected,
            "serials": row.serials,
            "acknowledged": output::json_count(row.acknowledged),
        })
    };
    let address = |row: &LocalCaAddress| {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        json!({
            "address": row.address,
            "at": some(&row.at),
            "in_use": row.in_use,
            "left_since": output::time(row.left_since),
            "left_because": some(&row.left_because),
        })
    };
    json!({
        "trust_domain": status.trust_domain,
        "version": status.version,
        "ca_address": status.ca_address,
        "ca_addresses": status.ca_addresses.iter().map(address).collect::<Vec<_>>(),
        "connected": status.connected,
        "connection_since": output::time(status.connection_since),
        "sequence": output::json_count(status.sequence),
        "bundle_digest": output::hex(&status.bundle_digest),
        "roots": status.roots.iter().map(|root| output::hex(root)).collect::<Vec<_>>(),
        "id": status.id,
        "serial": status.serial,
        "not_after": output::time(status.not_after),
        "workloads": status.workloads.iter().map(workload).collect::<Vec<_>>(),
        "holders": status.holders.iter().map(holder).collect::<Vec<_>>(),
        "nacks": status.nacks,
        "conditions": status.conditions,
        "waits": status.waits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_has_nothing_yet_says_so_and_its_json_has_null_for_it() {
        let status = AgentStatus {
            ca_address: "ca:1".to_owned(),
            connection_since: 5,
            ..AgentStatus::default()
        };
        let text = as_text(&status);
        assert!(
            text.contains("NOT connected to the CA at ca:1 since 1970-01-01T00:00:05Z"),
            "{text}"
        );
        assert!(
            text.contains("no bundle yet") && text.contains("no certificate of its own yet"),
            "{text}"
        );
        assert_eq!(as_json(&status)["sequence"], Value::Null);
    }

    #[test]
    fn other_addresses_are_told_with_why_they_were_left() {
        let row = |address: &str, in_use, why: &str| LocalCaAddress {
            address: address.to_owned(),
            at: "10.0.0.1:1".to_owned(),
            in_use,
            left_since: 5,
            left_because: why.to_owned(),
        };
        let mut status = AgentStatus { ca_address: "b:1".to_owned(), ..AgentStatus::default() };
        status.ca_addresses = vec![row("a:1", false, "no answer"), row("b:1", true, "")];
        let text = as_text(&status);
        let told =
            "another address of the CA: a:1 (10.0.0.1:1), left 1970-01-01T00:00:05Z: no answer";
        assert!(text.contains(told), "{text}");
        assert_eq!(text.matches("another address").count(), 1, "{text}");
        assert_eq!(as_json(&status)["ca_addresses"][0]["left_because"], "no answer");
        assert_eq!(as_json(&status)["ca_addresses"][1]["left_because"], Value::Null);
    }

    #[test]
    fn what_is_waited_for_and_who_holds_what_stands_below_what_is_wrong() {
        let status = AgentStatus {
            sequence: 3,
            conditions: vec!["CA away: gone".to_owned()],
            waits: vec!["process 7".to_owned()],
            holders: vec![LocalHolder {
                pid: 7,
                acknowledged: 2,
                serials: vec!["ab".to_owned()],
                ..Default::default()
            }],
            ..AgentStatus::default()
        };
        let text = as_text(&status);
        let place =
            |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is not in {text}"));
        assert!(place("! CA away: gone") < place("waiting for process 7"));
        assert!(place("waiting for process 7") < place("bundle 2"));
    }
}
