//! `banyan relying-party ...`: who relies on the bundle without a leaf of this CA.

use std::time::Duration;

use console::exit::{Failure, from_status};
use console::output;
use proto::banyan::admin::v1::{
    AddRelyingPartyRequest, ConfirmRelyingPartyRequest, ListRelyingPartiesRequest, RelyingParty,
    RemoveRelyingPartyRequest,
};
use serde_json::{Value, json};
use trust::plain::span;

use crate::admin_client;
use crate::args::{RelyingPartyAction, RelyingPartyOptions};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses.
pub async fn run(options: &RelyingPartyOptions) -> Result<(), Failure> {
    let mut client = admin_client::rotations(&options.target).await?;
    let failed = |status: tonic::Status| from_status(&status);
    let party = match &options.action {
        RelyingPartyAction::List => {
            let (mut relying_parties, mut asked) =
                (Vec::new(), ListRelyingPartiesRequest::default());
            loop {
                let page = client.list_relying_parties(asked).await.map_err(failed)?.into_inner();
                relying_parties.extend(page.relying_parties);
                if page.next.is_empty() {
                    return list(&relying_parties, options.json);
                }
                asked = ListRelyingPartiesRequest { after: page.next, limit: 0 };
            }
        }
        RelyingPartyAction::Add { name, staleness, covers, covers_nobody, word } => {
            let seconds =
                staleness.map_or(0, |bound| i64::try_from(bound.as_secs()).unwrap_or(i64::MAX));
            let (name, covers, covers_nobody) = (name.clone(), covers.clone(), *covers_nobody);
            let (by, reason) = (word.by(), word.reason());
            let request = AddRelyingPartyRequest {
                name,
                staleness_seconds: seconds,
                covers,
                by,
                reason,
                covers_nobody,
            };
            client.add_relying_party(request).await.map_err(failed)?.into_inner()
        }
        RelyingPartyAction::Confirm { name, sequence, word } => {
            let (name, by, reason) = (name.clone(), word.by(), word.reason());
            let request = ConfirmRelyingPartyRequest { name, sequence: *sequence, by, reason };
            client.confirm_relying_party(request).await.map_err(failed)?.into_inner()
        }
        RelyingPartyAction::Remove { name, word } => {
            let request = RemoveRelyingPartyRequest {
                name: name.clone(),
                by: word.by(),
                reason: word.reason(),
            };
            client.remove_relying_party(request).await.map_err(failed)?;
            return match options.json {
                true => output::json(&json!({ "removed": name })),
                false => output::line(&format!("removed {name}: no gate waits for it any more")),
            };
        }
    };
    if options.json { output::json(&as_json(&party)) } else { list(&[party], false) }
}

fn list(relying_parties: &[RelyingParty], json: bool) -> Result<(), Failure> {
    if json {
        return output::json(
            &json!({ "relying_parties": relying_parties.iter().map(as_json).collect::<Vec<_>>() }),
        );
    }
    let mut table =
        output::table(&["RELYING PARTY", "STALENESS", "CONFIRMED", "BY", "AT", "ADDED", "COVERS"]);
    for party in relying_parties {
        table.add_row([
            party.name.clone(),
            match party.staleness_seconds {
                0 => "until confirmed".to_owned(),
                seconds => span(Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX))),
            },
            if party.confirmed == 0 {
                "-".to_owned()
            } else {
                format!("bundle {}", party.confirmed)
            },
            party.confirmed_by.clone(),
            output::time(party.confirmed_at),
            output::time(party.added_at),
            party.covers.join("\n"),
        ]);
    }
    output::line(&table.to_string())
}

fn as_json(party: &RelyingParty) -> Value {
    json!({
        "name": party.name,
        "staleness_seconds": output::json_count(party.staleness_seconds),
        "confirmed": output::json_count(party.confirmed),
        "confirmed_by": party.confirmed_by,
        "confirmed_at": output::time(party.confirmed_at),
        "added_at": output::time(party.added_at),
        "covers": party.covers,
    })
}
