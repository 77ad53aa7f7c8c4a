//! `banyan authority list|check|show`: the plugins that own roots.

use console::exit::{Failure, from_status};
use console::output;
use proto::banyan::admin::v1::{Authority, AuthorityRoot, ListAuthoritiesRequest};
use serde_json::{Value, json};

use crate::admin_client;
use crate::args::{AuthorityAction, AuthorityOptions};

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses; for `check` also if an authority is down.
pub async fn run(options: &AuthorityOptions) -> Result<(), Failure> {
    let name = match &options.action {
        AuthorityAction::List | AuthorityAction::Check { name: None } => String::new(),
        AuthorityAction::Check { name: Some(name) } | AuthorityAction::Show { name } => {
            name.clone()
        }
    };
    let mut client = admin_client::authorities(&options.target).await?;
    let answer = client.list_authorities(ListAuthoritiesRequest { name }).await;
    let authorities = answer.map_err(|status| from_status(&status))?.into_inner().authorities;
    if options.json {
        output::json(
            &json!({ "authorities": authorities.iter().map(as_json).collect::<Vec<_>>() }),
        )?;
    } else {
        match &options.action {
            AuthorityAction::List | AuthorityAction::Check { .. } => list(&authorities)?,
            AuthorityAction::Show { .. } => authorities.iter().try_for_each(show)?,
        }
    }
    let down: Vec<_> = authorities
        .iter()
        .filter(|authority| authority.health == "down")
        .map(|a| a.name.as_str())
        .collect();
    match &options.action {
        AuthorityAction::Check { .. } if !down.is_empty() => {
            Err(Failure::Failed(anyhow::anyhow!("down: {}", down.join(", "))))
        }
        _ => Ok(()),
    }
}

fn list(authorities: &[Authority]) -> Result<(), Failure> {
    let mut table = output::table(&[
        "AUTHORITY",
        "PLUGIN",
        "HEALTH",
        "LATENCY",
        "EARLIEST EXPIRY",
        "SIGNS",
        "CAN",
        "SHARED",
        "DETAIL",
    ]);
    for authority in authorities {
        table.add_row([
            format!("{}{}", authority.name, if authority.preferred { " (default)" } else { "" }),
            format!("{} {}", authority.plugin, authority.version),
            health(authority).to_owned(),
            latency(authority),
            output::time(authority.earliest_expiry),
            if authority.signs { "yes" } else { "no" }.to_owned(),
            authority.capabilities.join(" "),
            if authority.exclusive { "no" } else { "yes" }.to_owned(),
            detail(authority),
        ]);
    }
    output::line(&table.to_string())
}

fn show(authority: &Authority) -> Result<(), Failure> {
    list(std::slice::from_ref(authority))?;
    if !authority.roots_error.is_empty() {
        return output::line(&format!("roots: {}", authority.roots_error));
    }
    let mut table = output::table(&["ROOT", "SIGNS ISSUERS", "STATE HERE", "NOT AFTER", "SUBJECT"]);
    for root in &authority.roots {
        let (not_after, subject) = described(root);
        table.add_row([
            output::hex(&root.id),
            match (root.signing, root.further) {
                (true, _) => "yes",
                (false, true) => "no (further root)",
                (false, false) => "no",
            }
            .to_owned(),
            if root.state.is_empty() { "unknown".to_owned() } else { root.state.clone() },
            not_after,
            subject,
        ]);
    }
    output::line(&table.to_string())
}

/// An authority that would give something else than what signs is no picture of health.
fn health(authority: &Authority) -> &str {
    match authority.health.as_str() {
        "ok" if !authority.drift.is_empty() => "degraded",
        health => health,
    }
}

fn detail(authority: &Authority) -> String {
    let all = [&authority.drift, &authority.detail].into_iter().chain(&authority.notes);
    all.map(String::as_str).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
}

fn latency(authority: &Authority) -> String {
    match u64::try_from(authority.latency_micros).unwrap_or_default() {
        micros @ ..1_000 => format!("{micros} us"),
        micros => format!("{} ms", micros / 1_000),
    }
}

fn described(root: &AuthorityRoot) -> (String, String) {
    match trust::Certificate::parse(&root.der) {
        Ok(certificate) => {
            (output::time(certificate.validity().not_after().as_secs()), certificate.subject_text())
        }
        Err(error) => ("-".to_owned(), format!("not a certificate: {error}")),
    }
}

fn as_json(authority: &Authority) -> Value {
    let root = |root: &AuthorityRoot| {
        let (not_after, subject) = described(root);
        json!({
            "id": output::hex(&root.id),
            "signing": root.signing,
            "further": root.further,
            "state": root.state,
            "not_after": not_after,
            "subject": subject,
        })
    };
    json!({
        "name": authority.name,
        "plugin": authority.plugin,
        "version": authority.version,
        "exclusive": authority.exclusive,
        "capabilities": authority.capabilities,
        "health": health(authority),
        "drift": authority.drift,
        "notes": authority.notes,
        "detail": authority.detail,
        "latency_micros": authority.latency_micros,
        "earliest_expiry": output::time(authority.earliest_expiry),
        "roots": authority.roots.iter().map(root).collect::<Vec<_>>(),
        "roots_error": authority.roots_error,
        "signs": authority.signs,
        "preferred": authority.preferred,
    })
}
