//! What a request wants and what comes of it, whatever its kind.

use proto::banyan::admin::v1::SignResponse;
use serde_json::Value;
use trust::{SpiffeId, Timestamp};

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// PKCS #10, in DER or PEM.
    pub(crate) csr: Vec<u8>,
    /// Whose it is.
    pub(crate) identity: SpiffeId,
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
}

impl Signed {
    pub(crate) fn of(answer: &SignResponse, at: Timestamp) -> Self {
        let pem = answer.chain.iter().map(|der| trust::certificate::pem_block(der));
        Self {
            chain: pem.collect(),
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
