//! Client certificates, judged at every call: a connection outlives its leaf, its root and its row.
//!
//! TLS has proven that the client holds the leaf's key and nothing else. What costs arithmetic (the chain up to a root
//! of the bundle) is remembered for each chain and bundle; time and the ledger's row are asked again each time.

use std::fmt::Debug;

use ledger::{Ended, Ledger, LiveRow, Witness};
use rustls_pki_types::CertificateDer;
use trust::chain::CHAIN_LEN_MAX;
use trust::digest::sha256;
use trust::{
    Bundle, BundleDigest, Certificate, CertificateId, Chain, ChainError, PeerRole, RootId, Serial,
    SpiffeId, SpkiHash, Timestamp, Validity,
};

use crate::bounded_cache::BoundedCache;
use crate::refusal::{Reason, Refusal};

/// Verified chains that are remembered at least.
const CACHE_ENTRIES: usize = 16 * 1024;

/// Finds the row of a leaf. The ledger is one; tests have others.
pub trait LiveRows: Send + Sync + Debug {
    /// The row with this serial number, if it has not expired.
    fn find(&self, serial: &Serial) -> Option<LiveRow>;

    /// The holder of a leaf showed it that an operator said nobody holds: its row counts again.
    fn shown(&self, serial: &Serial);
}

impl LiveRows for Ledger {
    fn find(&self, serial: &Serial) -> Option<LiveRow> {
        Self::find(self, serial)
    }

    fn shown(&self, serial: &Serial) {
        if let Err(error) = self.held(Witness::Server, *serial) {
            tracing::debug!(%serial, %error, "a forgotten leaf was shown, and has ended");
        }
    }
}

/// A client whose certificate was good at this call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateHolder {
    pub(super) identity: SpiffeId,
    pub(super) serial: Serial,
    pub(super) spki: SpkiHash,
}

#[derive(Debug)]
pub(super) struct ChainVerifier {
    verified: BoundedCache<([u8; 32], BundleDigest), VerifiedLeaf>,
}

#[derive(Debug, Clone)]
struct VerifiedLeaf {
    holder: CertificateHolder,
    certificate: CertificateId,
    /// When the whole path is valid, its root included.
    validity: Validity,
}

impl ChainVerifier {
    /// Remembers the chain of each of so many connections. The cache keeps at least half of its entries when it forgets.
    pub(super) fn for_connections(connections: usize) -> Self {
        Self { verified: BoundedCache::new(CACHE_ENTRIES.max(connections.saturating_mul(2))) }
    }

    pub(super) fn verify(
        &self,
        certificates: &[CertificateDer<'_>],
        bundle: &Bundle,
        rows: &dyn LiveRows,
        now: Timestamp,
    ) -> Result<CertificateHolder, Refusal> {
        if certificates.len() > CHAIN_LEN_MAX {
            let text = "the client's chain has more than 8 certificates";
            return Err(Refusal::new(Reason::CertificateChainTooLong, text));
        }
        let name = (digest(certificates), bundle.digest());
        let leaf = match self.verified.find(name) {
            Some(leaf) => leaf,
            None => {
                let leaf = verify_chain(certificates, bundle, now)?;
                self.verified.insert(name, leaf.clone());
                leaf
            }
        };
        if !leaf.validity.contains(now) {
            return Err(expired());
        }
        let live = rows.find(&leaf.holder.serial);
        let forgotten = live.as_ref().is_some_and(|live| live.forgotten.stands());
        matches_row(&leaf, live)?;
        if forgotten {
            rows.shown(&leaf.holder.serial);
            let text = "this certificate was forgotten by an operator of the CA (`banyan leaf forget`), who took it for gone; \
                        now that it was shown it counts again: try again, and tell the operator";
            return Err(Refusal::new(Reason::CertificateForgotten, text));
        }
        Ok(leaf.holder)
    }
}

fn digest(certificates: &[CertificateDer<'_>]) -> [u8; 32] {
    // DER says its own length, so different lists never give the same bytes.
    let all: Vec<u8> =
        certificates.iter().flat_map(|certificate| certificate.as_ref()).copied().collect();
    sha256(&all)
}

fn verify_chain(
    certificates: &[CertificateDer<'_>],
    bundle: &Bundle,
    now: Timestamp,
) -> Result<VerifiedLeaf, Refusal> {
    let chain = Chain::parse(certificates).map_err(|error| chain_refusal(&error))?;
    let leaf = chain.leaf();
    if leaf.is_ca() {
        return Err(chain_refusal(&ChainError::CaAsLeaf));
    }
    let identity = leaf.spiffe_id().map_err(|error| {
        Refusal::new(Reason::CertificateIdentityInvalid, format!("the client certificate: {error}"))
    })?;
    if identity.trust_domain() != bundle.trust_domain() {
        let text = "the client certificate is of another trust domain";
        return Err(Refusal::new(Reason::CertificateTrustDomainForeign, text));
    }
    if identity.is_reserved() && identity.agent_name().is_none() {
        let text = "the CA's own certificates are no credential of callers";
        return Err(Refusal::new(Reason::CertificateIdentityInvalid, text));
    }
    let root =
        chain.verify(bundle, now, PeerRole::Client).map_err(|error| chain_refusal(&error))?;
    let serial = leaf.serial().ok_or_else(not_issued)?;
    let validity = path_validity(&chain, bundle, root).ok_or_else(expired)?;
    let holder = CertificateHolder { identity, serial, spki: leaf.spki_hash() };
    Ok(VerifiedLeaf { holder, certificate: leaf.id(), validity })
}

fn path_validity(chain: &Chain, bundle: &Bundle, root: RootId) -> Option<Validity> {
    let root = bundle.roots().iter().find(|candidate| candidate.id() == root)?;
    let all = || chain.certificates().chain([root.certificate()]).map(Certificate::validity);
    let start = all().map(|validity| validity.not_before()).max()?;
    let end = all().map(|validity| validity.not_after()).min()?;
    Validity::new(start, end).ok()
}

/// A leaf that verifies but has no row of the same serial, key and identity was not issued here, whoever signed it.
fn matches_row(leaf: &VerifiedLeaf, row: Option<LiveRow>) -> Result<(), Refusal> {
    let live = row.ok_or_else(not_issued)?;
    let same_leaf = live.certificate.is_none_or(|certificate| certificate == leaf.certificate);
    if live.row.spki != leaf.holder.spki || live.row.identity != leaf.holder.identity || !same_leaf
    {
        return Err(not_issued());
    }
    match live.ended {
        Some(Ended::Released | Ended::Abandoned) => {
            let text = "the client certificate was given up: authenticate with another credential";
            Err(Refusal::new(Reason::CertificateReleased, text))
        }
        // A connection may have been opened with the leaf before its successor was applied.
        Some(Ended::Superseded { .. }) | None => Ok(()),
    }
}

fn chain_refusal(error: &ChainError) -> Refusal {
    match error {
        ChainError::Length(_) => Refusal::new(
            Reason::CertificateChainTooLong,
            format!("the client's certificate: {error}"),
        ),
        ChainError::CaAsLeaf => Refusal::new(
            Reason::CertificateCaAsLeaf,
            "a CA certificate is no credential of callers",
        ),
        ChainError::NotValidNow => expired(),
        ChainError::UnknownRoot | ChainError::Path(_) => {
            let text = "the client's chain does not verify to a root of the present bundle";
            Refusal::new(Reason::CertificateUntrusted, text)
        }
        _ => {
            Refusal::new(Reason::CertificateMalformed, format!("the client's certificate: {error}"))
        }
    }
}

fn expired() -> Refusal {
    let text = "the client's certificate or its chain has expired or is not valid yet";
    Refusal::new(Reason::CertificateExpired, text)
}

fn not_issued() -> Refusal {
    let text = "the client certificate matches no live row of the ledger: authenticate with another credential";
    Refusal::new(Reason::CertificateNotIssued, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{CaMaterial, id};

    #[test]
    fn the_chain_of_each_connection_that_is_allowed_is_remembered() {
        let connections = 3 * CACHE_ENTRIES;
        let verifier = ChainVerifier::for_connections(connections);
        let bundle = CaMaterial::new().snapshot(1).bundle().digest();
        let (start, end) = (Timestamp::from_secs(1), Timestamp::from_secs(2));
        let leaf = VerifiedLeaf {
            holder: CertificateHolder {
                identity: id("/ns/shop/sa/cart"),
                serial: Serial::from_bytes(&[0x41; Serial::LEN]).unwrap(),
                spki: SpkiHash::of(b"key"),
            },
            certificate: CertificateId::of(b"leaf"),
            validity: Validity::new(start, end).unwrap(),
        };
        let name = |number: usize| (sha256(&number.to_be_bytes()), bundle);
        (0..connections).for_each(|number| verifier.verified.insert(name(number), leaf.clone()));
        let forgotten =
            (0..connections).filter(|number| verifier.verified.find(name(*number)).is_none());
        assert_eq!(forgotten.count(), 0);
    }
}
