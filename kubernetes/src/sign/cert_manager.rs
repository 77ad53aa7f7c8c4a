//! CertificateRequests of cert-manager that name an issuer of our kinds: signed once somebody approved them. To approve is not ours.
//!
//! A request gets an identity of a service account of its own namespace, of those that the issuer allows. A service account of
//! that namespace that asks for itself gets its own and no other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use trust::csr::ParsedCsr;
use trust::{SpiffeId, Timestamp, TrustDomain};

use super::request::{
    ACCOUNT, ACCOUNTS, Refused, Signed, Wanted, has, only_usages, put_condition, text,
};

/// Group of the kinds of issuers.
const ISSUERS: &str = "banyan.dev";
/// What `accounts` and `namespaces` of an issuer have for each of them.
const EACH: &str = "*";
/// Reasons of the condition `Ready` of a request that is over.
const OVER: [&str; 3] = ["Issued", "Failed", "Denied"];

/// A kind of issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IssuerKind {
    /// BanyanIssuer, of one namespace.
    Namespaced,
    /// BanyanClusterIssuer.
    Cluster,
}

/// What an issuer allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Namespaces; none for an issuer that is in the request's own.
    pub(crate) namespaces: Option<Vec<String>>,
    pub(crate) accounts: Vec<String>,
    pub(crate) service_names: bool,
}

/// Whether it names an issuer of ours, is neither issued nor failed, and somebody approved or denied it.
pub(super) fn is_open(object: &Value) -> bool {
    let ours = text(object, "/spec/issuerRef/group") == ISSUERS;
    let over = OVER.contains(&ready_reason(object)) || has(object, "InvalidRequest") == Some(true);
    let judged = is_denied(object) || has(object, "Approved") == Some(true);
    ours && judged && !over && text(object, "/status/certificate").is_empty()
}

/// Whether somebody denied it, whatever else was said.
pub(super) fn is_denied(object: &Value) -> bool {
    has(object, "Denied") == Some(true)
}

/// The issuer that it names: kind and name.
pub(super) fn issuer(object: &Value) -> Result<(IssuerKind, &str), String> {
    let kind = match text(object, "/spec/issuerRef/kind") {
        "BanyanIssuer" => IssuerKind::Namespaced,
        "BanyanClusterIssuer" => IssuerKind::Cluster,
        other => {
            return Err(format!(
                "{ISSUERS} has no issuers of the kind {other:?}: write BanyanIssuer or BanyanClusterIssuer in issuerRef.kind"
            ));
        }
    };
    Ok((kind, text(object, "/spec/issuerRef/name")))
}

/// What it wants, as far as its issuer allows it.
pub(super) fn wanted(
    object: &Value,
    namespace: &str,
    domain: &TrustDomain,
    rules: &Rules<'_>,
) -> Result<Wanted, Refused> {
    if object.pointer("/spec/isCA").and_then(Value::as_bool) == Some(true) {
        return Err(failed("CARefused", "this issuer gives no CA certificates: leave isCA out"));
    }
    only_usages(object)?;
    let allowed = rules.allowed;
    if let Some(namespaces) = &allowed.namespaces
        && !is_among(namespaces, namespace)
    {
        let text = format!("the issuer's spec.namespaces has no {namespace:?}: add it there");
        return Err(failed("NamespaceRefused", text));
    }
    let csr = STANDARD.decode(text(object, "/spec/request")).map_err(|_| {
        failed("RequestMalformed", "spec.request is not in base64: make the request anew")
    })?;
    let parsed = ParsedCsr::from_pem(&csr)
        .map_err(|error| failed("RequestMalformed", format!("spec.request: {error}")))?;
    let names = parsed.names();
    let account = account(object, namespace, domain, names.spiffe_id.as_ref())?;
    if !is_among(&allowed.accounts, account) {
        let text = format!("the issuer's spec.accounts has no {account:?}: add it there");
        return Err(failed("AccountRefused", text));
    }
    let identity = SpiffeId::kubernetes(domain, namespace, account)
        .map_err(|error| failed("IdentityRefused", format!("{namespace}/{account}: {error}")))?;
    for name in &names.dns {
        is_of_a_service(name, namespace, rules)?;
    }
    let life = match object.pointer("/spec/duration").and_then(Value::as_str) {
        None | Some("") => 0,
        Some(duration) => seconds(duration).ok_or_else(|| {
            let text = format!(
                "spec.duration is no length of time: {duration:?}; write one such as \"24h\""
            );
            failed("DurationMalformed", text)
        })?,
    };
    let dns = names.dns.clone();
    Ok(Wanted { csr, identity, dns, life, bounds: [0, 0] })
}

/// What is judged by.
pub(super) struct Rules<'r> {
    pub(super) allowed: &'r Allowed,
    /// What names of Services may end in beyond `.svc`.
    pub(super) cluster_domain: &'r str,
}

/// The account that it is for: that which the CSR names, and who asks for itself names itself or nothing.
fn account<'a>(
    object: &'a Value,
    namespace: &str,
    domain: &TrustDomain,
    named: Option<&'a SpiffeId>,
) -> Result<&'a str, Refused> {
    let asks = asks_for_itself(object, namespace);
    let Some(id) = named else {
        return asks.ok_or_else(|| {
            let text = format!(
                "it names no identity: write \"spiffe://{domain}/ns/{namespace}/sa/ACCOUNT\" into uris"
            );
            failed("IdentityMissing", text)
        });
    };
    let prefix = format!("/ns/{namespace}/sa/");
    let account = id.path().strip_prefix(&prefix).filter(|_| id.trust_domain() == domain);
    let account = account.filter(|account| !account.contains('/')).ok_or_else(|| {
        let text = format!(
            "{id} is not the identity of a service account of this namespace: write \"spiffe://{domain}{prefix}ACCOUNT\" into uris"
        );
        failed("IdentityRefused", text)
    })?;
    match asks {
        Some(asks) if asks != account => {
            let text =
                format!("{asks:?} asks for the identity of {account:?}, and gets its own only");
            Err(failed("IdentityRefused", text))
        }
        _ => Ok(account),
    }
}

/// The service account of this namespace that made the request itself. cert-manager's webhook wrote down who did; others, as
/// cert-manager for its Certificates, ask for somebody else.
fn asks_for_itself<'a>(object: &'a Value, namespace: &str) -> Option<&'a str> {
    let account = text(object, "/spec/username").strip_prefix(ACCOUNT)?;
    let (of, name) = account.split_once(':')?;
    let groups = object.pointer("/spec/groups").and_then(Value::as_array);
    let is_account = groups.into_iter().flatten().any(|group| group.as_str() == Some(ACCOUNTS));
    (is_account && of == namespace).then_some(name)
}

fn is_of_a_service(name: &str, namespace: &str, rules: &Rules<'_>) -> Result<(), Refused> {
    let domain = rules.cluster_domain;
    let (short, long) = (format!(".{namespace}.svc"), format!(".{namespace}.svc.{domain}"));
    let service = name.strip_suffix(&short).or_else(|| name.strip_suffix(&long));
    let is_service = service.is_some_and(|service| !service.is_empty() && !service.contains('.'));
    if is_service && rules.allowed.service_names {
        return Ok(());
    }
    let text = match is_service {
        true => {
            format!("the DNS name {name:?} is refused: set spec.serviceNames of the issuer to true")
        }
        false => format!(
            "the DNS name {name:?} is refused: an issuer gives SERVICE{short} and SERVICE{long} alone, and these only if its \
             spec.serviceNames is true"
        ),
    };
    Err(failed("DnsNameRefused", text))
}

fn is_among(list: &[String], name: &str) -> bool {
    list.iter().any(|one| one == name || one == EACH)
}

/// A length of time as Go writes it, such as `2160h0m0s`: whole seconds of it.
fn seconds(text: &str) -> Option<u64> {
    let is_number = |one: char| one.is_ascii_digit() || one == '.';
    let (mut rest, mut millis) = (text, 0_u64);
    while !rest.is_empty() {
        let (number, after) = rest.split_at_checked(rest.find(|one| !is_number(one))?)?;
        let (unit, after) = after.split_at_checked(after.find(is_number).unwrap_or(after.len()))?;
        let each = match unit {
            "h" => 3_600_000_u64,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return None,
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let thousandths: u64 = format!("{part:0<3}").get(..3)?.parse().ok()?;
        let whole = whole.parse::<u64>().ok()?.checked_mul(each)?;
        millis = millis.checked_add(whole)?.checked_add(each * thousandths / 1_000)?;
        rest = after;
    }
    Some(millis / 1_000).filter(|seconds| *seconds > 0)
}

fn failed(reason: &'static str, message: impl Into<String>) -> Refused {
    Refused::failed(reason, message)
}

fn ready_reason(object: &Value) -> &str {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    let ready = all.into_iter().flatten().find(|one| text(one, "/type") == "Ready");
    ready.map_or("", |one| text(one, "/reason"))
}

/// Writes the certificate into its status, and the roots in force when it was issued.
pub(super) fn put(status: &mut Map<String, Value>, signed: &Signed, now: Timestamp) {
    status.insert("certificate".to_owned(), json!(STANDARD.encode(&signed.chain)));
    status.insert("ca".to_owned(), json!(STANDARD.encode(&signed.roots)));
    ready(status, ["True", "Issued", "the CA signed it"], now);
}

/// Writes that it gets none.
pub(super) fn refuse(status: &mut Map<String, Value>, refused: &Refused, now: Timestamp) {
    let Refused { type_, reason, message } = refused;
    let text = format!("{reason}: {message}");
    ready(status, ["False", type_, if reason == type_ { message } else { &text }], now);
    status.insert("failureTime".to_owned(), json!(now.to_string()));
}

/// Writes what it waits for; answers whether that was not there yet.
pub(super) fn wait(status: &mut Map<String, Value>, why: &str, now: Timestamp) -> bool {
    let all = status.get("conditions").and_then(Value::as_array);
    let mut all = all.into_iter().flatten();
    let is_there = all.any(|one| {
        text(one, "/type") == "Ready"
            && text(one, "/reason") == "Pending"
            && text(one, "/message") == why
    });
    if !is_there {
        ready(status, ["False", "Pending", why], now);
    }
    !is_there
}

fn ready(status: &mut Map<String, Value>, [is, reason, message]: [&str; 3], now: Timestamp) {
    if let Some(Value::Array(all)) = status.get_mut("conditions") {
        all.retain(|one| text(one, "/type") != "Ready");
    }
    let one = json!({ "type": "Ready", "status": is, "reason": reason, "message": message,
        "lastTransitionTime": now.to_string() });
    put_condition(status, one);
}

#[cfg(test)]
mod tests;
