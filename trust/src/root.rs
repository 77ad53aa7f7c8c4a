//! Trust anchors: certificates that passed the checks of a root.

use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::anchor_from_trusted_cert;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificate::{Certificate, CertificateError};
use crate::digest::RootId;

/// A self-signed CA certificate that may stand in a bundle; cheap to clone.
#[derive(Clone, Debug)]
pub struct Root {
    id: RootId,
    certificate: Certificate,
    anchor: TrustAnchor<'static>,
}

/// Why a certificate is no root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// The bytes are no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Basic constraints are absent or say that it is no CA.
    #[error(
        "the certificate is not a CA certificate (basic constraints CA:TRUE are missing); make another one that is"
    )]
    NotCa,
    /// The key usage lacks keyCertSign.
    #[error("the key usage lacks keyCertSign; make another one with keyUsage keyCertSign")]
    NoCertSign,
    /// Path length 0: no issuer could stand below it.
    #[error("path length 0 leaves no room for an issuer below the root")]
    PathLength,
    /// Issuer and subject differ, or the signature is not its own.
    #[error("the certificate is not self-signed; give the root at the top of the chain")]
    NotSelfSigned,
    /// Its key or its signature is of a kind that is not taken, so nothing can be said of its signature.
    #[error("the root {0}; make one with {taken}", taken = crate::described::TAKEN)]
    Unsupported(String),
    /// URI name constraints, which common verifiers refuse.
    #[error("the root has name constraints of type URI, which rustls and others refuse")]
    UriNameConstraints,
    /// A critical extension that verifiers do not know.
    #[error("the root has the unknown critical extension {0}")]
    CriticalExtension(String),
    /// A verifier of peers cannot use it.
    #[error("the root cannot be used as a trust anchor: {0}")]
    Anchor(String),
}

impl Root {
    /// Parses and checks one DER certificate.
    ///
    /// # Errors
    /// [`RootError`] unless it is a self-signed CA certificate with keyCertSign, a path length that is absent or at
    /// least 1, and no URI name constraints. The validity is not judged here: a bundle may hold an expired root.
    pub fn parse(der: &[u8]) -> Result<Self, RootError> {
        Self::from_certificate(Certificate::parse(der)?)
    }

    /// Checks a parsed certificate.
    ///
    /// # Errors
    /// As [`Root::parse`].
    pub fn from_certificate(certificate: Certificate) -> Result<Self, RootError> {
        let extensions = certificate.extensions();
        let constraints = extensions.basic_constraints.ok_or(RootError::NotCa)?;
        if !constraints.ca {
            return Err(RootError::NotCa);
        }
        if constraints.path_len == Some(0) {
            return Err(RootError::PathLength);
        }
        if extensions.key_usage.is_some_and(|usage| !usage.key_cert_sign) {
            return Err(RootError::NoCertSign);
        }
        if extensions.uri_name_constraints {
            return Err(RootError::UriNameConstraints);
        }
        if let Some(oid) = extensions.critical_unknown.first() {
            return Err(RootError::CriticalExtension(oid.clone()));
        }
        if !self_signed(&certificate) {
            let self_issued = certificate.subject_der() == certificate.issuer_der();
            let unsupported = if self_issued { certificate.unsupported_text() } else { None };
            return Err(unsupported.map_or(RootError::NotSelfSigned, RootError::Unsupported));
        }
        let anchor = anchor_from_trusted_cert(&CertificateDer::from(certificate.der()))
            .map_err(|error| RootError::Anchor(error.to_string()))?
            .to_owned();
        Ok(Self { id: RootId::of(certificate.der()), certificate, anchor })
    }

    /// SHA-256 of the DER.
    pub const fn id(&self) -> RootId {
        self.id
    }

    /// The DER bytes.
    pub fn der(&self) -> &[u8] {
        self.certificate.der()
    }

    /// The parsed certificate.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The anchor as TLS verifiers take it.
    pub const fn anchor(&self) -> &TrustAnchor<'static> {
        &self.anchor
    }
}

impl PartialEq for Root {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Root {}

fn self_signed(certificate: &Certificate) -> bool {
    certificate.subject_der() == certificate.issuer_der()
        && X509Certificate::from_der(certificate.der())
            .is_ok_and(|(_, parsed)| parsed.verify_signature(None).is_ok())
}
