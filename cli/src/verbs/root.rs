//! `banyan root list`.

use proto::banyan::admin::v1::{ListRootsRequest, Root};
use serde_json::{Value, json};

use crate::args::{RootAction, RootListOptions, RootOptions};
use crate::exit::{Failure, from_status};
use crate::{admin_client, output};

/// States in which a root stands in the bundle.
const TRUSTED: [&str; 3] = ["published", "active", "draining"];

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses.
pub async fn run(options: &RootOptions) -> Result<(), Failure> {
    match &options.action {
        RootAction::List(options) => list(options).await,
    }
}

async fn list(options: &RootListOptions) -> Result<(), Failure> {
    let mut client = admin_client::connect(&options.target).await?;
    let roots = client
        .list_roots(ListRootsRequest {})
        .await
        .map_err(|status| from_status(&status))?
        .into_inner()
        .roots;
    if options.pem {
        let trusted = roots.iter().filter(|root| TRUSTED.contains(&root.state.as_str()));
        let pem: String = trusted.map(|root| trust::certificate::pem_block(&root.der)).collect();
        return output::line(pem.trim_end());
    }
    if options.json {
        return output::json(&json!({ "roots": roots.iter().map(as_json).collect::<Vec<_>>() }));
    }
    let mut table =
        output::table(&["ROOT", "STATE", "AUTHORITY", "NOT AFTER", "HORIZON", "LIVE LEAVES", "SUBJECT"]);
    for root in &roots {
        table.add_row([
            output::hex(root.id.get(..8).unwrap_or_default()),
            format!("{}{}", root.state, if root.tainted { " (tainted)" } else { "" }),
            root.authority.clone(),
            output::time(root.not_after),
            output::time(root.horizon),
            root.live_rows.to_string(),
            root.subject.clone(),
        ]);
    }
    output::line(&table.to_string())
}

fn as_json(root: &Root) -> Value {
    let issuers: Vec<_> = root
        .issuers
        .iter()
        .map(|issuer| {
            json!({
                "id": output::hex(&issuer.id),
                "subject": issuer.subject,
                "not_before": output::time(issuer.not_before),
                "not_after": output::time(issuer.not_after),
                "active": issuer.active,
            })
        })
        .collect();
    json!({
        "id": output::hex(&root.id),
        "state": root.state,
        "tainted": root.tainted,
        "authority": root.authority,
        "subject": root.subject,
        "not_before": output::time(root.not_before),
        "not_after": output::time(root.not_after),
        "horizon": output::time(root.horizon),
        "live_rows": root.live_rows,
        "issuers": issuers,
    })
}
