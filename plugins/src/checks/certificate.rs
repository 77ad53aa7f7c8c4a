//! What must be true of any CA certificate in an answer.

use trust::certificate::Certificate;
use trust::der::{DerError, Reader};
use trust::{PublicKey, SignatureAlgorithm, Timestamp, TrustDomain};

use super::fault::Fault;

/// The tag of `[0] EXPLICIT version`.
const VERSION: u8 = 0xa0;

/// What a CA certificate must be able to do.
pub(super) struct Need<'a> {
    pub(super) trust_domain: &'a TrustDomain,
    /// How many CAs must be able to stand below it.
    pub(super) path_len: u32,
}

/// Everything but validity, key identity and place in the chain.
pub(super) fn check_ca(certificate: &Certificate, need: &Need<'_>) -> Result<(), Fault> {
    let extensions = certificate.extensions();
    let constraints =
        extensions.basic_constraints.filter(|constraints| constraints.ca).ok_or(Fault::NotCa)?;
    if !constraints.critical {
        return Err(Fault::ConstraintsNotCritical);
    }
    if !extensions.key_usage.is_some_and(|usage| usage.key_cert_sign) {
        return Err(Fault::NoCertSign);
    }
    if extensions.extended_key_usage.is_some_and(|usage| !(usage.server_auth && usage.client_auth))
    {
        return Err(Fault::ExtendedKeyUsage);
    }
    if let Some(found) = constraints.path_len.filter(|found| *found < need.path_len) {
        return Err(Fault::PathLength { found, needed: need.path_len });
    }
    if extensions.subject_key_id.as_ref().is_none_or(Vec::is_empty) {
        return Err(Fault::NoSubjectKeyId);
    }
    if let Some(oid) = extensions.critical_unknown.first() {
        return Err(Fault::CriticalExtension(oid.clone()));
    }
    if extensions.uri_name_constraints {
        return Err(Fault::UriNameConstraints);
    }
    check_trust_domain(certificate, need.trust_domain)?;
    check_signature_algorithm(certificate)?;
    public_key(certificate)?;
    Ok(())
}

/// Valid now, and until `until`.
pub(super) fn check_validity(
    certificate: &Certificate,
    now: Timestamp,
    until: Timestamp,
) -> Result<(), Fault> {
    let validity = certificate.validity();
    if validity.not_before() > now {
        return Err(Fault::NotYetValid(validity.not_before()));
    }
    if validity.not_after() < until {
        return Err(Fault::EndsTooEarly { ends: validity.not_after(), needed: until });
    }
    Ok(())
}

/// Signed by the key of `signer`, under its name and key id.
pub(super) fn check_signed_by(
    certificate: &Certificate,
    signer: &Certificate,
) -> Result<(), Fault> {
    if certificate.issuer_der() != signer.subject_der() || !signature_verifies(certificate, signer)
    {
        return Err(Fault::NotSignedByNext);
    }
    let authority = certificate.extensions().authority_key_id.as_ref();
    if authority.is_none() || authority != signer.extensions().subject_key_id.as_ref() {
        return Err(Fault::AuthorityKeyId);
    }
    Ok(())
}

/// Whether the signature on `certificate` is one by the key of `signer`.
pub(crate) fn signature_verifies(certificate: &Certificate, signer: &Certificate) -> bool {
    let (Ok(parts), Ok(key)) = (Parts::of(certificate.der()), public_key(signer)) else {
        return false;
    };
    SignatureAlgorithm::from_der(parts.algorithm, key.kind())
        .is_ok_and(|algorithm| key.verify(parts.to_be_signed, algorithm, parts.signature).is_ok())
}

fn check_trust_domain(certificate: &Certificate, trust_domain: &TrustDomain) -> Result<(), Fault> {
    let names = certificate
        .names()
        .uris
        .iter()
        .filter_map(|uri| Some((uri, uri.strip_prefix("spiffe://")?)));
    for (uri, rest) in names {
        if rest.split('/').next() != Some(trust_domain.as_str()) {
            return Err(Fault::OtherTrustDomain(uri.chars().take(300).collect()));
        }
    }
    Ok(())
}

fn public_key(certificate: &Certificate) -> Result<PublicKey, Fault> {
    let unfit = |problem| Fault::WeakKey { key: certificate.key_text(), problem };
    PublicKey::parse(certificate.spki_der()).map_err(unfit)
}

/// One that every peer verifies, named alike inside and outside of what is signed.
fn check_signature_algorithm(certificate: &Certificate) -> Result<(), Fault> {
    let unfit = || Fault::SignatureAlgorithm(certificate.signature_text());
    let parts = Parts::of(certificate.der()).map_err(|_| unfit())?;
    let taken = SignatureAlgorithm::ALL.iter().any(|algorithm| algorithm.der() == parts.algorithm);
    if taken && parts.algorithm == parts.algorithm_inside { Ok(()) } else { Err(unfit()) }
}

/// The three parts of a signed certificate (RFC 5280 section 4.1), as they stand in its DER.
struct Parts<'a> {
    to_be_signed: &'a [u8],
    algorithm_inside: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(der: &'a [u8]) -> Result<Self, DerError> {
        let mut certificate = Reader::new(der).sequence()?;
        let to_be_signed = certificate.element()?.raw;
        let algorithm = certificate.element()?.raw;
        let signature = certificate.octets_of_bit_string()?;
        let mut inside = Reader::new(to_be_signed).sequence()?;
        inside.optional(VERSION)?;
        inside.unsigned()?;
        let algorithm_inside = inside.element()?.raw;
        Ok(Self { to_be_signed, algorithm_inside, algorithm, signature })
    }
}
