//! The second net: the certificate of a signer's root by another root, sent behind the chain.
//!
//! Whoever trusts that other root alone accepts the leaves by it. It is verified when it is put together, as a signer's chain is:
//! one that does not hold is never sent.

use trust::{Bundle, Certificate, CertificateId, Root, RootId, Timestamp, Validity};

use crate::signer::{INTERMEDIATES_MAX, Signer, is_signed_by, may_sign_above};

/// A verified cross certificate; built only by [`CrossCertificate::verify`].
#[derive(Debug)]
pub struct CrossCertificate {
    certificate: Certificate,
    pem: String,
    root: RootId,
    by: RootId,
}

/// Why a cross certificate is not sent. Leaves go out without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrossError {
    /// One of the two roots is not in the bundle.
    #[error("root {} is not in the bundle", .0.short())]
    Outside(RootId),
    /// It has another key or name than the signer's root.
    #[error("it is not for the root of the issuer")]
    OtherRoot,
    /// It is no CA certificate, or leaves no room for what stands below.
    #[error("it may not sign what stands below it")]
    NotAnIssuer,
    /// Its signature is not the other root's, or that root's path length leaves no room.
    #[error("it is not signed by root {}, or that root leaves no room for it", .0.short())]
    NotSigned(RootId),
    /// Expired, or not yet valid.
    #[error("it is expired or not yet valid")]
    NotValidNow,
    /// The chain would be longer than peers take.
    #[error("the chain would have more certificates than peers take")]
    Length,
}

impl CrossCertificate {
    /// Verifies that what stands below the signer's root stands below this certificate too, and this one below the root `by`.
    ///
    /// # Errors
    /// [`CrossError`].
    pub fn verify(
        certificate: Certificate,
        signer: &Signer,
        by: RootId,
        bundle: &Bundle,
        now: Timestamp,
    ) -> Result<Self, CrossError> {
        let find = |id: RootId| -> Result<&Root, CrossError> {
            let found = bundle.roots().iter().find(|root| root.id() == id);
            found.ok_or(CrossError::Outside(id))
        };
        let (root, above) = (find(signer.root())?.certificate(), find(by)?.certificate());
        let below = signer.chain().len();
        if below >= INTERMEDIATES_MAX {
            return Err(CrossError::Length);
        }
        let same_name = certificate.subject_der() == root.subject_der();
        if !same_name || certificate.spki_der() != root.spki_der() {
            return Err(CrossError::OtherRoot);
        }
        if !may_sign_above(&certificate, below) {
            return Err(CrossError::NotAnIssuer);
        }
        let top = signer.chain().last();
        if !top.is_some_and(|top| is_signed_by(top, &certificate)) {
            return Err(CrossError::OtherRoot);
        }
        // Certificates of one name look like a root to peers.
        let fits = certificate.subject_der() != certificate.issuer_der()
            && is_signed_by(&certificate, above)
            && may_sign_above(above, below + 1);
        if !fits {
            return Err(CrossError::NotSigned(by));
        }
        if !certificate.validity().contains(now) {
            return Err(CrossError::NotValidNow);
        }
        Ok(Self { pem: certificate.pem(), certificate, root: signer.root(), by })
    }

    /// The certificate.
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The same in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// By its fingerprint.
    pub fn id(&self) -> CertificateId {
        self.certificate.id()
    }

    /// The root whose key and name it has.
    pub const fn root(&self) -> RootId {
        self.root
    }

    /// The root that signed it.
    pub const fn by(&self) -> RootId {
        self.by
    }

    /// What is left of a validity while it is sent; none if nothing is.
    pub(crate) fn bound(&self, validity: Validity) -> Option<Validity> {
        let own = self.certificate.validity();
        let start = validity.not_before().max(own.not_before());
        Validity::new(start, validity.not_after().min(own.not_after())).ok()
    }
}
