//! The set of roots of one trust domain, with its sequence and digest.

use std::sync::Arc;

use rustls_pki_types::TrustAnchor;

use crate::digest::{BundleDigest, RootId};
use crate::root::{Root, RootError};
use crate::sequence::Sequence;
use crate::spiffe_id::TrustDomain;

/// Most roots that a bundle may hold.
pub const BUNDLE_ROOTS_MAX: usize = 64;
/// Most bytes of DER that a bundle's roots may have together.
pub const BUNDLE_BYTES_MAX: usize = 512 * 1024;

/// The trusted roots of one trust domain; never empty, cheap to clone.
#[derive(Clone, Debug)]
pub struct Bundle(Arc<Fields>);

#[derive(Debug)]
struct Fields {
    trust_domain: TrustDomain,
    sequence: Sequence,
    digest: BundleDigest,
    roots: Vec<Root>,
    anchors: Vec<TrustAnchor<'static>>,
    pem: Arc<str>,
}

/// Why roots do not make a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// No root at all: relying parties would read it as "trust nobody".
    #[error("a bundle is never empty")]
    Empty,
    /// More than [`BUNDLE_ROOTS_MAX`] roots.
    #[error("the bundle has {0} roots; at most 64 are taken")]
    TooManyRoots(usize),
    /// More than [`BUNDLE_BYTES_MAX`] bytes.
    #[error("the bundle has {0} bytes; at most 524288 are taken")]
    TooLarge(usize),
    /// The same root twice.
    #[error("the root {0} occurs twice")]
    DuplicateRoot(RootId),
    /// A root carries the SPIFFE id of another trust domain.
    #[error("the root {root} belongs to the trust domain {other}")]
    OtherTrustDomain {
        /// Which root.
        root: RootId,
        /// The trust domain that its URI name tells.
        other: TrustDomain,
    },
    /// One of the certificates is no root.
    #[error("certificate {index} of the bundle: {source}")]
    Root {
        /// Place in the list, counted from 0.
        index: usize,
        /// Why.
        source: RootError,
    },
    /// The digest that came with the bundle is not that of its roots.
    #[error("the bundle's digest does not belong to its roots")]
    DigestMismatch,
}

impl Bundle {
    /// Puts roots together.
    ///
    /// # Errors
    /// [`BundleError`] if there are none or too many, one occurs twice or belongs to another trust domain.
    pub fn new(
        trust_domain: TrustDomain,
        sequence: Sequence,
        mut roots: Vec<Root>,
    ) -> Result<Self, BundleError> {
        if roots.is_empty() {
            return Err(BundleError::Empty);
        }
        if roots.len() > BUNDLE_ROOTS_MAX {
            return Err(BundleError::TooManyRoots(roots.len()));
        }
        let bytes = roots.iter().map(|root| root.der().len()).sum();
        if bytes > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLarge(bytes));
        }
        roots.sort_by_key(Root::id);
        let ids: Vec<RootId> = roots.iter().map(Root::id).collect();
        if let Some(id) =
            ids.iter().zip(ids.iter().skip(1)).find_map(|(a, b)| (a == b).then_some(*a))
        {
            return Err(BundleError::DuplicateRoot(id));
        }
        if let Some(error) = roots.iter().find_map(|root| other_trust_domain(root, &trust_domain)) {
            return Err(error);
        }
        Ok(Self(Arc::new(Fields {
            digest: digest(&trust_domain, &ids),
            anchors: roots.iter().map(|root| root.anchor().clone()).collect(),
            pem: roots.iter().map(|root| root.certificate().pem()).collect::<String>().into(),
            trust_domain,
            sequence,
            roots,
        })))
    }

    /// Parses DER roots and puts them together.
    ///
    /// # Errors
    /// As [`Bundle::new`], and [`BundleError::Root`] for the first certificate that is no root.
    pub fn from_ders<D: AsRef<[u8]>>(
        trust_domain: TrustDomain,
        sequence: Sequence,
        ders: &[D],
    ) -> Result<Self, BundleError> {
        if ders.len() > BUNDLE_ROOTS_MAX {
            return Err(BundleError::TooManyRoots(ders.len()));
        }
        let parse = |(index, der): (usize, &D)| {
            Root::parse(der.as_ref()).map_err(|source| BundleError::Root { index, source })
        };
        let roots = ders.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        Self::new(trust_domain, sequence, roots)
    }

    /// The trust domain whose roots these are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// Number of this bundle in its trust domain.
    pub fn sequence(&self) -> Sequence {
        self.0.sequence
    }

    /// Digest of the content: SHA-256 of `banyan-bundle-v1`, a zero byte, the length of the trust domain in two bytes
    /// (big endian), the trust domain, and each [`RootId`] in ascending order. The sequence is not part of it.
    pub fn digest(&self) -> BundleDigest {
        self.0.digest
    }

    /// The roots by ascending [`RootId`].
    pub fn roots(&self) -> &[Root] {
        &self.0.roots
    }

    /// The anchors in the order of [`Self::roots`], as TLS verifiers take them.
    pub fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.0.anchors
    }

    /// Whether this root is trusted.
    pub fn contains(&self, id: &RootId) -> bool {
        self.0.roots.binary_search_by_key(id, Root::id).is_ok()
    }

    /// All roots as PEM blocks, in the order of [`Self::roots`].
    pub fn pem(&self) -> &Arc<str> {
        &self.0.pem
    }

    /// The roots of both bundles under the later sequence; for a holder that skipped sequences.
    ///
    /// # Errors
    /// [`BundleError`] if together they are too many.
    pub fn union(&self, other: &Self) -> Result<Self, BundleError> {
        let more = other.roots().iter().filter(|root| !self.contains(&root.id()));
        let roots = self.roots().iter().chain(more).cloned().collect();
        Self::new(self.trust_domain().clone(), self.sequence().max(other.sequence()), roots)
    }
}

impl PartialEq for Bundle {
    /// Same trust domain, sequence and roots.
    fn eq(&self, other: &Self) -> bool {
        self.0.sequence == other.0.sequence && self.0.digest == other.0.digest
    }
}

impl Eq for Bundle {}

fn other_trust_domain(root: &Root, expected: &TrustDomain) -> Option<BundleError> {
    // A root needs no URI name (RFC 5280 roots have none); where it has one, it must be ours.
    let id = root.certificate().spiffe_id().ok()?;
    (id.trust_domain() != expected).then(|| BundleError::OtherTrustDomain {
        root: root.id(),
        other: id.trust_domain().clone(),
    })
}

fn digest(trust_domain: &TrustDomain, sorted: &[RootId]) -> BundleDigest {
    let name = trust_domain.as_str().as_bytes();
    let mut input = b"banyan-bundle-v1\0".to_vec();
    input.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
    input.extend(name);
    sorted.iter().for_each(|id| input.extend(id.as_bytes()));
    BundleDigest::of(&input)
}
