//! The structure of a CSR (RFC 2986 §4).

use std::ops::Range;

use super::error::{AttributeFault, CsrError, EncodingFault};
use super::wanted::{ATTRIBUTES_MAX, CSR_LEN_MAX, RequestedNames};
use super::{armor, extension, name};
use crate::der::{self, Reader, oid, tag};
use crate::key::{PublicKey, SignatureAlgorithm};

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

impl ParsedCsr {
    /// Parses exactly one PEM block `CERTIFICATE REQUEST` (or `NEW CERTIFICATE REQUEST`); white space may surround it.
    ///
    /// # Errors
    /// [`CsrError`] for whatever is malformed, unsafe or out of bounds; the CSR's bytes are never part of it.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CsrError> {
        parse(armor::decode(pem)?)
    }

    /// Parses the DER of a CSR, with nothing behind it.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > CSR_LEN_MAX {
            return Err(CsrError::TooLarge);
        }
        parse(der.to_vec())
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
        self.key
            .verify(signed, self.algorithm, signature)
            .map_err(|_| CsrError::SignatureInvalid)?;
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

/// Parses the DER of a CSR.
fn parse(der: Vec<u8>) -> Result<ParsedCsr, CsrError> {
    let mut outer = Reader::new(&der);
    let whole = outer.element()?;
    let mut parts = outer.inside(whole.content)?;
    if whole.tag != tag::SEQUENCE {
        return Err(der::DerError::UnexpectedTag.into());
    }
    // Private keys in DER (PKCS#8, PKCS#1, SEC 1) start with a version, a CSR does not.
    if parts.peek_tag() == Some(tag::INTEGER) {
        return Err(CsrError::PrivateKeyInside);
    }
    outer.finish()?;
    let mut peek = parts.clone();
    let signed = peek.element()?.raw.len();
    let (key, names) = parse_info(&mut parts.sequence()?)?;
    let algorithm = parts.element()?.raw;
    let signature = parts.octets_of_bit_string()?.len();
    parts.finish()?;
    let algorithm = SignatureAlgorithm::from_der(algorithm, key.kind())?;
    let start = der.len().saturating_sub(whole.content.len());
    // The signature's octets are the tail of the whole.
    let (signed, signature) =
        (start..start + signed, der.len().saturating_sub(signature)..der.len());
    Ok(ParsedCsr { der, signed, signature, algorithm, key, names })
}

/// Parses the CertificationRequestInfo.
fn parse_info(info: &mut Reader<'_>) -> Result<(PublicKey, RequestedNames), CsrError> {
    if info.unsigned()? != [0] {
        return Err(EncodingFault::Version.into());
    }
    let mut names = RequestedNames::default();
    let subject = info.sequence()?;
    name::read_subject(subject, &mut names)?;
    let mut peek = info.clone();
    let spki = peek.element()?.raw;
    info.sequence()?;
    let key = PublicKey::parse(spki)?;
    // RFC 2986 demands the attributes, if only as an empty set; some clients leave them out, which harms nobody.
    if !info.is_empty() {
        read_attributes(info.enter(tag::context(0))?, &mut names)?;
    }
    info.finish()?;
    Ok((key, names))
}

fn read_attributes(mut attributes: Reader<'_>, names: &mut RequestedNames) -> Result<(), CsrError> {
    der::check_set_order(attributes.clone())?;
    let mut found: Vec<&[u8]> = Vec::new();
    while !attributes.is_empty() {
        let mut attribute = attributes.sequence()?;
        let kind = attribute.oid()?;
        if found.len() == ATTRIBUTES_MAX {
            return Err(AttributeFault::TooMany.into());
        }
        if found.contains(&kind) {
            return Err(AttributeFault::Duplicate.into());
        }
        found.push(kind);
        let mut values = attribute.enter(tag::SET)?;
        attribute.finish()?;
        der::check_set_order(values.clone())?;
        match kind {
            oid::CHALLENGE_PASSWORD => return Err(AttributeFault::ChallengePassword.into()),
            oid::EXTENSION_REQUEST => {
                extension::read(values.sequence()?, names)?;
                if !values.is_empty() {
                    return Err(AttributeFault::Duplicate.into());
                }
            }
            _ => der::walk(&mut values)?,
        }
    }
    Ok(())
}
