//! The server's own leaf: issued like any other, with a row of its own, for a key that never leaves this process.

use issuance::{AuthorizedRequest, CountedSnapshot, IdentityReserved, IssueError, Issuer, ServingNames};
use ledger::{Ledger, RowFilter, RowKind, Witness};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use trust::{PublicKey, Serial, SpiffeId, SpkiHash, Timestamp, Validity};

use crate::front::ServerIdentity;

/// Rows looked at in one turn.
const PAGE: usize = 256;

/// A leaf to serve with.
pub(super) struct OwnLeaf {
    pub(super) identity: ServerIdentity,
    /// Chain and key, to sign changes of the bundle with.
    pub(super) signing_leaf: (Vec<Vec<u8>>, KeyPair),
    pub(super) key: SpkiHash,
    pub(super) serial: Serial,
    pub(super) validity: Validity,
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

/// Issues a leaf for a new key, at a time that the caller answers for.
pub(super) async fn issue(
    issuer: &Issuer,
    snapshot: CountedSnapshot,
    (id, names): (&SpiffeId, &ServingNames),
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
pub(super) async fn release_others(ledger: &Ledger, served: Serial) {
    let filter = RowFilter { kind: Some(RowKind::Own), ..RowFilter::default() };
    let mut after = None;
    loop {
        let page = ledger.rows(&filter, after, PAGE);
        for serial in page.rows.iter().map(|live| live.row.serial).filter(|serial| *serial != served) {
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
