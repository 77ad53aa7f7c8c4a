//! `banyan downstream ...`: downstream CAs.

use console::exit::{Failure, Told, from_status};
use console::output;
use proto::banyan::downstream::v1::{
    AddDownstreamRequest, Downstream, ListDownstreamsRequest, RemoveDownstreamRequest,
};
use serde_json::{Value, json};

use super::token::write_secret;
use crate::admin_client;
use crate::args::{DownstreamAction, DownstreamOptions};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses, or the file for the token exists.
pub async fn run(options: &DownstreamOptions) -> Result<(), Failure> {
    let mut client = admin_client::downstreams(&options.target).await?;
    let failed = |status: tonic::Status| from_status(&status);
    match &options.action {
        DownstreamAction::List => {
            let listed = client
                .list_downstreams(ListDownstreamsRequest {})
                .await
                .map_err(failed)?
                .into_inner();
            list(&listed.downstreams, options.json)
        }
        DownstreamAction::Add { name, neighbor, out, word } => {
            if out.as_ref().is_some_and(|file| file.exists()) {
                let told = Told::new("the file for the token exists");
                return Err(Failure::Usage(told.advising("name a new one with --out")));
            }
            let (name_of_it, neighbor) = (name.clone(), *neighbor);
            let (by, reason) = (word.by(), word.reason());
            let request = AddDownstreamRequest { name: name_of_it, by, reason, neighbor };
            let added = client.add_downstream(request).await.map_err(failed)?;
            let token = added.into_inner().token;
            if let Some(file) = out {
                write_secret(file, &token)?;
            }
            match (options.json, out) {
                (true, out) => {
                    let shown = out.is_none().then_some(&token);
                    output::json(&json!({ "name": name, "token": shown, "file": out }))
                }
                (false, Some(file)) => output::line(&format!(
                    "token of {} {name} written to {}",
                    if neighbor { "neighbor" } else { "downstream CA" },
                    file.display()
                )),
                (false, None) => output::verbatim(&token),
            }
        }
        DownstreamAction::Remove { name, word } => {
            let request = RemoveDownstreamRequest {
                name: name.clone(),
                by: word.by(),
                reason: word.reason(),
            };
            client.remove_downstream(request).await.map_err(failed)?;
            match options.json {
                true => output::json(&json!({ "removed": name })),
                false => output::line(&format!("removed {name}: no gate waits for it any more")),
            }
        }
    }
}

fn list(downstreams: &[Downstream], json: bool) -> Result<(), Failure> {
    if json {
        return output::json(
            &json!({ "downstreams": downstreams.iter().map(as_json).collect::<Vec<_>>() }),
        );
    }
    let mut table = output::table(&[
        "DOWNSTREAM CA",
        "ADDED",
        "ISSUERS",
        "UNTIL",
        "REPORTED",
        "HAS",
        "WAITS FOR",
    ]);
    for downstream in downstreams {
        table.add_row([
            downstream.name.clone(),
            output::time(downstream.added_at),
            match downstream.neighbor {
                true => "neighbor".to_owned(),
                false => downstream.live_issuers.to_string(),
            },
            output::time(downstream.issuers_until),
            output::time(downstream.reported_at),
            match downstream.applied_sequence {
                0 => "-".to_owned(),
                sequence => format!("bundle {sequence}"),
            },
            downstream.waits_for.join("\n"),
        ]);
    }
    output::line(&table.to_string())
}

fn as_json(downstream: &Downstream) -> Value {
    json!({
        "name": downstream.name,
        "added_at": output::time(downstream.added_at),
        "neighbor": downstream.neighbor,
        "live_issuers": downstream.live_issuers,
        "issuers_until": output::time(downstream.issuers_until),
        "reported_at": output::time(downstream.reported_at),
        "applied_sequence": output::json_count(downstream.applied_sequence),
        "waits_for": downstream.waits_for,
    })
}
