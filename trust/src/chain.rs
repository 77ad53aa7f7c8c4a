//! A leaf with its intermediates, and the judgement that a peer would make of it.

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, ring};

use crate::bundle::Bundle;
use crate::certificate::{Certificate, CertificateError};
use crate::digest::RootId;
use crate::time::Timestamp;

/// Most certificates in a presented chain.
pub const CHAIN_LEN_MAX: usize = 8;

/// Signature algorithms that chains may use: what rustls with ring takes, SHA-1 and MD5 never.
const ALGORITHMS: &[&dyn rustls_pki_types::SignatureVerificationAlgorithm] = &[
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P256_SHA384,
    ring::ECDSA_P384_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::RSA_PKCS1_2048_8192_SHA384,
    ring::RSA_PKCS1_2048_8192_SHA512,
    ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// A leaf and its intermediates, leaf first, without a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    leaf: Certificate,
    intermediates: Vec<Certificate>,
}

/// What the owner of the leaf does in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRole {
    /// It opened the connection: the leaf needs clientAuth.
    Client,
    /// It accepted the connection: the leaf needs serverAuth.
    Server,
}

/// Why a chain is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No certificate, or more than [`CHAIN_LEN_MAX`].
    #[error("the chain has {0} certificates; 1 to 8 are taken")]
    Length(usize),
    /// A certificate does not parse.
    #[error("certificate {index} of the chain: {source}")]
    Certificate {
        /// Place in the chain, leaf is 0.
        index: usize,
        /// Why.
        source: CertificateError,
    },
    /// The same certificate twice, or an intermediate that is not a CA or is self-signed.
    #[error(
        "certificate {0} of the chain is out of place: leaf first, then each issuer once, no root"
    )]
    OutOfPlace(usize),
    /// The leaf is a CA certificate.
    #[error("the leaf is a CA certificate")]
    CaAsLeaf,
    /// `now` lies outside the validity of a certificate of the path, its root included.
    #[error("a certificate of the path is expired or not yet valid")]
    NotValidNow,
    /// No path to a root of the bundle.
    #[error("the chain ends in no root of the bundle")]
    UnknownRoot,
    /// Any other refusal by the path builder: signatures, usages, constraints.
    #[error("the chain does not verify: {0}")]
    Path(String),
}

impl Chain {
    /// Parses DER certificates, leaf first.
    ///
    /// # Errors
    /// [`ChainError`] for an empty or overlong list, a certificate that does not parse, a root or duplicate in it, or
    /// certificates that do not stand in order. Signatures are judged by [`Chain::verify`].
    pub fn parse<D: AsRef<[u8]>>(ders: &[D]) -> Result<Self, ChainError> {
        if ders.is_empty() || ders.len() > CHAIN_LEN_MAX {
            return Err(ChainError::Length(ders.len()));
        }
        let parse = |(index, der): (usize, &D)| {
            Certificate::parse(der.as_ref())
                .map_err(|source| ChainError::Certificate { index, source })
        };
        let certificates: Vec<_> = ders.iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        Self::from_certificates(certificates)
    }

    /// Takes parsed certificates, leaf first.
    ///
    /// # Errors
    /// As [`Chain::parse`].
    pub fn from_certificates(certificates: Vec<Certificate>) -> Result<Self, ChainError> {
        let length = certificates.len();
        let mut certificates = certificates.into_iter();
        let leaf = certificates
            .next()
            .filter(|_| length <= CHAIN_LEN_MAX)
            .ok_or(ChainError::Length(length))?;
        let intermediates: Vec<_> = certificates.collect();
        let mut below = &leaf;
        for (place, above) in intermediates.iter().enumerate() {
            let self_issued = above.subject_der() == above.issuer_der();
            if below.issuer_der() != above.subject_der() || !above.is_ca() || self_issued {
                return Err(ChainError::OutOfPlace(place + 1));
            }
            below = above;
        }
        Ok(Self { leaf, intermediates })
    }

    /// The leaf.
    pub const fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// The intermediates, the leaf's issuer first.
    pub fn intermediates(&self) -> &[Certificate] {
        &self.intermediates
    }

    /// All certificates, leaf first.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.leaf).chain(&self.intermediates)
    }

    /// Judges the chain as a TLS peer does, with rustls-webpki, and more strictly where webpki is lenient: the root's
    /// own validity counts, and a CA certificate is never a leaf. Returns the root in which the path ends.
    ///
    /// # Errors
    /// [`ChainError`] that tells expiry and unknown roots apart from the rest.
    pub fn verify(
        &self,
        bundle: &Bundle,
        now: Timestamp,
        role: PeerRole,
    ) -> Result<RootId, ChainError> {
        self.verify_among(bundle, None, now, role)
    }

    /// As [`verify`](Self::verify), up to this root of the bundle: a renewed root has the key and the name of the former,
    /// and a chain ends in both.
    ///
    /// # Errors
    /// As [`verify`](Self::verify); the other roots of the bundle count for nothing.
    pub fn verify_under(
        &self,
        bundle: &Bundle,
        root: RootId,
        now: Timestamp,
        role: PeerRole,
    ) -> Result<(), ChainError> {
        self.verify_among(bundle, Some(root), now, role).map(drop)
    }

    fn verify_among(
        &self,
        bundle: &Bundle,
        wanted: Option<RootId>,
        now: Timestamp,
        role: PeerRole,
    ) -> Result<RootId, ChainError> {
        if self.leaf.is_ca() {
            return Err(ChainError::CaAsLeaf);
        }
        let usage = match role {
            PeerRole::Client => KeyUsage::client_auth(),
            PeerRole::Server => KeyUsage::server_auth(),
        };
        let der = CertificateDer::from(self.leaf.der());
        let end_entity = EndEntityCert::try_from(&der).map_err(|error| refused(&error))?;
        let intermediates: Vec<_> = self
            .intermediates
            .iter()
            .map(|certificate| CertificateDer::from(certificate.der()))
            .collect();
        let secs = u64::try_from(now.as_secs()).map_err(|_| ChainError::NotValidNow)?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
        let anchor_valid = |path: &VerifiedPath<'_>| match anchor_of(bundle, path) {
            Some(root)
                if root.certificate().validity().contains(now)
                    && wanted.is_none_or(|wanted| wanted == root.id()) =>
            {
                Ok(())
            }
            _ => Err(webpki::Error::UnknownIssuer),
        };
        let path = end_entity
            .verify_for_usage(
                ALGORITHMS,
                bundle.anchors(),
                &intermediates,
                time,
                usage,
                None,
                Some(&anchor_valid),
            )
            .map_err(|error| refused(&error))?;
        anchor_of(bundle, &path).map(crate::root::Root::id).ok_or(ChainError::UnknownRoot)
    }
}

fn anchor_of<'b>(bundle: &'b Bundle, path: &VerifiedPath<'_>) -> Option<&'b crate::root::Root> {
    // By address, not by value: two roots may share key and subject (a renewed root), and each has its own validity.
    bundle.anchors().iter().zip(bundle.roots()).find_map(|(anchor, root)| {
        std::ptr::eq(
            std::ptr::from_ref(anchor).cast::<u8>(),
            std::ptr::from_ref(path.anchor()).cast::<u8>(),
        )
        .then_some(root)
    })
}

fn refused(error: &webpki::Error) -> ChainError {
    match error {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
            ChainError::NotValidNow
        }
        webpki::Error::UnknownIssuer => ChainError::UnknownRoot,
        other => ChainError::Path(other.to_string()),
    }
}
