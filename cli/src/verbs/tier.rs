//! `banyan tier ...`: CAs one tier below.

use console::exit::{Failure, Told, from_status};
use console::output;
use proto::banyan::tier::v1::{AddTierRequest, ListTiersRequest, RemoveTierRequest, Tier};
use serde_json::{Value, json};

use super::token::write_secret;
use crate::admin_client;
use crate::args::{TierAction, TierOptions};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses, or the file for the token exists.
pub async fn run(options: &TierOptions) -> Result<(), Failure> {
    let mut client = admin_client::tiers(&options.target).await?;
    let failed = |status: tonic::Status| from_status(&status);
    match &options.action {
        TierAction::List => {
            let listed = client.list_tiers(ListTiersRequest {}).await.map_err(failed)?.into_inner();
            list(&listed.tiers, options.json)
        }
        TierAction::Add { name, out, word } => {
            if out.as_ref().is_some_and(|file| file.exists()) {
                let told = Told::new("the file for the token exists");
                return Err(Failure::Usage(told.advising("name a new one with --out")));
            }
            let request = AddTierRequest { name: name.clone(), by: word.by(), reason: word.reason() };
            let added = client.add_tier(request).await.map_err(failed)?;
            let token = added.into_inner().token;
            if let Some(file) = out {
                write_secret(file, &token)?;
            }
            match (options.json, out) {
                (true, out) => {
                    let shown = out.is_none().then_some(&token);
                    output::json(&json!({ "name": name, "token": shown, "file": out }))
                }
                (false, Some(file)) => {
                    output::line(&format!("token of tier {name} written to {}", file.display()))
                }
                (false, None) => output::line(&token),
            }
        }
        TierAction::Remove { name, word } => {
            let request = RemoveTierRequest { name: name.clone(), by: word.by(), reason: word.reason() };
            client.remove_tier(request).await.map_err(failed)?;
            match options.json {
                true => output::json(&json!({ "removed": name })),
                false => output::line(&format!("removed {name}: no gate waits for it any more")),
            }
        }
    }
}

fn list(tiers: &[Tier], json: bool) -> Result<(), Failure> {
    if json {
        return output::json(&json!({ "tiers": tiers.iter().map(as_json).collect::<Vec<_>>() }));
    }
    let mut table = output::table(&["TIER", "ADDED", "ISSUERS", "UNTIL", "REPORTED", "HAS", "WAITS FOR"]);
    for tier in tiers {
        table.add_row([
            tier.name.clone(),
            output::time(tier.added_at),
            tier.live_issuers.to_string(),
            output::time(tier.issuers_until),
            output::time(tier.reported_at),
            match tier.applied_sequence {
                0 => "-".to_owned(),
                sequence => format!("bundle {sequence}"),
            },
            tier.waits_for.join("\n"),
        ]);
    }
    output::line(&table.to_string())
}

fn as_json(tier: &Tier) -> Value {
    json!({
        "name": tier.name,
        "added_at": output::time(tier.added_at),
        "live_issuers": tier.live_issuers,
        "issuers_until": output::time(tier.issuers_until),
        "reported_at": output::time(tier.reported_at),
        "applied_sequence": output::json_count(tier.applied_sequence),
        "waits_for": tier.waits_for,
    })
}
