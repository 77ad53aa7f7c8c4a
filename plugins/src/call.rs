//! What every call carries and may answer: request ids, deadlines, tickets, health.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use trust::Timestamp;

/// The name of one intention of the caller, the same on every repetition of the call.
///
/// The caller stores it durably before the first call, so that a crash between "done" and "recorded" repeats the call
/// with the same id and gets the same answer: no second root, no second key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(String);

/// A request id that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a request id has 1 to 128 characters of A-Z, a-z, 0-9, '-', '_', '.' and ':'")]
pub struct InvalidRequestId;

impl RequestId {
    /// Longest request id, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Takes a request id of 1 to 128 characters of `[A-Za-z0-9._:-]`.
    ///
    /// # Errors
    /// [`InvalidRequestId`] for any other text.
    pub fn parse(text: &str) -> Result<Self, InvalidRequestId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if text.is_empty() || text.len() > Self::MAX_LEN || !text.bytes().all(allowed) {
            return Err(InvalidRequestId);
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What comes with every call to an authority.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallContext {
    /// The intention this call serves; repeated calls carry the same id.
    pub request_id: RequestId,
    /// How long the caller will wait for the answer, counted from the call. The caller drops the future when it is
    /// over; a plugin uses it to bound its own requests, never to extend the wait.
    pub deadline: Duration,
}

impl CallContext {
    /// A context for one call.
    pub fn new(request_id: RequestId, deadline: Duration) -> Self {
        Self { request_id, deadline }
    }
}

/// An answer that is there, or one that will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The answer.
    Ready(T),
    /// The work goes on elsewhere, perhaps for days (an offline root, a human's approval).
    Pending {
        /// What to hand to `poll`.
        ticket: Ticket,
        /// How long to wait before polling. The caller never polls earlier.
        retry_after: Duration,
    },
}

/// A claim on an answer that is not there yet.
///
/// Opaque to the caller, which stores it durably and hands it back after any restart of either side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(String);

impl Ticket {
    /// Wraps the plugin's own name for pending work (at most 4 KiB are kept by callers).
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The plugin's own name for the pending work.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How an authority or key backend is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether it can serve.
    pub state: HealthState,
    /// The earliest end of anything it depends on (a root, a token), if it knows one.
    pub earliest_expiry: Option<Timestamp>,
    /// What an operator should read, lower case, without secrets; empty when there is nothing to say.
    pub detail: String,
    /// Whether it waits for a person, as `detail` says, and nothing is wrong: an offline root that has a ceremony to hold.
    pub waits: bool,
}

/// Whether something can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HealthState {
    /// It serves.
    Ok,
    /// It serves, but an operator should look.
    Degraded,
    /// It does not serve.
    Down,
}

impl Health {
    /// All is well.
    pub fn ok() -> Self {
        Self { state: HealthState::Ok, earliest_expiry: None, detail: String::new(), waits: false }
    }

    /// It serves, and waits for a person, and for what. Days may pass: that is no fault.
    pub fn waiting(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), waits: true, ..Self::ok() }
    }

    /// It serves, but an operator should look, and at what.
    pub fn degraded(detail: impl Into<String>) -> Self {
        Self { state: HealthState::Degraded, detail: detail.into(), ..Self::ok() }
    }

    /// It does not serve, and why.
    pub fn down(detail: impl Into<String>) -> Self {
        Self { state: HealthState::Down, detail: detail.into(), ..Self::ok() }
    }

    /// The same health, with a note for whoever looks: nothing that needs to be done soon.
    pub fn noted(self, note: impl Into<String>) -> Self {
        Self { detail: note.into(), ..self }
    }

    /// The same health, with the earliest end of what it depends on.
    pub fn until(self, earliest_expiry: Option<Timestamp>) -> Self {
        Self { earliest_expiry, ..self }
    }
}

/// Longest foreign text that is shown, in characters.
const SHOWN_MAX: usize = 512;

/// What stands for a private key in a text that is shown.
const HIDDEN: &str = "(private key hidden)";

/// A text of a plugin as logs, journals and operators may see it: short, on one line, and never with the contents of a
/// private key. The name of a kind of key is no secret, and stays.
///
/// Whoever shows a [`Health::detail`] or an error of an authority sends it through here first.
pub fn shown(text: &str) -> String {
    let visible = without_keys(text);
    let short = visible.chars().take(SHOWN_MAX);
    short.map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// The innermost reason of an error, which the outer ones only wrap.
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// The text without what begins as a private key in PEM, up to the end of that block, or of the text.
fn without_keys(text: &str) -> String {
    let (mut visible, mut rest) = (String::new(), text);
    while let Some(begin) = key_begins(rest) {
        let (before, key) = rest.split_at(begin);
        visible.push_str(before);
        visible.push_str(HIDDEN);
        let after = key.split_once("-----END ").and_then(|(_, end)| end.split_once("-----"));
        rest = after.map_or("", |(_, after)| after);
    }
    visible.push_str(rest);
    // The end of a block without its beginning: what stands before it may be the key.
    match visible.split_once("-----END ").is_some_and(|(_, end)| end.contains("PRIVATE KEY-----")) {
        true => HIDDEN.to_owned(),
        false => visible,
    }
}

/// Where a block that is a private key begins.
fn key_begins(text: &str) -> Option<usize> {
    const BEGIN: &str = "-----BEGIN ";
    text.match_indices(BEGIN).map(|(at, _)| at).find(|at| {
        let label = text.get(at + BEGIN.len()..).unwrap_or_default();
        let label = label.split("-----").next().unwrap_or_default();
        label.contains("PRIVATE KEY")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_texts_are_short_and_hold_no_key() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(shown(&"x".repeat(9_999)).len(), SHOWN_MAX);
        assert!(!shown("-----BEGIN PRIVATE KEY-----\nMC4").contains("MC4"));
        let two = "a -----BEGIN EC PRIVATE KEY-----\nMC4\n-----END EC PRIVATE KEY----- b -----BEGIN PRIVATE KEY-----\nMC5";
        assert_eq!(shown(two), format!("a {HIDDEN} b {HIDDEN}"));
        assert_eq!(shown("MC4\n-----END PRIVATE KEY-----"), HIDDEN);
    }

    #[test]
    fn the_name_of_a_kind_of_key_is_shown() {
        let told = "ca-key.pem holds an ENCRYPTED PRIVATE KEY; decrypt it";
        assert_eq!(shown(told), told);
        let certificate = "-----BEGIN CERTIFICATE----- of the PRIVATE KEY";
        assert_eq!(shown(certificate), certificate);
    }

    #[test]
    fn a_request_id_is_short_and_plain() {
        assert_eq!(
            RequestId::parse("bootstrap-1:root").map(|id| id.to_string()),
            Ok("bootstrap-1:root".to_owned())
        );
        for wrong in ["", "a b", "a/b", "ü", "a\0", &"x".repeat(129)] {
            assert_eq!(RequestId::parse(wrong), Err(InvalidRequestId), "{wrong:?}");
        }
        assert!(RequestId::parse(&"x".repeat(128)).is_ok());
    }
}
