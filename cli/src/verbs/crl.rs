//! `banyan crl ...`: the revocation lists, and who has them.

use console::exit::{Failure, Told, from_status};
use console::output;
use proto::banyan::admin::v1::{GetCrlRequest, GetCrlResponse, HolderWithoutList};
use serde_json::{Value, json};
use trust::certificate::crl_pem_block;
use trust::plain::counted;

use crate::admin_client;
use crate::args::{CrlAction, CrlOptions};

/// Holders that an answer for people names.
const NAMED_MAX: usize = 20;

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses, or has no lists to export.
pub async fn run(options: &CrlOptions) -> Result<(), Failure> {
    let mut client = admin_client::crls(&options.target).await?;
    let answer = client.get_crl(GetCrlRequest {}).await.map_err(|status| from_status(&status))?;
    let answer = answer.into_inner();
    match &options.action {
        CrlAction::Show { json: true } => output::json(&as_json(&answer)),
        CrlAction::Show { json: false } => show(&answer),
        CrlAction::Export { out } => {
            let pem = pem(&answer)?;
            match out {
                None => output::verbatim(pem.trim_end()),
                Some(path) => std::fs::write(path, pem).map_err(|error| {
                    let text = format!("{} cannot be written: {error}", path.display());
                    Failure::Usage(Told::new(text).advising("name another file"))
                }),
            }
        }
    }
}

fn pem(answer: &GetCrlResponse) -> Result<String, Failure> {
    if answer.lists.is_empty() {
        let told = Told::new("this server has signed no revocation list");
        return Err(Failure::Refused(told.advising(match answer.enabled {
            true => "`banyan status` says what keeps it from that",
            false => "set crl.enabled = true in its configuration, and start it again",
        })));
    }
    Ok(answer.lists.iter().map(|list| crl_pem_block(&list.der)).collect())
}

fn show(answer: &GetCrlResponse) -> Result<(), Failure> {
    if !answer.enabled {
        return output::line(
            "there are no revocation lists: crl.enabled is not set in the configuration of this server",
        );
    }
    let mut table = output::table(&["ISSUER", "ROOT", "NUMBER", "ENTRIES", "SIGNED FROM", "ENDS"]);
    for list in &answer.lists {
        table.add_row([
            output::hex(list.issuer.get(..4).unwrap_or_default()),
            output::hex(list.root.get(..4).unwrap_or_default()),
            list.number.to_string(),
            list.entries.to_string(),
            output::time(list.this_update),
            output::time(list.next_update),
        ]);
    }
    output::line(&table.to_string())?;
    said(answer).iter().try_for_each(|line| output::line(line))
}

fn said(answer: &GetCrlResponse) -> Vec<String> {
    let mut lines = Vec::new();
    if !answer.without.is_empty() {
        lines.push(format!("agents do without: {}", answer.without));
    }
    if answer.changed_number > 0 {
        lines.push(format!(
            "the entries are those of number {}, since {}: {} of {} behind agents {} them",
            answer.changed_number,
            output::time(answer.changed_at),
            answer.holders_with,
            counted(answer.holders, "leaf", "leaves"),
            if answer.holders == 1 { "has" } else { "have" }
        ));
    }
    lines.extend(answer.lacking.iter().take(NAMED_MAX).map(lacks));
    let lacking = answer.holders.saturating_sub(answer.holders_with);
    let further = lacking.saturating_sub(u64::try_from(NAMED_MAX).unwrap_or(u64::MAX));
    if further > 0 {
        lines.push(format!("and {further} more without them"));
    }
    if answer.beyond_agents > 0 {
        lines.push(format!(
            "{} without an agent: whoever holds one takes no list from here (`banyan crl export`)",
            counted(answer.beyond_agents, "leaf is", "leaves are")
        ));
    }
    lines
}

fn lacks(holder: &HolderWithoutList) -> String {
    let has = match holder.has {
        0 => "has none".to_owned(),
        number => format!("has number {number}"),
    };
    let since = match holder.since {
        0 => "nothing was heard of it".to_owned(),
        since => format!("since {}", output::time(since)),
    };
    let away = if holder.agent_connected { "" } else { ", which is not connected" };
    format!("  {} behind agent {}{away}: {has}, {since}", holder.identity, holder.agent)
}

fn as_json(answer: &GetCrlResponse) -> Value {
    let list = |list: &proto::banyan::admin::v1::RevocationList| {
        json!({
            "issuer": output::hex(&list.issuer),
            "root": output::hex(&list.root),
            "number": list.number,
            "entries": list.entries,
            "this_update": output::time(list.this_update),
            "next_update": output::time(list.next_update),
        })
    };
    let lacking = |holder: &HolderWithoutList| {
        json!({
            "serial": output::hex(&holder.serial),
            "identity": holder.identity,
            "agent": holder.agent,
            "agent_connected": holder.agent_connected,
            "has": (holder.has > 0).then_some(holder.has),
            "since": (holder.since != 0).then(|| output::time(holder.since)),
        })
    };
    json!({
        "enabled": answer.enabled,
        "number": (answer.number > 0).then_some(answer.number),
        "changed_number": (answer.changed_number > 0).then_some(answer.changed_number),
        "changed_at": (answer.changed_at != 0).then(|| output::time(answer.changed_at)),
        "without": Some(&answer.without).filter(|why| !why.is_empty()),
        "keep_seconds": (answer.keep_seconds > 0).then_some(answer.keep_seconds),
        "lists": answer.lists.iter().map(list).collect::<Vec<_>>(),
        "holders": answer.holders,
        "holders_with": answer.holders_with,
        "lacking": answer.lacking.iter().map(lacking).collect::<Vec<_>>(),
        "beyond_agents": answer.beyond_agents,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_the_newest_entries_is_named_with_what_it_has_and_since_when() {
        let holder = |has, since, agent_connected| HolderWithoutList {
            identity: "spiffe://example.org/web".to_owned(),
            agent: "node-1".to_owned(),
            agent_connected,
            has,
            since,
            ..HolderWithoutList::default()
        };
        let answer = GetCrlResponse {
            enabled: true,
            number: 9,
            changed_number: 8,
            holders: 30,
            holders_with: 5,
            lacking: vec![holder(7, 1_800_000_000, true), holder(0, 0, false)],
            beyond_agents: 1,
            ..GetCrlResponse::default()
        };
        let text = said(&answer).join("\n");
        for words in [
            "number 8",
            "5 of 30 leaves behind agents have them",
            "behind agent node-1: has number 7, since 2027-01-15",
            "node-1, which is not connected: has none, nothing was heard of it",
            "and 5 more without them",
            "1 leaf is without an agent",
        ] {
            assert!(text.contains(words), "{words} is missing in: {text}");
        }
        let failed = pem(&GetCrlResponse::default()).unwrap_err().to_string();
        assert!(failed.contains("crl.enabled"), "{failed}");
    }
}
