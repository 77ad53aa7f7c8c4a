//! Bundles as documents: a JWK Set with one entry for each root (SPIFFE Trust Domain and Bundle, §4). What is read is judged
//! strictly, since members of another domain are believed by it; what is not about X.509 is skipped.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use trust::{Bundle, BundleError, RootId, Sequence, TrustDomain};

use crate::jwk::{Entry, PublicMembers, members};

/// Longest document that is read, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 512 * 1024;
/// Roots of one domain together, in DER: those of all domains fit into one message to an agent.
pub const ROOTS_BYTES_MAX: usize = 96 * 1024;

/// The use of an entry that is a root.
const X509: &str = "x509-svid";

/// A bundle as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its number; `None` if it has none.
    pub sequence: Option<u64>,
    /// How often it wants to be read, in seconds.
    pub refresh_hint: Option<u64>,
    /// The roots. Its own sequence says nothing.
    pub bundle: Bundle,
}

/// A document that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentRefused {
    /// It is too long.
    #[error("it has more than {} KiB", DOCUMENT_BYTES_MAX / 1024)]
    TooLong,
    /// It is no such document.
    #[error("it is no SPIFFE bundle document: {0}")]
    Malformed(String),
    /// It is no PEM either.
    #[error("it is neither a SPIFFE bundle document nor certificates in PEM: {0}")]
    NoPem(String),
    /// Nobody would be believed by it.
    #[error(
        "it has no key with the use x509-svid, as if that trust domain had revoked all its roots; to believe it no more, end the \
         federation: `banyan federation remove`, or delete its object"
    )]
    NoRoots,
    /// A private key is in it.
    #[error(
        "a private key is in it (entry {0}): whoever publishes it must take that key for stolen, and make another root"
    )]
    PrivateKey(usize),
    /// An entry is not what one of its use is.
    #[error("entry {entry}: {fault}")]
    Entry {
        /// Which, from 1.
        entry: usize,
        /// What is wrong.
        fault: EntryFault,
    },
    /// Its certificates are no bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its certificates are too long.
    #[error("its roots have {0} bytes together, and may have {ROOTS_BYTES_MAX}")]
    RootsTooLong(usize),
}

/// What is wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// It has a key id.
    #[error("it has a kid, which a root has not")]
    Kid,
    /// It has no certificate, or several.
    #[error("x5c has {0} certificates; a root has exactly one")]
    Certificates(usize),
    /// The certificate is no base64.
    #[error("x5c is no base64")]
    Base64,
    /// The certificate is of another key.
    #[error("the key that it says is not the key of its certificate")]
    OtherKey,
}

#[derive(Deserialize)]
struct Read {
    keys: Vec<Entry>,
    spiffe_sequence: Option<u64>,
    spiffe_refresh_hint: Option<u64>,
}

#[derive(Serialize)]
struct Written {
    keys: Vec<WrittenKey>,
    spiffe_sequence: u64,
    spiffe_refresh_hint: u64,
}

#[derive(Serialize)]
struct WrittenKey {
    kty: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
    #[serde(flatten)]
    key: PublicMembers,
    x5c: [String; 1],
}

/// Reads a document about a trust domain.
///
/// # Errors
/// [`DocumentRefused`].
pub fn read(bytes: &[u8], domain: &TrustDomain) -> Result<Document, DocumentRefused> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(DocumentRefused::TooLong);
    }
    let read: Read = serde_json::from_slice(bytes)
        .map_err(|error| DocumentRefused::Malformed(error.to_string()))?;
    let numbered = || (1..).zip(&read.keys);
    if let Some((entry, _)) = numbered().find(|(_, key)| key.is_private()) {
        return Err(DocumentRefused::PrivateKey(entry));
    }
    let roots = numbered().filter(|(_, key)| key.purpose.as_deref() == Some(X509));
    let ders = roots.map(|(entry, key)| {
        certificate(key).map_err(|fault| DocumentRefused::Entry { entry, fault })
    });
    let ders = ders.collect::<Result<Vec<_>, _>>()?;
    let bundle = bundle(&ders, domain)?;
    for (entry, key) in numbered().filter(|(_, key)| key.purpose.as_deref() == Some(X509)) {
        let der = certificate(key).map_err(|fault| DocumentRefused::Entry { entry, fault })?;
        let root = bundle.roots().iter().find(|root| root.id() == RootId::of(&der));
        let own = root.and_then(|root| members(root.certificate().spki_der()));
        // Of a kind of key that is not known here, nothing can be compared.
        if own.is_some_and(|(kty, own)| !key.agrees_with(kty, &own)) {
            return Err(DocumentRefused::Entry { entry, fault: EntryFault::OtherKey });
        }
    }
    Ok(Document { sequence: read.spiffe_sequence, refresh_hint: read.spiffe_refresh_hint, bundle })
}

/// Reads what somebody gave by hand: a document, or certificates in PEM.
///
/// # Errors
/// [`DocumentRefused`].
pub fn read_given(bytes: &[u8], domain: &TrustDomain) -> Result<Document, DocumentRefused> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(DocumentRefused::TooLong);
    }
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
        return read(bytes, domain);
    }
    let no_pem = |what: &str| DocumentRefused::NoPem(what.to_owned());
    if bytes.windows(11).any(|text| text == b"PRIVATE KEY") {
        return Err(DocumentRefused::PrivateKey(1));
    }
    let ders: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let ders = ders.map_err(|error| DocumentRefused::NoPem(error.to_string()))?;
    if ders.is_empty() {
        return Err(no_pem("it has no certificate"));
    }
    Ok(Document { sequence: None, refresh_hint: None, bundle: bundle(&ders, domain)? })
}

/// Writes the bundle in force as a document.
///
/// # Errors
/// The root whose key no document can say.
pub fn write(bundle: &Bundle, refresh_hint: Duration) -> Result<Vec<u8>, RootId> {
    let key = |root: &trust::Root| {
        let (kty, key) = members(root.certificate().spki_der()).ok_or_else(|| root.id())?;
        Ok(WrittenKey { kty, purpose: X509, key, x5c: [STANDARD.encode(root.der())] })
    };
    let written = Written {
        keys: bundle.roots().iter().map(key).collect::<Result<_, _>>()?,
        spiffe_sequence: bundle.sequence().0,
        spiffe_refresh_hint: refresh_hint.as_secs().max(1),
    };
    // Texts and numbers always have a JSON form.
    Ok(serde_json::to_vec(&written).unwrap_or_default())
}

fn certificate(key: &Entry) -> Result<Vec<u8>, EntryFault> {
    if key.kid.is_some() {
        return Err(EntryFault::Kid);
    }
    match key.x5c.as_deref() {
        Some([one]) => STANDARD.decode(one).map_err(|_| EntryFault::Base64),
        several => Err(EntryFault::Certificates(several.map_or(0, <[_]>::len))),
    }
}

fn bundle<D: AsRef<[u8]>>(ders: &[D], domain: &TrustDomain) -> Result<Bundle, DocumentRefused> {
    if ders.is_empty() {
        return Err(DocumentRefused::NoRoots);
    }
    let bytes = ders.iter().map(|der| der.as_ref().len()).sum();
    if bytes > ROOTS_BYTES_MAX {
        return Err(DocumentRefused::RootsTooLong(bytes));
    }
    Ok(Bundle::from_ders(domain.clone(), Sequence(0), ders)?)
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
