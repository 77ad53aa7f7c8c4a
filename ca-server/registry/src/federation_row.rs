//! A federation with another trust domain as it is stored, with the last good bundle of that domain: one row, so that whoever
//! removes it removes both.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use trust::{Cover, Timestamp};

/// One federation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FederationForm", into = "FederationForm")]
pub struct FederationRow {
    /// Where its bundle is: an HTTPS address.
    pub endpoint: String,
    /// Who is believed there.
    pub profile: EndpointProfile,
    /// Within which time that domain reads our bundle anew; `None` if it does not, or nobody waits for it.
    pub reads_within: Option<Duration>,
    /// Who keeps it; empty for operators.
    pub owner: String,
    /// Whose word.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it was given.
    pub at: Timestamp,
    /// SHA-256 of the bundle that was given by hand last, in hexadecimal; empty if none was.
    pub given: String,
    /// Its last good bundle; `None` before the first.
    pub bundle: Option<ForeignBundle>,
}

/// Who is believed at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointProfile {
    /// Whoever has a certificate for its host name: below these CAs (PEM), or those of this machine.
    Web(Option<String>),
    /// Whoever has one of these SPIFFE ids, by the bundle of that trust domain itself.
    Spiffe(Cover),
}

/// The bundle of another trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignBundle {
    /// Its number there; `None` if it has none.
    pub sequence: Option<u64>,
    /// How often it wants to be read, in seconds.
    pub refresh_hint: Option<u64>,
    /// Its roots, in DER, sorted by their fingerprints.
    pub roots: Vec<Vec<u8>>,
    /// When it was taken.
    pub taken: Timestamp,
    /// When it was read last, and was this one or an equal one; `None` before it was read there.
    pub checked: Option<Timestamp>,
}

/// What was read compared with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// It is another one, and was taken.
    Newer,
    /// It is the one that is there.
    Same,
    /// The federation is another one by now, or gone: nothing was taken.
    Overtaken,
}

/// A bundle that was read and is not taken; the last good one stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignRefused {
    /// Its sequence goes back.
    Older {
        /// The one that is there.
        known: u64,
        /// The one that was read.
        read: u64,
    },
    /// It has no sequence, and the one that is there has.
    Unnumbered(u64),
    /// Two contents of one sequence.
    Ambiguous(u64),
}

impl fmt::Display for ForeignRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Older { known, read } => write!(
                f,
                "its sequence goes back from {known} to {read}, as after a restored backup, or from a server that is behind"
            ),
            Self::Unnumbered(known) => {
                write!(f, "it has no sequence any more, and the one before it had {known}")
            }
            Self::Ambiguous(sequence) => {
                write!(f, "sequence {sequence} came a second time with other roots")
            }
        }
    }
}

impl FederationRow {
    /// Whether the same place is asked in the same way.
    pub fn asks_like(&self, other: &Self) -> bool {
        (&self.endpoint, &self.profile) == (&other.endpoint, &other.profile)
    }
}

impl ForeignBundle {
    /// Whether another one may take its place. A number 0 is as good as none.
    pub(crate) fn yields_to(&self, read: &Self) -> Result<Checked, ForeignRefused> {
        let same = self.roots == read.roots;
        let numbered = |bundle: &Self| bundle.sequence.filter(|sequence| *sequence > 0);
        match (numbered(self), numbered(read)) {
            (Some(known), Some(read)) if read < known => Err(ForeignRefused::Older { known, read }),
            (Some(known), Some(read)) if read == known && !same => {
                Err(ForeignRefused::Ambiguous(read))
            }
            (Some(known), None) => Err(ForeignRefused::Unnumbered(known)),
            _ if same && self.sequence == read.sequence => Ok(Checked::Same),
            _ => Ok(Checked::Newer),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FederationForm {
    endpoint: String,
    /// `None` for `https_web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint_ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reads_within: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    owner: String,
    by: String,
    reason: String,
    at: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    given: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bundle: Option<BundleForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_hint: Option<u64>,
    roots: Vec<String>,
    taken: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checked: Option<i64>,
}

impl From<FederationRow> for FederationForm {
    fn from(row: FederationRow) -> Self {
        let (endpoint_id, endpoint_ca) = match row.profile {
            EndpointProfile::Web(ca) => (None, ca),
            EndpointProfile::Spiffe(id) => (Some(id.to_string()), None),
        };
        Self {
            endpoint: row.endpoint,
            endpoint_id,
            endpoint_ca,
            reads_within: row.reads_within.map(|within| within.as_secs()),
            owner: row.owner,
            by: row.by,
            reason: row.reason,
            at: row.at.as_secs(),
            given: row.given,
            bundle: row.bundle.map(|bundle| BundleForm {
                sequence: bundle.sequence,
                refresh_hint: bundle.refresh_hint,
                roots: bundle.roots.iter().map(|der| STANDARD.encode(der)).collect(),
                taken: bundle.taken.as_secs(),
                checked: bundle.checked.map(Timestamp::as_secs),
            }),
        }
    }
}

impl TryFrom<FederationForm> for FederationRow {
    type Error = String;

    fn try_from(form: FederationForm) -> Result<Self, String> {
        let profile = match (form.endpoint_id, form.endpoint_ca) {
            (Some(id), None) => {
                let id = Cover::parse(&id).map_err(|error| format!("{id:?}: {error}"))?;
                EndpointProfile::Spiffe(id)
            }
            (None, ca) => EndpointProfile::Web(ca),
            (Some(_), Some(_)) => return Err("it has two profiles".to_owned()),
        };
        let bundle = form.bundle.map(|bundle| {
            let roots = bundle.roots.iter().map(|text| STANDARD.decode(text));
            let roots: Result<Vec<_>, _> = roots.collect();
            Ok::<_, String>(ForeignBundle {
                sequence: bundle.sequence,
                refresh_hint: bundle.refresh_hint,
                roots: roots.map_err(|error| format!("a root: {error}"))?,
                taken: Timestamp::from_secs(bundle.taken),
                checked: bundle.checked.map(Timestamp::from_secs),
            })
        });
        Ok(Self {
            endpoint: form.endpoint,
            profile,
            reads_within: form.reads_within.map(Duration::from_secs),
            owner: form.owner,
            by: form.by,
            reason: form.reason,
            at: Timestamp::from_secs(form.at),
            given: form.given,
            bundle: bundle.transpose()?,
        })
    }
}
