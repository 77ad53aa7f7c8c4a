//! Further roots: roots of others that an authority has everybody here trust, beside its own.
//!
//! No issuer of ours stands below one, so no leaf of ours depends on it; leaves of others do, of which nothing is known
//! here. They are kept apart from the roots of [`State::roots`](crate::State::roots): a root may be both, and stays
//! trusted as long as it is either.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use trust::{Generation, Root, RootId, Timestamp};

use crate::codec;
use crate::{AuthorityName, Der};

/// Most further roots that are trusted at once: half of a bundle, so that a rotation always has room.
pub const FURTHER_ROOTS_MAX: usize = 32;

/// A further root as its authority told it, checked by who received it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FurtherRoot {
    /// Its id.
    #[serde(with = "codec::text")]
    pub id: RootId,
    /// The certificate.
    pub der: Der,
    /// Last second of the certificate.
    #[serde(with = "codec::seconds")]
    pub not_after: Timestamp,
}

/// A further root that is trusted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FurtherEntry {
    /// The certificate.
    pub der: Der,
    /// Last second of the certificate.
    #[serde(with = "codec::seconds")]
    pub not_after: Timestamp,
    /// Since when it is trusted as a further root.
    #[serde(with = "codec::seconds")]
    pub since: Timestamp,
    /// The authorities that have it trusted; at least one.
    pub by: BTreeSet<AuthorityName>,
    /// The change that had it trusted, or named it to a neighbor first. Records of former releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "codec::optional_generation")]
    pub decided: Option<Generation>,
}

impl FurtherRoot {
    /// Takes a root that was parsed and checked.
    pub fn of(root: &Root) -> Self {
        let not_after = root.certificate().validity().not_after();
        Self { id: root.id(), der: Der::from(root.der()), not_after }
    }
}
