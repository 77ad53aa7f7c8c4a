//! `banyan root list|show|attest|prune`; what is said of one root is in `ruling`.

pub mod known;
mod ruling;

use console::exit::{Failure, from_status};
use console::output;
use proto::banyan::admin::v1::{AttestRootRequest, PruneRootsRequest, PruneRootsResponse, Root};
use serde_json::json;

use crate::admin_client;
use crate::args::{
    RootAction, RootAttestOptions, RootListOptions, RootOptions, RootPruneOptions, RootShowOptions,
};
use crate::verbs::request::{lost_or_refused, request_id};
use known::{as_json, fetch, is_further, named, table};

/// States in which a root stands in the bundle.
const TRUSTED: [&str; 3] = ["published", "active", "draining"];

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses.
pub async fn run(options: &RootOptions) -> Result<(), Failure> {
    match &options.action {
        RootAction::List(options) => list(options).await,
        RootAction::Show(options) => show(options).await,
        RootAction::Attest(options) => attest(options).await,
        RootAction::Prune(options) => prune(options).await,
        RootAction::Standby(options) => ruling::standby(options).await,
        RootAction::Distrust(options) => ruling::distrust(options).await,
        RootAction::TrustAgain(options) => ruling::trust_again(options).await,
        RootAction::Cut(options) => ruling::cut(options).await,
    }
}

async fn list(options: &RootListOptions) -> Result<(), Failure> {
    let roots = fetch(&options.target).await?;
    if options.pem {
        let trusted = roots.iter().filter(|root| TRUSTED.contains(&root.state.as_str()));
        let pem: String = trusted.map(|root| trust::certificate::pem_block(&root.der)).collect();
        return output::verbatim(pem.trim_end());
    }
    if options.json {
        return output::json(&json!({ "roots": roots.iter().map(as_json).collect::<Vec<_>>() }));
    }
    output::line(&table(&roots))
}

async fn show(options: &RootShowOptions) -> Result<(), Failure> {
    let roots = fetch(&options.target).await?;
    let root = named(&roots, &options.root)?;
    if options.pem {
        return output::verbatim(trust::certificate::pem_block(&root.der).trim_end());
    }
    if options.json { output::json(&as_json(root)) } else { output::line(&as_text(root)) }
}

async fn attest(options: &RootAttestOptions) -> Result<(), Failure> {
    let roots = fetch(&options.target).await?;
    let known = named(&roots, &options.root)?;
    let request = AttestRootRequest {
        root: known.id.clone(),
        quiet_seconds: i64::try_from(options.quiet_for.as_secs()).unwrap_or(i64::MAX),
        by: options.word.by(),
        reason: options.word.reason(),
    };
    let mut client = admin_client::rotations(&options.target).await?;
    let root =
        client.attest_root(request).await.map_err(|status| from_status(&status))?.into_inner();
    if options.json {
        return output::json(&as_json(&root));
    }
    output::line(&as_text(&root))?;
    // The latest moment stands, whoever named it: somebody had seen a leaf.
    if known.attested_since != 0 && known.attested_since == root.attested_since {
        let (by, since) = (&root.attested_by, output::time(root.attested_since));
        output::line(&format!(
            "this command changes nothing: {by} has attested a later time, {since}"
        ))?;
    }
    Ok(())
}

async fn prune(options: &RootPruneOptions) -> Result<(), Failure> {
    let request_id = request_id(options.request_id.as_deref(), "prune");
    let roots = match options.all {
        true => Vec::new(),
        false => {
            let known = fetch(&options.target).await?;
            let ids = options
                .roots
                .iter()
                .map(|digits| named(&known, digits).map(|root| root.id.clone()));
            ids.collect::<Result<_, _>>()?
        }
    };
    let request = PruneRootsRequest {
        request_id: request_id.clone(),
        roots,
        dry_run: options.dry_run,
        by: options.word.by(),
        reason: options.word.reason(),
    };
    let mut client = admin_client::rotations(&options.target).await?;
    let pruned = client
        .prune_roots(request)
        .await
        .map_err(|status| lost_or_refused(&status, &request_id))?;
    let pruned = pruned.into_inner();
    if !options.json {
        return output::line(&pruned_text(&pruned, options.dry_run));
    }
    let forgotten: Vec<_> = pruned.forgotten.iter().map(as_json).collect();
    let kept: Vec<_> = pruned.kept.iter().map(as_json).collect();
    output::json(&json!({ "dry_run": options.dry_run, "forgotten": forgotten, "kept": kept }))
}

fn pruned_text(pruned: &PruneRootsResponse, dry_run: bool) -> String {
    let mut lines = Vec::new();
    let does = if dry_run { "would be forgotten" } else { "is forgotten" };
    for root in &pruned.forgotten {
        let name = output::hex(root.id.get(..8).unwrap_or_default());
        lines.push(format!("root {name} ({}) {does}", root.subject));
        if !root.keys.is_empty() {
            let keys = root.keys.join(", ");
            lines.push(format!(
                "  keys of its issuers stay in the key backend until you remove them: {keys}"
            ));
        }
    }
    for root in &pruned.kept {
        let name = output::hex(root.id.get(..8).unwrap_or_default());
        lines.push(match root.forgettable_from {
            0 => format!("root {name} stays: it is marked as compromised, and must not come back"),
            from => {
                format!("root {name} stays: it can be forgotten from {} on", output::time(from))
            }
        });
    }
    match lines.is_empty() {
        true => "no root is retired, so there is nothing to forget".to_owned(),
        false => lines.join("\n"),
    }
}

fn as_text(root: &Root) -> String {
    let meaning = match root.state.as_str() {
        "staged" => "created and checked, trusted by nobody yet",
        "published" if is_further(root) => "trusted, a root of others",
        "published" => "trusted, does not sign yet",
        "active" => "trusted, signs",
        "draining" => "trusted, no longer signs, its leaves are still alive",
        _ => "no longer trusted",
    };
    let mut text = format!(
        "root {}\nstate {} ({meaning}){}\nauthority {}\nsubject {}\nvalid from {} to {}\nno leaf under it ends after {}\n\
         live leaves {}",
        output::hex(&root.id),
        root.state,
        if root.tainted { ", distrusted" } else { "" },
        root.authority,
        root.subject,
        output::time(root.not_before),
        output::time(root.not_after),
        output::time(root.horizon),
        root.live_rows,
    );
    if root.forgettable_from != 0 {
        let from = output::time(root.forgettable_from);
        text.push_str(&format!("\n`banyan root prune` can forget it from {from} on"));
    }
    if !root.further_by.is_empty() {
        text.push_str(&format!(
            "\nfurther root: trusted as long as {} names it; leaves of others under it are not known here",
            root.further_by.join(" or ")
        ));
    }
    if root.shared && !is_further(root) {
        text.push_str(&match root.attested_by.as_str() {
            "" => "\nshared: others may issue under it, and nobody has attested that they stopped".to_owned(),
            by => format!(
                "\nshared: nobody else has issued under it since {}, as {by} attested; their last leaf ends at {}",
                output::time(root.attested_since),
                output::time(root.foreign_until)
            ),
        });
    }
    for issuer in &root.issuers {
        text.push_str(&format!(
            "\nissuer {}{}{}: {}, valid from {} to {}",
            output::hex(issuer.id.get(..8).unwrap_or_default()),
            of_replica(&issuer.replica),
            if issuer.active && root.state == "active" { " (signs)" } else { "" },
            issuer.subject,
            output::time(issuer.not_before),
            output::time(issuer.not_after),
        ));
    }
    text
}

/// Which server signs with it; nothing where there is only one.
fn of_replica(replica: &str) -> String {
    if replica.is_empty() { String::new() } else { format!(" of replica {replica}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_told_with_the_time_at_which_it_can_go_and_what_goes_with_the_keys_that_stay() {
        let root = |id: u8, from: i64| Root {
            id: vec![id; 32],
            forgettable_from: from,
            keys: vec!["issuer-1".to_owned()],
            ..Root::default()
        };
        let pruned =
            PruneRootsResponse { forgotten: vec![root(1, 5)], kept: vec![root(2, 60), root(3, 0)] };
        let text = pruned_text(&pruned, false);
        assert!(
            text.contains("0101010101010101 () is forgotten") && text.contains("issuer-1"),
            "{text}"
        );
        assert!(
            text.contains(
                "0202020202020202 stays: it can be forgotten from 1970-01-01T00:01:00Z on"
            ),
            "{text}"
        );
        assert!(text.contains("0303030303030303 stays: it is marked as compromised"), "{text}");
        assert!(pruned_text(&pruned, true).contains("would be forgotten"));
        assert!(pruned_text(&PruneRootsResponse::default(), false).contains("nothing to forget"));
    }

    #[test]
    fn an_issuer_is_shown_with_the_server_that_signs_with_it() {
        let issuer = |replica: &str, active| proto::banyan::admin::v1::Issuer {
            id: vec![0x11; 32],
            subject: "CN=issuer".to_owned(),
            active,
            replica: replica.to_owned(),
            ..Default::default()
        };
        let root = Root {
            id: vec![1; 32],
            state: "active".to_owned(),
            issuers: vec![issuer("ca-1", true), issuer("ca-2", false), issuer("", true)],
            ..Root::default()
        };
        let text = as_text(&root);
        for line in [
            "issuer 1111111111111111 of replica ca-1 (signs): CN=issuer",
            "issuer 1111111111111111 of replica ca-2: CN=issuer",
            "issuer 1111111111111111 (signs): CN=issuer",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert_eq!(as_json(&root)["issuers"][1]["replica"], "ca-2");
    }
}
