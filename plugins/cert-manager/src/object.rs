//! CertificateRequests as they are made here, and what becomes of them.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use trust::{Certificate, Timestamp};

use crate::config::Settings;

/// Label of requests by which it is looked who signs: its value tells whose they are.
pub(crate) const LOOK: &str = "banyan.dev/look";
/// Label of requests for issuers, likewise.
pub(crate) const ISSUER: &str = "banyan.dev/issuer";
/// Annotations of requests for issuers: what was asked for, and by which request of the CA.
const ASKED: &str = "banyan.dev/asked";
const REQUEST: &str = "banyan.dev/request";

/// What is asked for.
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    pub(crate) csr_pem: &'a str,
    pub(crate) life: Duration,
    /// Whether it is for a CA.
    pub(crate) is_ca: bool,
    pub(crate) label: [&'a str; 2],
    /// Fingerprint of the request that it is for, and its id; empty for a look.
    pub(crate) asked: &'a str,
    pub(crate) request: &'a str,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is signed: the certificate and what is above it, and the roots that came with them.
    Issued { chain: Vec<Certificate>, ca: Vec<Certificate> },
    /// It gets no certificate, and why.
    Over(String),
    /// Somebody has to approve it, or cert-manager is at work.
    Waits(String),
}

impl Wanted<'_> {
    pub(crate) fn object(&self, settings: &Settings) -> Value {
        let usages: &[&str] =
            if self.is_ca { &["cert sign", "crl sign"] } else { &["digital signature"] };
        let [label, owner] = self.label;
        json!({
            "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
            "metadata": { "name": self.name, "labels": { label: owner },
                "annotations": { ASKED: self.asked, REQUEST: self.request } },
            "spec": {
                "request": STANDARD.encode(self.csr_pem), "isCA": self.is_ca, "usages": usages,
                "duration": format!("{}s", self.life.as_secs()),
                "issuerRef": { "name": settings.issuer, "kind": settings.issuer_kind,
                    "group": settings.issuer_group },
            },
        })
    }
}

/// Name of an object.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// What it was made for.
pub(crate) fn asked(object: &Value) -> &str {
    annotation(object, ASKED)
}

/// By which request of the CA.
pub(crate) fn request(object: &Value) -> &str {
    annotation(object, REQUEST)
}

fn annotation<'v>(object: &'v Value, name: &str) -> &'v str {
    let all = object.pointer("/metadata/annotations");
    all.and_then(|all| all.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// When it was made, as the API server has it.
pub(crate) fn made_at(object: &Value) -> Option<Timestamp> {
    let text = text(object, "/metadata/creationTimestamp");
    let time = humantime::parse_rfc3339(text).ok()?;
    let secs = time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(secs).ok().map(Timestamp::from_secs)
}

/// What became of it.
///
/// # Errors
/// What is wrong with its certificates.
pub(crate) fn standing(object: &Value) -> Result<Standing, String> {
    let is =
        |type_: &str| condition(object, type_).is_some_and(|one| text(one, "/status") == "True");
    let ready = condition(object, "Ready");
    let message = |one: Option<&Value>| {
        let said = one.map_or("", |one| text(one, "/message"));
        said.chars().filter(|one| !one.is_control()).take(300).collect::<String>()
    };
    for type_ in ["Denied", "InvalidRequest"] {
        if is(type_) {
            let said = message(condition(object, type_));
            return Ok(Standing::Over(format!("it is {type_}: {said}")));
        }
    }
    match ready.map_or("", |one| text(one, "/reason")) {
        "Failed" | "Denied" => Ok(Standing::Over(message(ready))),
        "Issued" => {
            let chain = certificates(object, "certificate")?;
            if chain.is_empty() {
                return Err("it is Issued and has no status.certificate".to_owned());
            }
            Ok(Standing::Issued { chain, ca: certificates(object, "ca")? })
        }
        _ if !is("Approved") => Ok(Standing::Waits("somebody has to approve it".to_owned())),
        _ => Ok(Standing::Waits(message(ready))),
    }
}

fn certificates(object: &Value, key: &str) -> Result<Vec<Certificate>, String> {
    let text = object.pointer("/status").and_then(|status| status.get(key)).and_then(Value::as_str);
    let pem = STANDARD.decode(text.unwrap_or_default());
    let pem = pem.map_err(|error| format!("its status.{key} is not in base64: {error}"))?;
    pem_certificates(&pem).map_err(|error| format!("its status.{key}: {error}"))
}

/// Certificates in PEM.
///
/// # Errors
/// What it is instead.
pub(crate) fn pem_certificates(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    let blocks = pem::parse_many(pem).map_err(|error| error.to_string())?;
    let read = |block: pem::Pem| match block.tag() {
        "CERTIFICATE" => Certificate::parse(block.contents()).map_err(|error| error.to_string()),
        other => Err(format!("there is a {other:?} in it, and only certificates belong there")),
    };
    blocks.into_iter().map(read).collect()
}

fn condition<'v>(object: &'v Value, type_: &str) -> Option<&'v Value> {
    let all = object.pointer("/status/conditions").and_then(Value::as_array)?;
    all.iter().find(|one| text(one, "/type") == type_)
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_request_is_read_by_the_words_of_the_contract() {
        let is = |type_: &str, status: &str, reason: &str| json!({ "type": type_, "status": status, "reason": reason, "message": "said" });
        let approved = is("Approved", "True", "x");
        for (conditions, found) in [
            (json!([]), "somebody has to approve it"),
            (json!([approved]), ""),
            (json!([approved, is("Ready", "False", "Pending")]), "said"),
        ] {
            let object = json!({ "status": { "conditions": conditions } });
            assert_eq!(standing(&object), Ok(Standing::Waits(found.to_owned())));
        }
        for conditions in [
            json!([approved, is("Ready", "False", "Failed")]),
            json!([approved, is("Denied", "True", "x")]),
            json!([is("Denied", "True", "x"), is("Ready", "True", "Issued")]),
            json!([approved, is("InvalidRequest", "True", "x")]),
        ] {
            let object = json!({ "status": { "conditions": conditions } });
            assert!(matches!(standing(&object), Ok(Standing::Over(_))), "{conditions}");
        }
        let empty =
            json!({ "status": { "conditions": [approved, is("Ready", "True", "Issued")] } });
        assert!(standing(&empty).is_err(), "nothing was issued");
    }
}
