//! Roots of the record: found by the first digits of a fingerprint, and shown as a table or as JSON.

use console::exit::{Failure, Told, from_status};
use console::output;
use proto::banyan::admin::v1::{ListAuthoritiesRequest, ListRootsRequest, Root};
use serde_json::{Value, json};

use crate::admin_client;
use crate::args::AdminTarget;

pub(crate) async fn fetch(target: &AdminTarget) -> Result<Vec<Root>, Failure> {
    let mut client = admin_client::connect(target).await?;
    let mut roots = Vec::new();
    let mut asked = ListRootsRequest::default();
    loop {
        let answer =
            client.list_roots(asked).await.map_err(|status| from_status(&status))?.into_inner();
        roots.extend(answer.roots);
        if answer.next.is_empty() {
            return Ok(roots);
        }
        asked = ListRootsRequest { after: answer.next, limit: 0 };
    }
}

/// The id of the root of the record whose fingerprint begins so.
///
/// # Errors
/// [`Failure`] if there is none, or more than one.
pub(crate) async fn id_of(target: &AdminTarget, digits: &str) -> Result<Vec<u8>, Failure> {
    Ok(named(&fetch(target).await?, digits)?.id.clone())
}

/// The id of a root whose fingerprint begins so, of those that an authority announces (all if none is named) and those of
/// the record.
///
/// # Errors
/// [`Failure`] if there is none, or more than one.
pub(crate) async fn announced(
    target: &AdminTarget,
    authority: Option<&str>,
    digits: &str,
) -> Result<Vec<u8>, Failure> {
    let mut ids: Vec<_> = fetch(target).await?.into_iter().map(|root| root.id).collect();
    let mut client = admin_client::authorities(target).await?;
    let request = ListAuthoritiesRequest { name: authority.unwrap_or_default().to_owned() };
    let listed = client.list_authorities(request).await.map_err(|status| from_status(&status))?;
    ids.extend(
        listed.into_inner().authorities.into_iter().flat_map(|one| one.roots).map(|root| root.id),
    );
    ids.sort();
    ids.dedup();
    let wanted = digits.to_lowercase();
    let mut found =
        ids.into_iter().filter(|id| !wanted.is_empty() && output::hex(id).starts_with(&wanted));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => {
            let text = format!(
                "no authority announces a root {digits}; `banyan authority show NAME` prints them"
            );
            Err(Failure::Failed(anyhow::anyhow!(text)))
        }
        (Some(_), Some(_)) => Err(ambiguous(digits)),
    }
}

/// The one root whose fingerprint begins so.
pub(crate) fn named<'r>(roots: &'r [Root], prefix: &str) -> Result<&'r Root, Failure> {
    let prefix = prefix.to_ascii_lowercase();
    let mut found = roots.iter().filter(|root| output::hex(&root.id).starts_with(&prefix));
    match (found.next(), found.next()) {
        (Some(root), None) => Ok(root),
        (None, _) => {
            let told = Told::new(format!("no root begins with {prefix}"));
            Err(Failure::Usage(told.advising("`banyan root list` lists all of them")))
        }
        (Some(_), Some(_)) => Err(ambiguous(&prefix)),
    }
}

fn ambiguous(digits: &str) -> Failure {
    Failure::Usage(
        Told::new(format!("several roots begin with {digits}")).advising("write more digits"),
    )
}

/// As a table.
pub(crate) fn table(roots: &[Root]) -> String {
    let mut table = output::table(&[
        "ROOT",
        "STATE",
        "AUTHORITY",
        "NOT AFTER",
        "HORIZON",
        "LIVE LEAVES",
        "FORGETTABLE FROM",
        "SUBJECT",
    ]);
    for root in roots {
        table.add_row([
            output::hex(root.id.get(..8).unwrap_or_default()),
            format!("{}{}", root.state, if root.tainted { " (distrusted)" } else { "" }),
            format!("{}{}", root.authority, if is_further(root) { " (further)" } else { "" }),
            output::time(root.not_after),
            output::time(root.horizon),
            root.live_rows.to_string(),
            output::time(root.forgettable_from),
            root.subject.clone(),
        ]);
    }
    table.to_string()
}

/// Whether it is trusted because an authority names it, and has no issuer here.
pub(crate) fn is_further(root: &Root) -> bool {
    !root.further_by.is_empty() && root.issuers.is_empty()
}

/// As JSON.
pub(crate) fn as_json(root: &Root) -> Value {
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
                "replica": (!issuer.replica.is_empty()).then_some(&issuer.replica),
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
        "shared": root.shared,
        "attested_by": root.attested_by,
        "attested_since": output::time(root.attested_since),
        "foreign_until": output::time(root.foreign_until),
        "further_by": root.further_by,
        "forgettable_from": output::time(root.forgettable_from),
        "keys": root.keys,
        "issuers": issuers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_found_by_the_first_digits_that_only_it_has() {
        let root = |id: u8| Root { id: vec![id, 1], ..Root::default() };
        let roots = [root(0xa1), root(0xa2)];
        assert_eq!(named(&roots, "A1").unwrap().id, [0xa1, 1]);
        assert!(named(&roots, "a").is_err_and(|error| error.to_string().contains("more digits")));
        assert!(named(&roots, "b").is_err_and(|error| error.to_string().contains("root list")));
    }
}
