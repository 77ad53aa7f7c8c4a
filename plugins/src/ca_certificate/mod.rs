//! Roots, issuer CSRs and issuers, built to Banyan's profile and signed through a [`KeyBackend`].
//!
//! Every field is set here: serial number, validity, names, extensions. From a CSR comes its public key and nothing
//! else. What was built is parsed back and checked before it is handed out.
//!
//! | | root | issuer |
//! |---|---|---|
//! | subject | unique: the serial number is in it | the same |
//! | basic constraints (critical) | CA:TRUE without a path length | CA:TRUE, path length as asked |
//! | key usage (critical) | keyCertSign, cRLSign | the same |
//! | URI SAN | `spiffe://<trust domain>` | the same |
//! | key identifiers | subject | subject, authority |
//!
//! A cross certificate has the name, the key and the subject key identifier of another root, and is otherwise as an issuer.
//!
//! rcgen writes the certificate but signs in one go, so it is fed a signer that only records what it should sign; see
//! `two_pass`.

mod build_error;
mod two_pass;

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyIdMethod,
    KeyUsagePurpose, SanType, SerialNumber,
};
use trust::certificate::Certificate;
use trust::time::Civil;
use trust::{PublicKey, Root, Serial, Timestamp, TrustDomain, Validity};

use crate::error::PluginError;
use crate::keys::{KeyBackend, KeyHandle, KeyId};
pub use build_error::BuildError;
use two_pass::{Assembled, Signer, SubjectKey};

/// What a root shall be.
#[derive(Clone, Debug)]
pub struct RootProfile {
    /// The trust domain it stands for.
    pub trust_domain: TrustDomain,
    /// Its serial number, which makes its subject unique.
    pub serial: Serial,
    /// When it is valid.
    pub validity: Validity,
}

/// What an issuer shall be.
#[derive(Clone, Debug)]
pub struct IssuerProfile {
    /// The trust domain whose workloads it certifies.
    pub trust_domain: TrustDomain,
    /// Its serial number, which makes its subject unique.
    pub serial: Serial,
    /// When it is valid.
    pub validity: Validity,
    /// How many further CAs may stand below it.
    pub path_len: u8,
}

/// What another root's certificate under an own root shall be.
#[derive(Clone, Debug)]
pub struct CrossProfile {
    /// The trust domain of both.
    pub trust_domain: TrustDomain,
    /// Its serial number.
    pub serial: Serial,
    /// When it is valid.
    pub validity: Validity,
    /// How many CAs may stand below it; none for any number.
    pub path_len: Option<u8>,
}

/// A CA certificate, a root or an intermediate, with the key that signs for it.
#[derive(Clone, Copy, Debug)]
pub struct CaSigner<'a> {
    /// Where the key is.
    pub keys: &'a dyn KeyBackend,
    /// The key's name there.
    pub key_id: &'a KeyId,
    /// The certificate.
    pub certificate: &'a Certificate,
}

impl From<BuildError> for PluginError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Key(error) => error.into(),
            other => Self::Permanent { detail: other.to_string() },
        }
    }
}

/// Builds a self-signed root for a key.
///
/// # Errors
/// [`BuildError`]; nothing was stored, and the next call builds another root (ECDSA signatures differ each time).
pub async fn build_root(
    keys: &dyn KeyBackend,
    key: &KeyHandle,
    profile: &RootProfile,
) -> Result<Root, BuildError> {
    let mut params = ca_params("root", &profile.trust_domain, profile.serial, profile.validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let signer = Signer::new(&key.public);
    let tbs = signer.record(|recorder| params.self_signed(recorder).map(|_| ()))?;
    let der = finish(keys, &key.id, &signer, &tbs).await?;
    Ok(Root::parse(&der)?)
}

/// Builds the CSR of an issuer: its public key, and the proof that somebody holds the private half.
///
/// It asks for no names: the authority knows the trust domain from the request, and strict readers of CSRs refuse a
/// SPIFFE id without a path.
///
/// # Errors
/// [`BuildError`].
pub async fn build_issuer_csr(
    keys: &dyn KeyBackend,
    key: &KeyHandle,
) -> Result<Vec<u8>, BuildError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Banyan issuer");
    let signer = Signer::new(&key.public);
    let request_info = signer.record(|recorder| params.serialize_request(recorder).map(|_| ()))?;
    finish(keys, &key.id, &signer, &request_info).await
}

/// Signs an issuer for a public key under a CA certificate.
///
/// # Errors
/// [`BuildError`]; nothing was stored.
pub async fn sign_issuer(
    signer: &CaSigner<'_>,
    issuer_key: &PublicKey,
    profile: &IssuerProfile,
) -> Result<Certificate, BuildError> {
    let mut params = ca_params("issuer", &profile.trust_domain, profile.serial, profile.validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(profile.path_len));
    signed_by(signer, issuer_key, params).await
}

/// Signs the name and the key of another root under an own one.
///
/// # Errors
/// [`BuildError`]; nothing was stored.
pub async fn sign_cross(
    signer: &CaSigner<'_>,
    other: &Root,
    profile: &CrossProfile,
) -> Result<Certificate, BuildError> {
    let other = other.certificate();
    let key = PublicKey::parse(other.spki_der()).map_err(|_| BuildError::SignerKey)?;
    let mut params = ca_params("root", &profile.trust_domain, profile.serial, profile.validity)?;
    params.distinguished_name = two_pass::subject_of(other)?;
    params.is_ca = IsCa::Ca(
        profile.path_len.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained),
    );
    // Issuers below the other root name it by this.
    params.key_identifier_method =
        KeyIdMethod::PreSpecified(other.extensions().subject_key_id.clone().unwrap_or_default());
    let certificate = signed_by(signer, &key, params).await?;
    if certificate.subject_der() != other.subject_der() {
        return Err(BuildError::SubjectLost);
    }
    Ok(certificate)
}

async fn signed_by(
    signer: &CaSigner<'_>,
    subject: &PublicKey,
    mut params: CertificateParams,
) -> Result<Certificate, BuildError> {
    params.use_authority_key_identifier_extension = true;

    let above = signer.certificate;
    let above_key = PublicKey::parse(above.spki_der()).map_err(|_| BuildError::SignerKey)?;
    let key = Signer::new(&above_key);
    let mut above_params = CertificateParams::default();
    above_params.distinguished_name = two_pass::subject_of(above)?;
    above_params.key_identifier_method =
        KeyIdMethod::PreSpecified(above.extensions().subject_key_id.clone().unwrap_or_default());

    let subject_key = SubjectKey::new(subject);
    let tbs = key.record(|recorder| {
        let issuer = rcgen::Issuer::from_params(&above_params, recorder);
        params.signed_by(&subject_key, &issuer).map(|_| ())
    })?;
    let certificate = Certificate::parse(&finish(signer.keys, signer.key_id, &key, &tbs).await?)?;
    if certificate.issuer_der() != above.subject_der() {
        return Err(BuildError::SubjectLost);
    }
    if certificate.spki_der() != subject.spki_der() {
        return Err(BuildError::Encode("the public key changed in encoding".to_owned()));
    }
    Ok(certificate)
}

fn ca_params(
    role: &str,
    trust_domain: &TrustDomain,
    serial: Serial,
    validity: Validity,
) -> Result<CertificateParams, BuildError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Banyan {role} {serial}"));
    params.subject_alt_names = vec![trust_domain_name(trust_domain)?];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, validity)?;
    Ok(params)
}

fn trust_domain_name(trust_domain: &TrustDomain) -> Result<SanType, BuildError> {
    let uri = format!("spiffe://{trust_domain}");
    Ok(SanType::URI(
        uri.try_into().map_err(|error: rcgen::Error| BuildError::Encode(error.to_string()))?,
    ))
}

fn set_validity(params: &mut CertificateParams, validity: Validity) -> Result<(), BuildError> {
    let refused =
        BuildError::Validity { not_before: validity.not_before(), not_after: validity.not_after() };
    let writable = |time: Timestamp| (0..=Timestamp::MAX.as_secs()).contains(&time.as_secs());
    if !writable(validity.not_before()) || !writable(validity.not_after()) {
        return Err(refused);
    }
    for (field, time) in [
        (&mut params.not_before, validity.not_before()),
        (&mut params.not_after, validity.not_after()),
    ] {
        let Civil { year, month, day, hour, minute, second } = time.civil();
        let parts = (i32::try_from(year), u8::try_from(month), u8::try_from(day));
        let (Ok(year), Ok(month), Ok(day)) = parts else { return Err(refused) };
        let since_midnight =
            u64::try_from(hour * 3600 + minute * 60 + second).map_err(|_| refused.clone())?;
        *field = rcgen::date_time_ymd(year, month, day) + Duration::from_secs(since_midnight);
    }
    Ok(())
}

/// Signs, assembles and verifies: the second pass.
async fn finish(
    keys: &dyn KeyBackend,
    key_id: &KeyId,
    signer: &Signer<'_>,
    to_be_signed: &[u8],
) -> Result<Vec<u8>, BuildError> {
    let algorithm = signer.algorithm();
    let signature = keys.sign(key_id, to_be_signed, algorithm).await?;
    signer
        .public()
        .verify(to_be_signed, algorithm, &signature)
        .map_err(|_| BuildError::Signature)?;
    Ok(Assembled { to_be_signed, algorithm, signature: &signature }.der())
}

#[cfg(test)]
mod tests;
