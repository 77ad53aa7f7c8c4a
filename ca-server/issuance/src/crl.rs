//! Certificate revocation lists (RFC 5280 §5): one of each issuer, signed with the issuer's own key.
//!
//! Written straight in DER for the same reason as leaves are ([`crate::prepare`]): the issuer's name is copied byte for byte, since a
//! verifier looks for a list by it.

use std::sync::Arc;

use plugins::{KeyBackend, KeyError, KeyId};
use trust::der::{DerTime, Writer, oid};
use trust::{Certificate, Serial, SignatureAlgorithm, Timestamp};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, SubjectPublicKeyInfo};

use crate::template::{certificate as signed, extension};

/// ASN.1 ENUMERATED.
const ENUMERATED: u8 = 0x0a;

/// What signs a list.
#[derive(Clone, Debug)]
pub struct ListIssuer {
    keys: Arc<dyn KeyBackend>,
    key: KeyId,
    certificate: Certificate,
}

/// Why a leaf is on a list, as far as it is known. That nothing is known is told by no reason at all (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RevocationReason {
    /// An operator ended this leaf, for a reason in words.
    Unknown,
    /// Somebody else may have the key.
    KeyCompromise,
    /// Its identity gets no certificate any more.
    PrivilegeWithdrawn,
}

/// One leaf on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// When somebody said so.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
    /// Until when the leaf could be taken for valid, so that it is on the list; not part of the list itself.
    pub until: Timestamp,
}

/// What a list says, but for its issuer.
#[derive(Clone, Copy, Debug)]
pub struct ListFields<'a> {
    /// The number.
    pub number: u64,
    /// From when on it is valid.
    pub this_update: Timestamp,
    /// When it is over.
    pub next_update: Timestamp,
    /// Whom it is about.
    pub revoked: &'a [(Serial, Revoked)],
}

/// Why there is no list of an issuer.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The key is not there.
    #[error("its key cannot be had: {0}")]
    Key(#[from] KeyError),
    /// The certificate does not allow it.
    #[error(
        "its certificate does not allow it to sign revocation lists (key usage without cRLSign): have its authority sign one that does"
    )]
    NotAllowed,
    /// Every list names the key of its issuer.
    #[error("its certificate has no subject key identifier")]
    NoKeyId,
    /// The certificate is for another key.
    #[error("its certificate is not for the key in the key backend")]
    OtherKey,
    /// A time that X.509 has no form for.
    #[error("a time of the list is outside of what X.509 can say: set the clock right")]
    Date,
    /// What the backend gave does not verify.
    #[error("the key backend gave a signature that does not verify; check the key backend")]
    OwnSignature,
}

impl ListIssuer {
    /// An issuer that may sign lists, with its key.
    ///
    /// # Errors
    /// [`ListError`], if it may not or cannot.
    pub async fn new(
        keys: Arc<dyn KeyBackend>,
        key: KeyId,
        certificate: Certificate,
    ) -> Result<Self, ListError> {
        let extensions = certificate.extensions();
        if extensions.key_usage.is_some_and(|usage| !usage.crl_sign) {
            return Err(ListError::NotAllowed);
        }
        if extensions.subject_key_id.is_none() {
            return Err(ListError::NoKeyId);
        }
        match keys.public(&key).await?.spki_der() == certificate.spki_der() {
            true => Ok(Self { keys, key, certificate }),
            false => Err(ListError::OtherKey),
        }
    }

    /// Signs a list, and verifies it.
    ///
    /// # Errors
    /// [`ListError`]; nothing was signed then that anybody could use.
    pub async fn sign(&self, fields: ListFields<'_>) -> Result<Vec<u8>, ListError> {
        let algorithm = SignatureAlgorithm::preferred(self.keys.public(&self.key).await?.kind());
        let tbs = to_be_signed(&self.certificate, algorithm, fields).ok_or(ListError::Date)?;
        let signature = self.keys.sign(&self.key, &tbs, algorithm).await?;
        let list = signed(&tbs, algorithm, &signature);
        match self.verifies(&list) {
            true => Ok(list),
            false => Err(ListError::OwnSignature),
        }
    }

    fn verifies(&self, list: &[u8]) -> bool {
        let Ok((_, list)) = CertificateRevocationList::from_der(list) else { return false };
        let Ok((_, key)) = SubjectPublicKeyInfo::from_der(self.certificate.spki_der()) else {
            return false;
        };
        list.verify_signature(&key).is_ok()
    }
}

impl RevocationReason {
    /// CRLReason, if there is one to tell.
    const fn code(self) -> Option<u8> {
        match self {
            Self::Unknown => None,
            Self::KeyCompromise => Some(1),
            Self::PrivilegeWithdrawn => Some(9),
        }
    }
}

fn to_be_signed(
    issuer: &Certificate,
    algorithm: SignatureAlgorithm,
    fields: ListFields<'_>,
) -> Option<Vec<u8>> {
    let (this, next) = (DerTime::new(fields.this_update)?, DerTime::new(fields.next_update)?);
    let entry = |(serial, revoked): &(Serial, Revoked)| {
        Some((*serial, DerTime::new(revoked.at)?, revoked.reason.code()))
    };
    let entries: Vec<_> = fields.revoked.iter().map(entry).collect::<Option<_>>()?;
    let key_id = issuer.extensions().subject_key_id.clone().unwrap_or_default();
    let mut writer = Writer::with_capacity(256 + 64 * entries.len());
    writer.sequence(|tbs| {
        tbs.unsigned(&[1]);
        tbs.raw(algorithm.der());
        tbs.raw(issuer.subject_der());
        tbs.time(&this);
        tbs.time(&next);
        // Absent when nobody is on it (§5.1.2.6).
        if !entries.is_empty() {
            tbs.sequence(|list| {
                for (serial, at, reason) in &entries {
                    list.sequence(|entry| {
                        entry.unsigned(serial.as_bytes());
                        entry.time(at);
                        if let Some(code) = reason {
                            entry.sequence(|extensions| {
                                extension(extensions, oid::CRL_REASON, false, |value| {
                                    value.primitive(ENUMERATED, &[*code]);
                                });
                            });
                        }
                    });
                }
            });
        }
        tbs.context(0, |explicit| {
            explicit.sequence(|extensions| {
                extension(extensions, oid::AUTHORITY_KEY_ID, false, |value| {
                    value.sequence(|parts| parts.context_primitive(0, &key_id));
                });
                extension(extensions, oid::CRL_NUMBER, false, |value| {
                    value.unsigned(&fields.number.to_be_bytes());
                });
            });
        });
    });
    Some(writer.into_der())
}

#[cfg(test)]
mod tests;
