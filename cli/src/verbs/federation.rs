//! `banyan federation ...`: other trust domains whose members are believed by their own bundles.

use std::io::Read as _;
use std::path::Path;

use console::exit::{Failure, from_status};
use console::output;
use proto::banyan::admin::v1::{
    AddFederationRequest, AddFederationResponse, Federation, ListFederationsRequest,
    ListFederationsResponse, RemoveFederationRequest,
};
use serde_json::{Value, json};
use trust::certificate::pem_block;
use trust::plain::{counted, span};

use crate::admin_client;
use crate::args::{FederationAction, FederationAddOptions, FederationOptions};

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// Runs the verb.
///
/// # Errors
/// [`Failure`] if the server is away or refuses, or a file cannot be read.
pub async fn run(options: &FederationOptions) -> Result<(), Failure> {
    let failed = |status: tonic::Status| from_status(&status);
    let request = match &options.action {
        // What is wrong with files is told before anybody is asked.
        FederationAction::Add(add) => Some(request(add)?),
        _ => None,
    };
    let mut client = admin_client::federations(&options.target).await?;
    match &options.action {
        FederationAction::List => {
            let listed = client.list_federations(ListFederationsRequest {}).await;
            list(&listed.map_err(failed)?.into_inner(), options.json)
        }
        FederationAction::Show { trust_domain, pem } => {
            let listed = client.list_federations(ListFederationsRequest {}).await;
            let all = listed.map_err(failed)?.into_inner().federations;
            let found = all.into_iter().find(|one| one.trust_domain == *trust_domain);
            let found = found.ok_or_else(|| {
                let text = format!(
                    "there is no federation with the trust domain {trust_domain:?}: `banyan federation list` shows those that there are"
                );
                Failure::Refused(text.into())
            })?;
            show(&found, *pem, options.json)
        }
        FederationAction::Add(_) => {
            let answer = client.add_federation(request.unwrap_or_default()).await;
            let answer = answer.map_err(failed)?.into_inner();
            match options.json {
                true => output::json(&json!({
                    "federation": answer.federation.as_ref().map(as_json),
                    "bundle_taken": answer.bundle_taken,
                })),
                false => output::line(&added(&answer)),
            }
        }
        FederationAction::Remove { trust_domain, force, word } => {
            let request = RemoveFederationRequest {
                trust_domain: trust_domain.clone(),
                owner: String::new(),
                force: *force,
                by: word.by(),
                reason: word.reason(),
            };
            client.remove_federation(request).await.map_err(failed)?;
            match options.json {
                true => output::json(&json!({ "removed": trust_domain })),
                false => output::line(&format!(
                    "removed {trust_domain}: nobody here believes its members any more, and no rotation waits for it"
                )),
            }
        }
    }
}

fn request(add: &FederationAddOptions) -> Result<AddFederationRequest, Failure> {
    let text = |path: &Path| {
        let bytes = file(path)?;
        String::from_utf8(bytes)
            .map_err(|_| Failure::Usage(format!("{}: it is no text", path.display()).into()))
    };
    Ok(AddFederationRequest {
        trust_domain: add.trust_domain.clone(),
        endpoint: add.endpoint.clone(),
        endpoint_id: add.endpoint_id.clone().unwrap_or_default(),
        endpoint_ca: add.endpoint_ca.as_deref().map(text).transpose()?.unwrap_or_default(),
        bundle: add.bundle.as_deref().map(file).transpose()?.unwrap_or_default(),
        bundle_once: false,
        reads_ours: add.reads_ours,
        reads_within_seconds: add
            .reads_within
            .map_or(0, |within| i64::try_from(within.as_secs()).unwrap_or(i64::MAX)),
        owner: String::new(),
        force: add.force,
        by: add.word.by(),
        reason: add.word.reason.clone(),
    })
}

fn file(path: &Path) -> Result<Vec<u8>, Failure> {
    let named = |error: &dyn std::fmt::Display| {
        Failure::Usage(format!("{} cannot be read: {error}", path.display()).into())
    };
    let mut bytes = Vec::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().lock().take(FILE_MAX + 1).read_to_end(&mut bytes),
        false => std::fs::File::open(path)
            .and_then(|open| open.take(FILE_MAX + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| named(&error))?;
    match bytes.len() as u64 {
        0 => Err(named(&"it is empty")),
        len if len > FILE_MAX => Err(named(&"it has more than 1 MiB")),
        _ => Ok(bytes),
    }
}

fn added(answer: &AddFederationResponse) -> String {
    let federation = answer.federation.clone().unwrap_or_default();
    let domain = &federation.trust_domain;
    let mut lines = Vec::new();
    match (&federation.bundle, answer.bundle_taken) {
        (Some(bundle), true) => lines.push(format!(
            "{domain} is believed by {}, as given",
            counted(bundle.roots.len(), "root", "roots")
        )),
        (Some(bundle), false) => lines.push(format!(
            "{domain} is believed by {}, as before",
            counted(bundle.roots.len(), "root", "roots")
        )),
        (None, _) => lines.push(format!("{domain} is believed as soon as its bundle was read")),
    }
    lines.push(format!(
        "its bundle is read at {} every {}: `banyan federation list` says how that goes",
        federation.endpoint,
        length(federation.every_seconds)
    ));
    if federation.reads_within_seconds > 0 {
        lines.push(format!(
            "it reads our bundle: a rotation waits {} after each change for it",
            length(federation.reads_within_seconds)
        ));
    }
    lines.join("\n")
}

fn list(listed: &ListFederationsResponse, json: bool) -> Result<(), Failure> {
    if json {
        let federations: Vec<_> = listed.federations.iter().map(as_json).collect();
        return output::json(&json!({
            "federations": federations,
            "trust_domain": listed.trust_domain,
            "own_endpoint": (!listed.own_endpoint.is_empty()).then_some(&listed.own_endpoint),
            "own_refresh_hint_seconds": listed.own_refresh_hint_seconds,
        }));
    }
    let mut table =
        output::table(&["TRUST DOMAIN", "BUNDLE", "ROOTS", "RIGHT AT", "READS OURS", "ENDPOINT"]);
    for one in &listed.federations {
        let bundle = one.bundle.clone();
        let right = bundle.as_ref().map_or(0, |bundle| bundle.checked_at);
        let reads = match one.reads_within_seconds {
            0 => "no".to_owned(),
            within => format!("within {}", length(within)),
        };
        table.add_row([
            one.trust_domain.clone(),
            sequence(one),
            bundle.map_or(0, |bundle| bundle.roots.len()).to_string(),
            output::time(right),
            reads,
            one.endpoint.clone(),
        ]);
    }
    output::line(&table.to_string())?;
    let wrong = listed.federations.iter().filter(|one| !one.trouble.is_empty());
    for one in wrong {
        output::line(&one.trouble)?;
    }
    let place = match listed.own_endpoint.as_str() {
        "" => "this server serves no bundle to others: section [bundle_endpoint]".to_owned(),
        at => format!("others read the bundle of {} at {at}", listed.trust_domain),
    };
    output::line(&format!("{place}; they shall every {}", length(listed.own_refresh_hint_seconds)))
}

fn show(one: &Federation, pem: bool, json: bool) -> Result<(), Failure> {
    let roots: Vec<_> = one.bundle.iter().flat_map(|bundle| &bundle.roots).collect();
    let text: String = roots.iter().map(|der| pem_block(der)).collect();
    if json {
        return output::json(&json!({ "federation": as_json(one), "roots_pem": text }));
    }
    if pem {
        return match text.is_empty() {
            false => output::verbatim(text.trim_end()),
            true => {
                let domain = &one.trust_domain;
                let text = format!(
                    "there is no bundle of {domain} yet: `banyan federation list` says why"
                );
                Err(Failure::Refused(text.into()))
            }
        };
    }
    let keeper = if one.owner.is_empty() { "operators" } else { &one.owner };
    let bundle = one.bundle.clone().unwrap_or_default();
    let mut lines = vec![
        format!("trust domain  {}", one.trust_domain),
        format!("endpoint      {} ({})", one.endpoint, one.profile),
    ];
    if !one.endpoint_id.is_empty() {
        lines.push(format!("shown there   {}", one.endpoint_id));
    }
    lines.extend([
        format!("bundle        {}, {}", sequence(one), counted(roots.len(), "root", "roots")),
        format!("taken         {}", output::time(bundle.taken_at)),
        format!("right at      {}", output::time(bundle.checked_at)),
        format!("read every    {}", length(one.every_seconds)),
        match one.reads_within_seconds {
            0 => "reads ours    no".to_owned(),
            within => format!("reads ours    within {}", length(within)),
        },
        format!("kept by       {keeper}"),
        format!("said by       {} at {}: {}", one.by, output::time(one.at), one.reason),
    ]);
    lines.extend(roots.iter().map(|der| format!("root          {}", trust::RootId::of(der))));
    if !one.trouble.is_empty() {
        lines.push(one.trouble.clone());
    }
    output::line(&lines.join("\n"))
}

fn sequence(one: &Federation) -> String {
    match &one.bundle {
        None => "none yet".to_owned(),
        Some(bundle) => {
            bundle.sequence.map_or("unnumbered".to_owned(), |sequence| sequence.to_string())
        }
    }
}

fn length(secs: i64) -> String {
    span(std::time::Duration::from_secs(u64::try_from(secs).unwrap_or(0)))
}

fn as_json(one: &Federation) -> Value {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let time = |secs: i64| (secs != 0).then(|| output::time(secs));
    let bundle = one.bundle.as_ref().map(|bundle| {
        let roots: Vec<_> =
            bundle.roots.iter().map(|der| trust::RootId::of(der).to_string()).collect();
        json!({
            "sequence": bundle.sequence,
            "roots": roots,
            "taken_at": time(bundle.taken_at),
            "right_at": time(bundle.checked_at),
        })
    });
    json!({
        "trust_domain": one.trust_domain,
        "endpoint": one.endpoint,
        "profile": one.profile,
        "endpoint_id": text(&one.endpoint_id),
        "reads_within_seconds": (one.reads_within_seconds > 0).then_some(one.reads_within_seconds),
        "every_seconds": one.every_seconds,
        "owner": text(&one.owner),
        "by": one.by,
        "reason": one.reason,
        "at": output::time(one.at),
        "bundle": bundle,
        "trouble": text(&one.trouble),
    })
}
