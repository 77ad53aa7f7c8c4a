//! `banyan waiver ...`: whose trust gates do not wait for, by somebody's word and for a time.

use console::exit::{Failure, from_status};
use console::output;
use proto::banyan::admin::v1::{
    AddWaiverRequest, AddWaiverResponse, ListWaiversRequest, RemoveWaiverRequest, Waiver,
};
use serde_json::{Value, json};
use trust::plain::counted;

use crate::admin_client;
use crate::args::{WaiverAction, WaiverOptions};

/// Leaves that an answer for people names.
const NAMED_MAX: usize = 20;

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses.
pub async fn run(options: &WaiverOptions) -> Result<(), Failure> {
    let mut client = admin_client::waivers(&options.target).await?;
    let failed = |status: tonic::Status| from_status(&status);
    match &options.action {
        WaiverAction::List => {
            let (mut waivers, mut asked) = (Vec::new(), ListWaiversRequest::default());
            loop {
                let page = client.list_waivers(asked).await.map_err(failed)?.into_inner();
                waivers.extend(page.waivers);
                if page.next.is_empty() {
                    return list(&waivers, options.json);
                }
                asked = ListWaiversRequest { after: page.next, limit: 0 };
            }
        }
        WaiverAction::Add { name, covers, lasts, word, force, dry_run } => {
            let request = AddWaiverRequest {
                name: name.clone(),
                covers: covers.clone(),
                lasts_seconds: i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX),
                by: word.by(),
                reason: word.reason.clone(),
                force: *force,
                dry_run: *dry_run,
                ..AddWaiverRequest::default()
            };
            let answer = client.add_waiver(request).await.map_err(failed)?.into_inner();
            match options.json {
                true => output::json(&said_json(&answer, *dry_run)),
                false => output::line(&said(&answer, *dry_run)),
            }
        }
        WaiverAction::Remove { name, word } => {
            let request =
                RemoveWaiverRequest { name: name.clone(), by: word.by(), reason: word.reason() };
            client.remove_waiver(request).await.map_err(failed)?;
            match options.json {
                true => output::json(&json!({ "removed": name })),
                false => {
                    let text = match name.strip_prefix("kubernetes/") {
                        Some(object) => format!(
                            "removed {name}: gates wait again for whom it covered, until `banyan kubernetes` finds the Waiver \
                             {object} and adds it again: delete that one"
                        ),
                        None => format!("removed {name}: gates wait again for whom it covered"),
                    };
                    output::line(&text)
                }
            }
        }
    }
}

fn list(waivers: &[Waiver], json: bool) -> Result<(), Failure> {
    if json {
        let waivers: Vec<_> = waivers.iter().map(as_json).collect();
        return output::json(&json!({ "waivers": waivers }));
    }
    let mut table = output::table(&["WAIVER", "UNTIL", "STANDS", "BY", "REASON", "AT", "COVERS"]);
    for waiver in waivers {
        table.add_row([
            waiver.name.clone(),
            output::time(waiver.until),
            if waiver.stands { "yes" } else { "over" }.to_owned(),
            waiver.by.clone(),
            waiver.reason.clone(),
            output::time(waiver.at),
            waiver.covers.join("\n"),
        ]);
    }
    output::line(&table.to_string())
}

fn said(answer: &AddWaiverResponse, dry_run: bool) -> String {
    let waiver = answer.waiver.clone().unwrap_or_default();
    let mut lines: Vec<_> =
        answer.leaves.iter().take(NAMED_MAX).map(|letting| letting.risk.clone()).collect();
    let further = answer.leaves_total.saturating_sub(lines.len() as u64);
    if further > 0 {
        lines.push(format!("and {further} more"));
    }
    let gate = match (answer.gate.as_str(), dry_run) {
        ("", _) => "no gate of a rotation waits for trust now".to_owned(),
        (gate, true) => format!(
            "the {gate} gate waits for {} of this CA; it would go on without these",
            counted(answer.holds_before, "leaf", "leaves")
        ),
        (gate, false) => format!(
            "the {gate} gate waited for {} of this CA, and goes on without these",
            counted(answer.holds_before, "leaf", "leaves")
        ),
    };
    lines.push(gate);
    let verb = if dry_run { "would stand" } else { "stands" };
    lines.push(format!(
        "waiver {} {verb} until {} for {}",
        waiver.name,
        output::time(waiver.until),
        waiver.covers.join(", ")
    ));
    lines.join("\n")
}

fn said_json(answer: &AddWaiverResponse, dry_run: bool) -> Value {
    let leaves: Vec<_> = answer
        .leaves
        .iter()
        .map(|letting| {
            let leaf = letting.leaf.clone().unwrap_or_default();
            json!({
                "serial": output::hex(&leaf.serial),
                "identity": leaf.identity,
                "held": letting.held,
                "risk": letting.risk,
            })
        })
        .collect();
    json!({
        "dry_run": dry_run,
        "waiver": answer.waiver.as_ref().map(as_json),
        "leaves": leaves,
        "leaves_total": answer.leaves_total,
        "gate": (!answer.gate.is_empty()).then_some(&answer.gate),
        "waited_for_before": answer.holds_before,
    })
}

fn as_json(waiver: &Waiver) -> Value {
    json!({
        "name": waiver.name,
        "covers": waiver.covers,
        "until": output::time(waiver.until),
        "stands": waiver.stands,
        "by": waiver.by,
        "reason": waiver.reason,
        "at": output::time(waiver.at),
    })
}
