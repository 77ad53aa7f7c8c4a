//! The extensions that a CSR requests (RFC 2985 §5.4.2).

use super::error::{CsrError, ExtensionFault};
use super::name;
use super::wanted::{EXTENSIONS_MAX, RequestedNames};
use crate::der::{Reader, oid, tag};

/// keyCertSign and cRLSign, by their bits in a key usage (RFC 5280 §4.2.1.3).
const CA_KEY_USAGES: u16 = 1 << 5 | 1 << 6;

/// Reads the members of `Extensions`. Only names are kept: of the rest it is enough that nothing unsafe was asked for.
pub(super) fn read(mut extensions: Reader<'_>, names: &mut RequestedNames) -> Result<(), CsrError> {
    let mut found: Vec<&[u8]> = Vec::new();
    while !extensions.is_empty() {
        let mut extension = extensions.sequence()?;
        let kind = extension.oid()?;
        let is_critical = extension.default_false()?;
        let value = extension.value(tag::OCTET_STRING)?;
        extension.finish()?;
        if found.len() == EXTENSIONS_MAX {
            return Err(ExtensionFault::TooMany.into());
        }
        if found.contains(&kind) {
            return Err(ExtensionFault::Duplicate { oid: oid::dotted(kind) }.into());
        }
        found.push(kind);
        let mut value = Reader::new(value);
        match kind {
            oid::SUBJECT_ALT_NAME => name::read_alternatives(value.sequence()?, names)?,
            oid::BASIC_CONSTRAINTS => check_basic_constraints(value.sequence()?)?,
            oid::KEY_USAGE if value.named_bits()? & CA_KEY_USAGES != 0 => {
                return Err(ExtensionFault::CaKeyUsage.into());
            }
            oid::KEY_USAGE => {}
            oid::EXTENDED_KEY_USAGE => check_extended_key_usage(value.sequence()?)?,
            _ if is_critical => {
                return Err(ExtensionFault::UnknownCritical { oid: oid::dotted(kind) }.into());
            }
            // Ignored, whatever its content.
            _ => continue,
        }
        value.finish()?;
    }
    Ok(())
}

/// `SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER OPTIONAL }`: a leaf's is empty.
fn check_basic_constraints(mut constraints: Reader<'_>) -> Result<(), CsrError> {
    if constraints.default_false()? || constraints.peek_tag() == Some(tag::INTEGER) {
        return Err(ExtensionFault::CertificateAuthority.into());
    }
    Ok(constraints.finish()?)
}

fn check_extended_key_usage(mut purposes: Reader<'_>) -> Result<(), CsrError> {
    if purposes.is_empty() {
        return Err(ExtensionFault::ExtendedKeyUsage.into());
    }
    while !purposes.is_empty() {
        let purpose = purposes.oid()?;
        if purpose != oid::SERVER_AUTH && purpose != oid::CLIENT_AUTH {
            return Err(ExtensionFault::ExtendedKeyUsage.into());
        }
    }
    Ok(())
}
