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
/// The same of other servers of the CA, which are few.
const SERVERS: usize = 256;

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

/// What the server that issued a leaf says of its row, where that is not the server that the leaf is shown to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// Its row.
    Row(RowWord),
    /// It has none.
    Unknown,
    /// It cannot be asked now.
    Silent {
        /// Whether the root of the leaf is distrusted: then a chain alone proves nothing.
        tainted: bool,
    },
}

/// A row, as far as it judges a leaf that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowWord {
    /// The key that the leaf certifies.
    pub spki: SpkiHash,
    /// The identity that it names.
    pub identity: SpiffeId,
    /// Its certificate, once that is known.
    pub certificate: Option<CertificateId>,
    /// Whether it may be shown.
    pub standing: Standing,
}

/// Whether a leaf that has a row may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Live,
    /// Its holder has a newer one. A connection may have been opened with the leaf before its successor was applied.
    Superseded,
    /// Its holder gave it up.
    Released,
    /// An operator took it for gone.
    Forgotten,
}

impl From<&LiveRow> for RowWord {
    fn from(live: &LiveRow) -> Self {
        let standing = match live.ended {
            Some(Ended::Released | Ended::Abandoned) => Standing::Released,
            // Nobody is known by a leaf that an agent probes with.
            _ if !live.row.kind.is_members() => Standing::Released,
            _ if live.forgotten.stands() => Standing::Forgotten,
            Some(Ended::Superseded { .. }) => Standing::Superseded,
            None => Standing::Live,
        };
        Self {
            spki: live.row.spki,
            identity: live.row.identity.clone(),
            certificate: live.certificate,
            standing,
        }
    }
}

/// A client whose certificate was good at this call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateHolder {
    pub(super) identity: SpiffeId,
    pub(super) serial: Serial,
    pub(super) spki: SpkiHash,
    /// Its chain alone speaks for it: whoever has its row could not be asked.
    pub(super) unmatched: bool,
}

/// Whose certificates a verifier is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Workloads and agents.
    Callers,
    /// Servers of this CA.
    Servers,
}

#[derive(Debug)]
pub(super) struct ChainVerifier {
    whose: Whose,
    verified: BoundedCache<([u8; 32], BundleDigest), VerifiedLeaf>,
}

/// A leaf whose chain ends in a root of the bundle.
#[derive(Debug, Clone)]
pub(super) struct VerifiedLeaf {
    pub(super) holder: CertificateHolder,
    pub(super) certificate: CertificateId,
    /// The certificate above it; none where a root signed it.
    pub(super) issuer: Option<CertificateId>,
    pub(super) root: RootId,
    /// When the whole path is valid, its root included.
    validity: Validity,
}

impl ChainVerifier {
    /// Remembers the chain of each of so many connections. The cache keeps at least half of its entries when it forgets.
    pub(super) fn for_connections(connections: usize) -> Self {
        let verified = BoundedCache::new(CACHE_ENTRIES.max(connections.saturating_mul(2)));
        Self { whose: Whose::Callers, verified }
    }

    /// For the other servers of this CA.
    pub(super) fn for_servers() -> Self {
        Self { whose: Whose::Servers, verified: BoundedCache::new(SERVERS) }
    }

    /// Judges a leaf by its chain, and by its row here.
    pub(super) fn verify(
        &self,
        certificates: &[CertificateDer<'_>],
        bundle: &Bundle,
        rows: &dyn LiveRows,
        now: Timestamp,
    ) -> Result<CertificateHolder, Refusal> {
        let leaf = self.chain(certificates, bundle, now)?;
        let word = rows.find(&leaf.holder.serial).as_ref().map(RowWord::from);
        let judged = matches_row(&leaf, word.as_ref());
        if judged.as_ref().is_err_and(|refusal| refusal.reason() == Reason::CertificateForgotten) {
            rows.shown(&leaf.holder.serial);
        }
        judged.map(|()| leaf.holder)
    }

    /// Judges a leaf by its chain, and by what the server says that issued it.
    pub(super) fn verify_elsewhere(
        &self,
        certificates: &[CertificateDer<'_>],
        bundle: &Bundle,
        elsewhere: &Elsewhere,
        now: Timestamp,
    ) -> Result<CertificateHolder, Refusal> {
        let leaf = self.chain(certificates, bundle, now)?;
        match elsewhere {
            Elsewhere::Row(word) => matches_row(&leaf, Some(word)).map(|()| leaf.holder),
            Elsewhere::Unknown => Err(not_issued()),
            Elsewhere::Silent { tainted: false } => {
                Ok(CertificateHolder { unmatched: true, ..leaf.holder })
            }
            Elsewhere::Silent { tainted: true } => {
                let text = "the root of the client certificate is distrusted, and the server that issued it does not answer \
                            whether it did: retry, or authenticate with another credential";
                Err(Refusal::new(Reason::CertificateUnconfirmed, text))
            }
        }
    }

    /// Judges the chain alone.
    pub(super) fn chain(
        &self,
        certificates: &[CertificateDer<'_>],
        bundle: &Bundle,
        now: Timestamp,
    ) -> Result<VerifiedLeaf, Refusal> {
        if certificates.len() > CHAIN_LEN_MAX {
            let text = "the client's chain has more than 8 certificates";
            return Err(Refusal::new(Reason::CertificateChainTooLong, text));
        }
        let name = (digest(certificates), bundle.digest());
        let leaf = match self.verified.find(name) {
            Some(leaf) => leaf,
            None => {
                let leaf = verify_chain(certificates, bundle, self.whose, now)?;
                self.verified.insert(name, leaf.clone());
                leaf
            }
        };
        if leaf.validity.contains(now) { Ok(leaf) } else { Err(expired()) }
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
    whose: Whose,
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
    let is_meant = match whose {
        Whose::Callers => !identity.is_reserved() || identity.agent_name().is_some(),
        Whose::Servers => identity.is_ca(),
    };
    if !is_meant {
        let text = "the CA's own certificates are no credential of callers";
        return Err(Refusal::new(Reason::CertificateIdentityInvalid, text));
    }
    let root =
        chain.verify(bundle, now, PeerRole::Client).map_err(|error| chain_refusal(&error))?;
    let serial = leaf.serial().ok_or_else(not_issued)?;
    let validity = path_validity(&chain, bundle, root).ok_or_else(expired)?;
    let holder = CertificateHolder { identity, serial, spki: leaf.spki_hash(), unmatched: false };
    let issuer = chain.intermediates().first().map(Certificate::id);
    Ok(VerifiedLeaf { holder, certificate: leaf.id(), issuer, root, validity })
}

fn path_validity(chain: &Chain, bundle: &Bundle, root: RootId) -> Option<Validity> {
    let root = bundle.roots().iter().find(|candidate| candidate.id() == root)?;
    let all = || chain.certificates().chain([root.certificate()]).map(Certificate::validity);
    let start = all().map(|validity| validity.not_before()).max()?;
    let end = all().map(|validity| validity.not_after()).min()?;
    Validity::new(start, end).ok()
}

/// A leaf that verifies but has no row of the same serial, key and identity was not issued here, whoever signed it.
fn matches_row(leaf: &VerifiedLeaf, row: Option<&RowWord>) -> Result<(), Refusal> {
    let row = row.ok_or_else(not_issued)?;
    let same_leaf = row.certificate.is_none_or(|certificate| certificate == leaf.certificate);
    if row.spki != leaf.holder.spki || row.identity != leaf.holder.identity || !same_leaf {
        return Err(not_issued());
    }
    match row.standing {
        Standing::Live | Standing::Superseded => Ok(()),
        Standing::Released => {
            let text = "the client certificate was given up: authenticate with another credential";
            Err(Refusal::new(Reason::CertificateReleased, text))
        }
        Standing::Forgotten => {
            let text = "this certificate was forgotten by an operator of the CA (`banyan leaf forget`), who took it for gone; \
                        now that it was shown it counts again: try again, and tell the operator";
            Err(Refusal::new(Reason::CertificateForgotten, text))
        }
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
                unmatched: false,
            },
            certificate: CertificateId::of(b"leaf"),
            issuer: None,
            root: RootId::of(b"root"),
            validity: Validity::new(start, end).unwrap(),
        };
        let name = |number: usize| (sha256(&number.to_be_bytes()), bundle);
        (0..connections).for_each(|number| verifier.verified.insert(name(number), leaf.clone()));
        let forgotten =
            (0..connections).filter(|number| verifier.verified.find(name(*number)).is_none());
        assert_eq!(forgotten.count(), 0);
    }
}
