//! The check of a cross certificate: another root's key and name, signed by an own root.

use trust::certificate::Certificate;
use trust::{Root, Timestamp, TrustDomain};
use x509_parser::asn1_rs::Oid;
use x509_parser::oid_registry as known;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{Need, check_ca, check_signed_by, check_validity};
use super::fault::{Fault, Unsafe, Which};
use super::size::check_size;

/// Extensions that narrow nothing of what stands below.
const TAKEN: [Oid<'static>; 7] = [
    known::OID_X509_EXT_BASIC_CONSTRAINTS,
    known::OID_X509_EXT_KEY_USAGE,
    known::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
    known::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
    known::OID_X509_EXT_SUBJECT_ALT_NAME,
    known::OID_X509_EXT_CRL_DISTRIBUTION_POINTS,
    known::OID_PKIX_AUTHORITY_INFO_ACCESS,
];

/// What a cross certificate was asked to be.
#[derive(Clone, Copy, Debug)]
pub struct CrossExpectation<'a> {
    /// The root whose key and name it has.
    pub other: &'a Root,
    /// The root that signed it.
    pub signer: &'a Root,
    /// The trust domain of both.
    pub trust_domain: &'a TrustDomain,
    /// How many CAs must be able to stand below it: the issuers of the other root, with what is between.
    pub path_len: u8,
    /// The time of the check.
    pub now: Timestamp,
    /// How long it must last.
    pub least: Timestamp,
    /// How long it may last.
    pub most: Timestamp,
}

/// Checks the answer to a request for a cross certificate.
///
/// # Errors
/// [`Unsafe`], and then nothing of the answer may be used.
pub fn check_cross_answer(
    der: &[u8],
    expected: &CrossExpectation<'_>,
) -> Result<Certificate, Unsafe> {
    check_size(&[der.to_vec()])?;
    let parsed = Certificate::parse(der).map_err(Fault::Malformed);
    let certificate = parsed.map_err(|fault| fault.of(Which::Cross))?;
    check_signer(expected)?;
    check(&certificate, expected).map_err(|fault| fault.of(Which::Cross))?;
    Ok(certificate)
}

/// Peers that look at the anchor's own path length count the other root too.
fn check_signer(expected: &CrossExpectation<'_>) -> Result<(), Unsafe> {
    let needed = u32::from(expected.path_len).saturating_add(1);
    let constraints = expected.signer.certificate().extensions().basic_constraints;
    let found = constraints.and_then(|constraints| constraints.path_len);
    match found.filter(|found| *found < needed) {
        Some(found) => {
            Err(Fault::PathLength { found, needed }.of(Which::Root(expected.signer.id())))
        }
        None => Ok(()),
    }
}

fn check(certificate: &Certificate, expected: &CrossExpectation<'_>) -> Result<(), Fault> {
    let other = expected.other.certificate();
    if certificate.spki_der() != other.spki_der() {
        return Err(Fault::NotOfRoot("key"));
    }
    if certificate.subject_der() != other.subject_der() {
        return Err(Fault::NotOfRoot("name"));
    }
    if certificate.subject_der() == certificate.issuer_der() {
        return Err(Fault::RootInChain);
    }
    let need = Need { trust_domain: expected.trust_domain, path_len: u32::from(expected.path_len) };
    check_ca(certificate, &need)?;
    if certificate.extensions().subject_key_id != other.extensions().subject_key_id {
        return Err(Fault::NotOfRoot("subject key identifier"));
    }
    check_extensions(certificate)?;
    check_validity(certificate, expected.now, expected.least)?;
    let (ends, most) = (certificate.validity().not_after(), expected.most);
    if ends > most {
        return Err(Fault::EndsTooLate { ends, most });
    }
    check_signed_by(certificate, expected.signer.certificate())
}

fn check_extensions(certificate: &Certificate) -> Result<(), Fault> {
    let (_, parsed) = X509Certificate::from_der(certificate.der())
        .map_err(|error| Fault::Malformed(trust::CertificateError::Encoding(error.to_string())))?;
    let foreign = parsed.extensions().iter().find(|extension| !TAKEN.contains(&extension.oid));
    foreign.map_or(Ok(()), |extension| Err(Fault::ForeignExtension(extension.oid.to_id_string())))
}
