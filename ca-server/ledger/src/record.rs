//! What is written: one record per thing that happened to a row, and for refusals.

use std::net::SocketAddr;
use std::sync::Arc;

use trust::{CertificateId, Serial, Timestamp};

use crate::row::{Forgotten, LiveRow, Proof, Row};

/// Longest text in a record but an identity, in bytes. Longer ones are cut, or refused where they are names.
pub const TEXT_BYTES_MAX: usize = 256;

/// A record and the time it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Wall-clock time when the record was made.
    pub at: Timestamp,
    /// The record.
    pub record: Record,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A leaf may be signed. Durable before the signature is made.
    Intent(Arc<Row>),
    /// The leaf was signed and verified.
    Issued {
        /// The row.
        serial: Serial,
        /// The certificate.
        certificate: CertificateId,
    },
    /// The leaf will not be handed out: its request failed after the intent.
    Abandoned {
        /// The row.
        serial: Serial,
        /// Why, from a closed set; at most [`TEXT_BYTES_MAX`] bytes.
        reason: String,
    },
    /// Its holder, or somebody who can see it, proved what the holder trusts.
    Acked {
        /// The row.
        serial: Serial,
        /// What was proven.
        proof: Proof,
    },
    /// Its holder gave the leaf up, or was seen to exit.
    Released {
        /// The row.
        serial: Serial,
    },
    /// A newer leaf took the place of this one everywhere.
    Superseded {
        /// The older row.
        serial: Serial,
        /// The newer one.
        by: Serial,
    },
    /// An operator said that nobody holds the leaf, or its holder showed that it does. The journal has who and why.
    Turned {
        /// The row.
        serial: Serial,
        /// What holds from now on.
        forgotten: Forgotten,
    },
    /// The leaf was issued for another one that its chain alone vouched for: the server that had issued that one did not answer.
    Unmatched {
        /// The row.
        serial: Serial,
        /// The leaf that was shown.
        shown: Serial,
        /// The server that should have its row; at most [`TEXT_BYTES_MAX`] bytes.
        owner: String,
    },
    /// Where the bearer is whose token the leaf was issued for: pod, UID, node, cluster. It is written only where that is
    /// configured, since a release that does not know it reads no file that has it.
    Bearer {
        /// The row.
        serial: Serial,
        /// Where; at most [`TEXT_BYTES_MAX`] bytes.
        place: String,
    },
    /// A request was refused.
    Refused(AuditRefusal),
    /// Refusals that were not written one by one, because too many came in one second.
    Suppressed {
        /// How many. None: somebody only tried whether the file can be written.
        refusals: u64,
        /// When the first of them came.
        since: Timestamp,
    },
    /// A row from an older file, with all that was known about it when that file was compacted.
    Carried(LiveRow),
    /// The last record of a full or closed file.
    End {
        /// How many records stand before it in the file.
        records: u64,
    },
}

impl Record {
    /// The row that the record is about, if it is about one.
    #[must_use]
    pub fn serial(&self) -> Option<Serial> {
        match self {
            Self::Intent(row) => Some(row.serial),
            Self::Carried(live) => Some(live.row.serial),
            Self::Issued { serial, .. }
            | Self::Abandoned { serial, .. }
            | Self::Acked { serial, .. }
            | Self::Released { serial }
            | Self::Turned { serial, .. }
            | Self::Unmatched { serial, .. }
            | Self::Bearer { serial, .. }
            | Self::Superseded { serial, .. } => Some(*serial),
            Self::Refused(_) | Self::Suppressed { .. } | Self::End { .. } => None,
        }
    }
}

/// A refusal as the audit keeps it. All texts are escaped and cut to [`TEXT_BYTES_MAX`] bytes when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRefusal {
    reason: String,
    caller: String,
    identity: Option<String>,
    peer: Option<String>,
    detail: String,
}

impl AuditRefusal {
    /// A refusal for a stable machine `reason`, of a caller of the kind `caller` (both from closed sets).
    #[must_use]
    pub fn new(reason: &str, caller: &str) -> Self {
        Self {
            reason: escape(reason),
            caller: escape(caller),
            identity: None,
            peer: None,
            detail: String::new(),
        }
    }

    /// Adds the caller's identity, when it is known.
    #[must_use]
    pub fn identity(mut self, identity: &str) -> Self {
        self.identity = Some(escape(identity));
        self
    }

    /// Adds the address the request came from.
    #[must_use]
    pub fn peer(mut self, peer: SocketAddr) -> Self {
        self.peer = Some(peer.to_string());
        self
    }

    /// Adds what the caller was told. It may echo what the caller sent: control characters are escaped here.
    #[must_use]
    pub fn detail(mut self, detail: &str) -> Self {
        self.detail = escape(detail);
        self
    }

    /// The stable machine reason.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Reason, caller, identity, peer and detail, as they are written.
    pub(crate) fn texts(&self) -> (&str, &str, Option<&str>, Option<&str>, &str) {
        (&self.reason, &self.caller, self.identity.as_deref(), self.peer.as_deref(), &self.detail)
    }

    /// Takes back what [`texts`](Self::texts) gave: it is escaped already.
    pub(crate) fn from_texts(
        (reason, caller, identity, peer, detail): (
            String,
            String,
            Option<String>,
            Option<String>,
            String,
        ),
    ) -> Self {
        Self { reason, caller, identity, peer, detail }
    }
}

/// Escapes control characters, quotes, backslashes and everything outside ASCII, and cuts between escapes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        let before = escaped.len();
        escaped.extend(character.escape_default());
        if escaped.len() > TEXT_BYTES_MAX {
            escaped.truncate(before);
            break;
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_sent_is_escaped_and_cut() {
        assert_eq!(escape("a\n\"b\u{202e}\\"), "a\\n\\\"b\\u{202e}\\\\");
        let long = escape(&"\0".repeat(10_000));
        assert!(long.len() <= TEXT_BYTES_MAX && long.ends_with("\\u{0}"), "{long}");
    }
}
