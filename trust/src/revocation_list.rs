//! A certificate revocation list, as far as whoever passes it on must know it.

use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use crate::Timestamp;

/// A revocation list that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationList {
    /// From when on it is valid.
    pub this_update: Timestamp,
    /// When it is over.
    pub next_update: Timestamp,
}

/// What is no revocation list that verifiers take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevocationListError {
    /// It is not DER of a list, or something is behind it.
    #[error("it is no revocation list in DER")]
    Malformed,
    /// Verifiers ask for an end.
    #[error("it does not say when the next one comes")]
    NoEnd,
}

impl RevocationList {
    /// Reads one.
    ///
    /// # Errors
    /// [`RevocationListError`].
    pub fn parse(der: &[u8]) -> Result<Self, RevocationListError> {
        let (rest, list) =
            CertificateRevocationList::from_der(der).map_err(|_| RevocationListError::Malformed)?;
        if !rest.is_empty() {
            return Err(RevocationListError::Malformed);
        }
        let next = list.next_update().ok_or(RevocationListError::NoEnd)?;
        Ok(Self {
            this_update: Timestamp::from_secs(list.last_update().timestamp()),
            next_update: Timestamp::from_secs(next.timestamp()),
        })
    }
}
