//! Certificate signing requests (PKCS#10, RFC 2986): bytes, then [`ParsedCsr`], then [`VerifiedCsr`].
//!
//! Of a CSR the CA uses the public key; what else it asks for is checked here and compared by authorization, and never
//! copied into a certificate. Parsing does no cryptography, so that a stranger's CSR costs little until the caller is
//! known; [`ParsedCsr::verify`] then demands the proof of possession, and is the only way to a [`VerifiedCsr`].
//!
//! Start at [`ParsedCsr::from_pem`]. `request` reads the structure, `extension` and `name` what stands in it, `error`
//! holds the closed set of refusals.

mod armor;
mod error;
mod extension;
mod name;
mod request;

use std::net::IpAddr;
use std::ops::Range;

use crate::key::{PublicKey, SignatureAlgorithm};
use crate::spiffe_id::SpiffeId;

pub use error::{AttributeFault, CsrError, EncodingFault, ExtensionFault, NameFault};

/// Longest CSR in bytes, in either form.
pub const CSR_LEN_MAX: usize = 16 * 1024;
/// Most attributes of a CSR.
pub const ATTRIBUTES_MAX: usize = 8;
/// Most extensions that a CSR requests.
pub const EXTENSIONS_MAX: usize = 16;
/// Most names of one kind that a CSR requests.
pub const NAMES_MAX: usize = 64;

/// A CSR whose form is sound; nothing is known yet of who made it.
#[derive(Debug, Clone)]
pub struct ParsedCsr {
    der: Vec<u8>,
    signed: Range<usize>,
    signature: Range<usize>,
    algorithm: SignatureAlgorithm,
    key: PublicKey,
    names: RequestedNames,
}

/// A CSR made by whoever holds the private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCsr {
    key: PublicKey,
    names: RequestedNames,
}

/// The names that a CSR asks for. They are wishes: to be compared with the authenticated identity, never copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestedNames {
    /// The URI subject alternative name; a CSR with two is refused.
    pub spiffe_id: Option<SpiffeId>,
    /// DNS subject alternative names.
    pub dns: Vec<String>,
    /// IP address subject alternative names.
    pub ips: Vec<IpAddr>,
    /// E-mail addresses, from subject alternative names and the subject.
    pub emails: Vec<String>,
    /// The subject's common name.
    pub common_name: Option<String>,
}

impl ParsedCsr {
    /// Parses exactly one PEM block `CERTIFICATE REQUEST` (or `NEW CERTIFICATE REQUEST`); white space may surround it.
    ///
    /// # Errors
    /// [`CsrError`] for whatever is malformed, unsafe or out of bounds; the CSR's bytes are never part of it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CsrError> {
        request::parse(armor::decode(pem)?)
    }

    /// Parses the DER of a CSR, with nothing behind it.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > CSR_LEN_MAX {
            return Err(CsrError::TooLarge);
        }
        request::parse(der.to_vec())
    }

    /// The key to be certified.
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The names asked for.
    pub const fn names(&self) -> &RequestedNames {
        &self.names
    }

    /// Demands that the holder of the private key signed this CSR.
    ///
    /// # Errors
    /// [`CsrError::SignatureInvalid`] otherwise.
    pub fn verify(self) -> Result<VerifiedCsr, CsrError> {
        let signed = self.der.get(self.signed).unwrap_or_default();
        let signature = self.der.get(self.signature).unwrap_or_default();
        self.key.verify(signed, self.algorithm, signature).map_err(|_| CsrError::SignatureInvalid)?;
        Ok(VerifiedCsr { key: self.key, names: self.names })
    }
}

impl VerifiedCsr {
    /// The key to be certified.
    pub const fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The names asked for.
    pub const fn names(&self) -> &RequestedNames {
        &self.names
    }
}

impl RequestedNames {
    /// Whether no name is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
