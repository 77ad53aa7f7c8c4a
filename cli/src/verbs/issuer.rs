//! `banyan issuer renew` and `banyan issuer cancel`: the certificate that signs leaves, under the root that there is.

use console::exit::Failure;
use console::output;
use proto::banyan::admin::v1::RenewIssuerRequest;
use serde_json::json;

use super::request::{lost_or_refused, request_id};
use super::root::known;
use crate::admin_client;
use crate::args::{IssuerAction, IssuerOptions};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses; [`Failure::Unknown`] if its answer was lost.
pub async fn run(options: &IssuerOptions) -> Result<(), Failure> {
    let (which, cancel) = match &options.action {
        IssuerAction::Renew(which) => (which, false),
        IssuerAction::Cancel(which) => (which, true),
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
