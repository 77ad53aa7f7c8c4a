//! `banyan issuer renew`, `banyan issuer cancel` and `banyan issuer distrust`: the certificate that signs leaves, under the root that there is.

use console::exit::{Failure, Told};
use console::output;
use proto::banyan::admin::v1::{DistrustIssuerRequest, RenewIssuerRequest};
use serde_json::json;

use super::request::{lost_or_refused, request_id};
use super::root::known;
use crate::admin_client;
use crate::args::{AdminTarget, IssuerAction, IssuerDistrustOptions, IssuerOptions};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses; [`Failure::Unknown`] if its answer was lost.
pub async fn run(options: &IssuerOptions) -> Result<(), Failure> {
    let (which, cancel) = match &options.action {
        IssuerAction::Renew(which) => (which, false),
        IssuerAction::Cancel(which) => (which, true),
        IssuerAction::Distrust(which) => return distrust(options, which, false).await,
        IssuerAction::TrustAgain(which) => return distrust(options, which, true).await,
    };
    let request_id = request_id(which.request_id.as_deref(), "issuer");
    let root = match &which.root {
        Some(root) => known::id_of(&options.target, root).await?,
        None => Vec::new(),
    };
    let mut client = admin_client::authorities(&options.target).await?;
    let (by, reason) = (which.word.by(), which.word.reason());
    let request = RenewIssuerRequest { request_id: request_id.clone(), root, cancel, by, reason };
    let answer = client.renew_issuer(request).await;
    let answer = answer.map_err(|status| lost_or_refused(&status, &request_id))?.into_inner();
    let (short, authority) =
        (output::hex(answer.root.get(..4).unwrap_or_default()), answer.authority);
    if options.json {
        let root = output::hex(&answer.root);
        return output::json(
            &json!({ "request_id": request_id, "root": root, "authority": authority, "cancelled": cancel }),
        );
    }
    output::line(&match cancel {
        true => format!(
            "the renewal of the issuer under root {short} is cancelled; the current issuer keeps signing, and the server \
             tries again after an hour, or at `banyan issuer renew`"
        ),
        false => format!(
            "requested a new issuer under root {short} from authority {authority}, request id {request_id}; `banyan root \
             show {short}` shows it once it has arrived, and `banyan status` says what delays it"
        ),
    })
}

async fn distrust(
    options: &IssuerOptions,
    which: &IssuerDistrustOptions,
    trust_again: bool,
) -> Result<(), Failure> {
    let request_id = request_id(which.request_id.as_deref(), "issuer");
    let issuer = id_of(&options.target, &which.issuer).await?;
    let request = DistrustIssuerRequest {
        request_id: request_id.clone(),
        issuer: issuer.clone(),
        trust_again,
        by: which.word.by(),
        reason: which.word.reason.clone(),
        dry_run: which.dry_run,
    };
    let mut client = admin_client::authorities(&options.target).await?;
    let answer = client.distrust_issuer(request).await;
    let answer = answer.map_err(|status| lost_or_refused(&status, &request_id))?.into_inner();
    let exposure = answer.exposure.unwrap_or_default();
    if options.json {
        return output::json(&json!({
            "dry_run": which.dry_run,
            "request_id": request_id,
            "issuer": output::hex(&issuer),
            "root": output::hex(&answer.root),
            "authority": answer.authority,
            "distrusted": !trust_again,
            "leaves": exposure.leaves,
            "workloads": exposure.workloads,
            "reachable": exposure.reachable,
            "said": answer.said,
        }));
    }
    let short = output::hex(issuer.get(..4).unwrap_or_default());
    let mut lines = answer.said;
    lines.push(match (trust_again, which.dry_run) {
        (false, true) => format!("issuer {short} would be distrusted"),
        (false, false) => format!(
            "issuer {short} is distrusted; `banyan status` says what is left of it, until nothing is"
        ),
        (true, true) => format!("issuer {short} would be trusted again"),
        (true, false) => format!("issuer {short} is trusted again"),
    });
    output::line(&lines.join("\n"))
}

/// The issuer of the record whose fingerprint begins so.
async fn id_of(target: &AdminTarget, digits: &str) -> Result<Vec<u8>, Failure> {
    let wanted: String = digits.chars().filter(|digit| *digit != ':').collect();
    let wanted = wanted.to_ascii_lowercase();
    let roots = known::fetch(target).await?;
    let issuers = roots.iter().flat_map(|root| &root.issuers);
    let mut found = issuers.filter(|issuer| output::hex(&issuer.id).starts_with(&wanted));
    let told = |text: String| {
        let advice = "`banyan root show ROOT` shows the issuers under a root";
        Failure::Usage(Told::new(text).advising(advice))
    };
    match (found.next(), found.next()) {
        (Some(one), None) if !wanted.is_empty() => Ok(one.id.clone()),
        (None, _) => Err(told(format!("no issuer has a fingerprint that begins with {digits}"))),
        _ => Err(told(format!("several issuers have fingerprints that begin with {digits}"))),
    }
}
