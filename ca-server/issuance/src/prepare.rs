//! Preparation: builds the bytes to sign, lints them, and hands them on as a token that can be used once.

use ledger::Row;
use trust::der::DerTime;
use trust::{Randomness, Serial, Timestamp};

use crate::lint::{Expected, LintFinding, lint};
use crate::profile::{
    LeafProfile, Lifetime, LifetimeRefused, NO_REV_AVAIL_TTL_MAX, key_usage_bits,
};
use crate::request::AuthorizedRequest;
use crate::snapshot::CountedSnapshot;
use crate::template::{LeafFields, to_be_signed};

/// Bytes of the subject key identifier: the leftmost 160 bits of the key's SHA-256, as RFC 7093 §2 shortens it.
const SUBJECT_KEY_ID_LEN: usize = 20;

/// A linted leaf that is not signed yet, with the row that the ledger must hold first.
///
/// It cannot be copied, and [`crate::sign::sign`] consumes it together with the proof that its row is durable: one
/// preparation, one row, at most one signature.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) tbs: Vec<u8>,
    pub(crate) row: Row,
    pub(crate) lifetime: Lifetime,
    pub(crate) snapshot: CountedSnapshot,
}

/// Why no leaf could be prepared. Nothing was stored and nothing signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// The profile allows no leaf for this request now.
    #[error(transparent)]
    Lifetime(#[from] LifetimeRefused),
    /// The identity is of another trust domain than the snapshot's bundle.
    #[error("the identity is of another trust domain")]
    OtherTrustDomain,
    /// A time lies outside the years 0 to 9999.
    #[error("the leaf's life cannot be written as a date: check this machine's clock")]
    Date,
    /// The lint found a difference.
    #[error(transparent)]
    Lint(#[from] LintFinding),
}

impl Prepared {
    /// The row that must be durable before the signature.
    pub const fn row(&self) -> &Row {
        &self.row
    }
}

/// Decides the leaf's life under the captured bounds, draws its serial number, builds it and lints it.
///
/// # Errors
/// [`PrepareError`]; a lint finding is a defect of this program, anything else is the request's or the moment's.
pub fn prepare(
    request: &AuthorizedRequest,
    profile: &LeafProfile,
    snapshot: CountedSnapshot,
    now: Timestamp,
    randomness: &dyn Randomness,
) -> Result<Prepared, PrepareError> {
    if request.identity().trust_domain() != snapshot.bundle().trust_domain() {
        return Err(PrepareError::OtherTrustDomain);
    }
    let snapshot = snapshot.signing_for(request.identity());
    let lifetime = profile.lifetime(request.ttl(), now, &snapshot.bounds())?;
    let Lifetime { validity, .. } = lifetime;
    let serial = Serial::random(randomness);
    let spki_hash = request.public_key().hash();
    let signer = snapshot.signer();
    let date = |time| DerTime::new(time).ok_or(PrepareError::Date);
    let fields = LeafFields {
        serial,
        algorithm: signer.algorithm(),
        issuer_name: signer.issuer_name(),
        not_before: date(validity.not_before())?,
        not_after: date(validity.not_after())?,
        spki: request.public_key().spki_der(),
        identity: request.identity().as_str(),
        names: request.names(),
        key_usage: key_usage_bits(request.public_key().kind()),
        subject_key_id: spki_hash.as_bytes().get(..SUBJECT_KEY_ID_LEN).unwrap_or_default(),
        authority_key_id: signer.issuer_key_id(),
        no_rev_avail: !profile.settings().revocation_lists
            && validity.not_after().since(validity.not_before()) <= NO_REV_AVAIL_TTL_MAX,
    };
    let tbs = to_be_signed(&fields);
    lint(&tbs, &Expected { fields: &fields, validity })?;
    let row = Row {
        serial,
        spki: spki_hash,
        identity: request.identity().clone(),
        agent: request.agent().map(str::to_owned),
        root: signer.root(),
        issuer: signer.issuer(),
        not_after: validity.not_after(),
        born: snapshot.bundle().sequence(),
        kind: request.kind(),
        word: request.word(),
    };
    Ok(Prepared { tbs, row, lifetime, snapshot })
}
