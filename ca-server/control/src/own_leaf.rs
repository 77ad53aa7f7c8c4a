//! The server's own leaf: issued like any other, with a row of its own, for a key that never leaves this process.

use issuance::{
    AuthorizedRequest, CountedSnapshot, IdentityReserved, IssueError, Issuer, ServingNames,
    Snapshot,
};
use ledger::{Ledger, RowFilter, RowKind, Witness};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use trust::{CertificateId, PublicKey, Sequence, Serial, SpiffeId, SpkiHash, Timestamp, Validity};

use crate::front::ServerIdentity;

/// Rows looked at in one turn.
const PAGE: usize = 256;

/// A leaf to serve with.
pub struct OwnLeaf {
    /// What handshakes are answered with.
    pub identity: ServerIdentity,
    /// Chain and key, to sign changes of the bundle with.
    pub signing_leaf: (Vec<Vec<u8>>, KeyPair),
    /// Its key.
    pub key: SpkiHash,
    /// Its serial number.
    pub serial: Serial,
    /// Its life.
    pub validity: Validity,
}

/// Why the server has no leaf of its own. A former one is served on until its end.
#[derive(Debug, thiserror::Error)]
pub enum OwnLeafError {
    /// No key could be made.
    #[error("cannot make a key for the server's own leaf: {0}")]
    Key(#[from] rcgen::Error),
    /// The key that was made cannot be read.
    #[error("cannot read the key made for the server's own leaf: {0}")]
    Public(#[from] trust::key::KeyError),
    /// The server's id is not that of a CA.
    #[error(transparent)]
    Identity(#[from] IdentityReserved),
    /// It could not be issued.
    #[error("cannot issue the server's own leaf: {0}")]
    Issue(#[from] IssueError),
}

/// The leaf that is served.
#[derive(Debug)]
pub struct Own {
    /// Its life.
    pub validity: Validity,
    /// What it was issued under.
    pub under: Under,
}

/// What a leaf was issued under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Under {
    bundle: Sequence,
    issuer: CertificateId,
    cross: Option<CertificateId>,
}

/// Whether the leaf that is served is to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It is good.
    NotYet,
    /// It still serves: a renewal that fails is tried again after a pause.
    Due,
    /// It is not valid now, so no client connects at all: whatever failed before, it is tried each second.
    AtOnce,
}

impl Under {
    /// What a leaf of this snapshot is issued under.
    pub fn of(snapshot: &Snapshot) -> Self {
        Self {
            bundle: snapshot.bundle().sequence(),
            issuer: snapshot.signer().issuer(),
            cross: snapshot.sent_cross(),
        }
    }
}

impl Own {
    /// What is due at a time that is believed, with this bundle and signer in force.
    pub fn due(&self, under: &Under, now: Timestamp) -> Renewal {
        match self.validity.contains(now) {
            false => Renewal::AtOnce,
            true if self.under != *under || is_past_half(&self.validity, now) => Renewal::Due,
            true => Renewal::NotYet,
        }
    }
}

/// Whether more than half of a life is over.
pub fn is_past_half(validity: &Validity, now: Timestamp) -> bool {
    let life = validity.not_after().since(validity.not_before());
    now >= validity.not_before().plus(life / 2)
}

/// Issues a leaf for a new key, at a time that the caller answers for.
pub async fn issue(
    issuer: &Issuer,
    snapshot: CountedSnapshot,
    id: &SpiffeId,
    names: &ServingNames,
    now: Timestamp,
) -> Result<OwnLeaf, OwnLeafError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let public = PublicKey::parse(&pair.subject_public_key_info())?;
    let key = public.hash();
    let request = AuthorizedRequest::own(id.clone(), public, names.clone(), None)?;
    let leaf = issuer.issue_at(&request, snapshot, now).await?;
    let chain = leaf.chain_der().into_iter().map(CertificateDer::from).collect();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let (serial, validity) = (leaf.serial(), leaf.lifetime().validity);
    let identity = ServerIdentity { chain, key: private };
    Ok(OwnLeaf { identity, signing_leaf: (leaf.chain_der(), pair), key, serial, validity })
}

/// Gives up the leaves of this server that it does not serve with: those of former runs, whose keys are gone, and those
/// that were renewed. Their rows would hold gates until their ends.
pub async fn release_others(ledger: &Ledger, served: Serial) {
    let filter = RowFilter { kind: Some(RowKind::Own), ..RowFilter::default() };
    let mut after = None;
    loop {
        let page = ledger.rows(&filter, after, PAGE);
        for serial in
            page.rows.iter().map(|live| live.row.serial).filter(|serial| *serial != served)
        {
            if let Err(error) = ledger.release(Witness::Server, serial).await {
                tracing::warn!(%error, %serial, "a former leaf of this server holds gates until its end");
            }
        }
        after = page.next;
        if after.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_leaf_that_is_not_valid_now_is_replaced_at_once_whichever_way_the_clock_was_set() {
        let hours = |hours: u64| {
            Timestamp::from_secs(1_800_000_000).plus(Duration::from_secs(hours * 3_600))
        };
        let under =
            Under { bundle: Sequence(3), issuer: CertificateId::of(b"issuer"), cross: None };
        let own = Own { validity: Validity::new(hours(10), hours(34)).unwrap(), under };
        for (hour, due) in [
            (9, Renewal::AtOnce),
            (10, Renewal::NotYet),
            (21, Renewal::NotYet),
            (22, Renewal::Due),
            (34, Renewal::Due),
            (35, Renewal::AtOnce),
        ] {
            assert_eq!(own.due(&under, hours(hour)), due, "at hour {hour}");
        }
        for other in [
            Under { bundle: Sequence(4), ..under },
            Under { issuer: CertificateId::of(b"other"), ..under },
            Under { cross: Some(CertificateId::of(b"cross")), ..under },
        ] {
            assert_eq!(own.due(&other, hours(11)), Renewal::Due, "{other:?}");
        }
    }
}
