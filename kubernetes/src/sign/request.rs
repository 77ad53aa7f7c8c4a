//! What a request wants and what comes of it, whatever its kind.

use proto::banyan::admin::v1::SignResponse;
use serde_json::{Map, Value, json};
use trust::{SpiffeId, Timestamp};

/// How users that are service accounts are named, and the groups that the API server gives them.
pub(super) const ACCOUNT: &str = "system:serviceaccount:";
pub(super) const ACCOUNTS: &str = "system:serviceaccounts";
/// What a leaf of this CA may be used for, and another word of cert-manager's for the first.
const USAGES: [&str; 4] = ["digital signature", "key encipherment", "server auth", "client auth"];
const SIGNING: &str = "signing";

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// PKCS #10, in DER or PEM.
    pub(crate) csr: Vec<u8>,
    /// Whose it is.
    pub(crate) identity: SpiffeId,
    /// DNS names beside it.
    pub(crate) dns: Vec<String>,
    /// Seconds of life that are wished for; 0 for none.
    pub(crate) life: u64,
    /// The least that is of use, and the most; 0 for none.
    pub(crate) bounds: [u64; 2],
}

/// That a request gets no certificate, now and for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Type of the condition: `Failed` or `Denied`.
    pub(crate) type_: &'static str,
    /// One word for programs.
    pub(crate) reason: &'static str,
    /// What is wrong, and what to do about it.
    pub(crate) message: String,
}

/// What the CA signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    /// PEM: the leaf, then what is above it, without the root.
    pub(crate) chain: String,
    /// PEM: every root that was in force then, where that is known.
    pub(crate) roots: String,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) refresh_at: Timestamp,
    /// The bundle that it was born under.
    pub(crate) sequence: u64,
    /// When it was.
    pub(crate) at: Timestamp,
}

impl Refused {
    /// The request itself is wrong.
    pub(crate) fn failed(reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_: "Failed", reason, message: message.into() }
    }

    /// Somebody said no.
    pub(crate) fn denied() -> Self {
        Self { type_: "Denied", reason: "Denied", message: "the request was denied".to_owned() }
    }
}

impl Signed {
    pub(crate) fn of(answer: &SignResponse, at: Timestamp) -> Self {
        let pem = answer.chain.iter().map(|der| trust::certificate::pem_block(der));
        Self {
            chain: pem.collect(),
            roots: String::new(),
            not_before: Timestamp::from_secs(answer.not_before),
            not_after: Timestamp::from_secs(answer.not_after),
            refresh_at: Timestamp::from_secs(answer.refresh_at),
            sequence: answer.sequence,
            at,
        }
    }
}

/// A text within an object; empty if it is not there.
pub(super) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a condition of this type is there, and then whether it is true.
pub(super) fn has(value: &Value, type_: &str) -> Option<bool> {
    let all = value.pointer("/status/conditions").and_then(Value::as_array)?;
    let one = all.iter().find(|one| text(one, "/type") == type_)?;
    Some(text(one, "/status") == "True")
}

/// Refuses usages that a leaf of this CA does not have.
pub(super) fn only_usages(object: &Value) -> Result<(), Refused> {
    let usages = object.pointer("/spec/usages").and_then(Value::as_array);
    let mut usages = usages.into_iter().flatten().filter_map(Value::as_str);
    match usages.find(|usage| !USAGES.contains(usage) && *usage != SIGNING) {
        None => Ok(()),
        Some(other) => {
            let text = format!(
                "the usage {other:?} is not for certificates of this CA: ask for {} alone",
                USAGES.join(", ")
            );
            Err(Refused::failed("UsageRefused", text))
        }
    }
}

/// Adds a condition.
pub(super) fn put_condition(status: &mut Map<String, Value>, one: Value) {
    match status.get_mut("conditions") {
        Some(Value::Array(all)) => all.push(one),
        _ => drop(status.insert("conditions".to_owned(), json!([one]))),
    }
}
