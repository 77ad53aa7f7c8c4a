//! One parsed X.509 certificate, with the fields that a CA and its peers decide by.

use std::collections::BTreeSet;
use std::sync::Arc;

use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::digest::{CertificateId, SpkiHash};
use crate::serial::Serial;
use crate::spiffe_id::{SpiffeId, SpiffeIdError};
use crate::time::{Timestamp, Validity};

/// Largest certificate taken, in bytes of DER. Real ones have 0.5 to 4 KiB.
pub const CERTIFICATE_LEN_MAX: usize = 64 * 1024;

/// A certificate in DER with its parsed fields; cheap to clone.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<Fields>);

#[derive(Debug)]
struct Fields {
    der: Vec<u8>,
    id: CertificateId,
    serial: Vec<u8>,
    validity: Validity,
    spki: Vec<u8>,
    spki_hash: SpkiHash,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    names: Names,
    extensions: Extensions,
}

/// Subject alternative names, as written in the certificate.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Names {
    /// URI names.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses: 4 or 16 bytes each.
    pub ips: Vec<Vec<u8>>,
    /// How many names of other kinds there are.
    pub others: usize,
}

/// The other extensions that matter to a path.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Extensions {
    /// Basic constraints, if present.
    pub basic_constraints: Option<BasicConstraints>,
    /// Key usage, if present.
    pub key_usage: Option<KeyUsage>,
    /// Extended key usage, if present.
    pub extended_key_usage: Option<ExtendedKeyUsage>,
    /// Subject key identifier.
    pub subject_key_id: Option<Vec<u8>>,
    /// Authority key identifier, its key id.
    pub authority_key_id: Option<Vec<u8>>,
    /// Whether the name constraints have a URI subtree (rustls-webpki refuses such chains).
    pub uri_name_constraints: bool,
    /// Dotted OIDs of critical extensions that this parser does not know.
    pub critical_unknown: Vec<String>,
}

/// The basic constraints extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasicConstraints {
    /// Whether the extension is marked critical.
    pub critical: bool,
    /// Whether this certificate may sign others.
    pub ca: bool,
    /// How many intermediates may follow; absent is no limit.
    pub path_len: Option<u32>,
}

/// The bits of key usage that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    /// Whether the extension is marked critical.
    pub critical: bool,
    /// Bit 0.
    pub digital_signature: bool,
    /// Bit 2.
    pub key_encipherment: bool,
    /// Bit 5.
    pub key_cert_sign: bool,
    /// Bit 6.
    pub crl_sign: bool,
}

/// The extended key usages that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedKeyUsage {
    /// id-kp-serverAuth.
    pub server_auth: bool,
    /// id-kp-clientAuth.
    pub client_auth: bool,
}

/// Why bytes are not a certificate that can be worked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not one DER certificate, or bytes after it.
    #[error("not one DER certificate: {0}")]
    Encoding(String),
    /// Longer than [`CERTIFICATE_LEN_MAX`].
    #[error("the certificate has {0} bytes; at most 65536 are taken")]
    TooLarge(usize),
    /// The same extension twice.
    #[error("the extension {0} occurs twice")]
    DuplicateExtension(String),
    /// An extension does not parse.
    #[error("the extension {0} is malformed")]
    MalformedExtension(String),
    /// The validity ends before it starts.
    #[error("the validity ends before it starts")]
    Validity,
    /// The number of URI names is not one (X509-SVID §2).
    #[error("a SPIFFE certificate has exactly one URI name, this one has {0}")]
    UriNames(usize),
    /// The URI name is not a SPIFFE id.
    #[error("the URI name is not a SPIFFE id: {0}")]
    SpiffeId(#[from] SpiffeIdError),
}

impl Certificate {
    /// Parses one DER certificate.
    ///
    /// # Errors
    /// [`CertificateError`] if it is not exactly one certificate, is too large, repeats an extension or has one
    /// that does not parse. No signature is checked here; see [`crate::Chain::verify`].
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > CERTIFICATE_LEN_MAX {
            return Err(CertificateError::TooLarge(der.len()));
        }
        let encoding =
            |detail: String| CertificateError::Encoding(detail.chars().take(200).collect());
        let (rest, parsed) =
            X509Certificate::from_der(der).map_err(|error| encoding(error.to_string()))?;
        if !rest.is_empty() {
            return Err(encoding(format!("{} bytes follow it", rest.len())));
        }
        let tbs = &parsed.tbs_certificate;
        let (names, extensions) = extensions(&parsed)?;
        let validity = Validity::new(
            Timestamp::from_secs(tbs.validity.not_before.timestamp()),
            Timestamp::from_secs(tbs.validity.not_after.timestamp()),
        )
        .map_err(|_| CertificateError::Validity)?;
        Ok(Self(Arc::new(Fields {
            der: der.to_vec(),
            id: CertificateId::of(der),
            serial: tbs.raw_serial().to_vec(),
            validity,
            spki: tbs.subject_pki.raw.to_vec(),
            spki_hash: SpkiHash::of(tbs.subject_pki.raw),
            subject: tbs.subject.as_raw().to_vec(),
            issuer: tbs.issuer.as_raw().to_vec(),
            names,
            extensions,
        })))
    }

    /// The DER bytes.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// SHA-256 of the DER.
    pub fn id(&self) -> CertificateId {
        self.0.id
    }

    /// Content bytes of the serial number.
    pub fn serial_bytes(&self) -> &[u8] {
        &self.0.serial
    }

    /// The serial number, if it has the form of ours.
    pub fn serial(&self) -> Option<Serial> {
        Serial::from_bytes(&self.0.serial)
    }

    /// When the certificate is valid.
    pub fn validity(&self) -> Validity {
        self.0.validity
    }

    /// DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn spki_hash(&self) -> SpkiHash {
        self.0.spki_hash
    }

    /// DER Name of the subject, byte for byte.
    pub fn subject_der(&self) -> &[u8] {
        &self.0.subject
    }

    /// DER Name of the issuer, byte for byte.
    pub fn issuer_der(&self) -> &[u8] {
        &self.0.issuer
    }

    /// The subject in the text form of RFC 4514, for people.
    pub fn subject_text(&self) -> String {
        x509_parser::x509::X509Name::from_der(&self.0.subject)
            .map(|(_, name)| name.to_string())
            .unwrap_or_default()
    }

    /// The issuer's name in the text form of RFC 4514, for people.
    pub fn issuer_text(&self) -> String {
        x509_parser::x509::X509Name::from_der(&self.0.issuer)
            .map(|(_, name)| name.to_string())
            .unwrap_or_default()
    }

    /// Subject alternative names.
    pub fn names(&self) -> &Names {
        &self.0.names
    }

    /// The other extensions.
    pub fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    /// Whether the basic constraints say CA.
    pub fn is_ca(&self) -> bool {
        self.0.extensions.basic_constraints.is_some_and(|constraints| constraints.ca)
    }

    /// The one SPIFFE id of the certificate.
    ///
    /// # Errors
    /// [`CertificateError::UriNames`] unless there is exactly one URI name, [`CertificateError::SpiffeId`] if it is
    /// malformed.
    pub fn spiffe_id(&self) -> Result<SpiffeId, CertificateError> {
        match self.0.names.uris.as_slice() {
            [uri] => Ok(SpiffeId::parse(uri)?),
            other => Err(CertificateError::UriNames(other.len())),
        }
    }

    /// One PEM block, with a line feed at its end.
    pub fn pem(&self) -> String {
        pem_block(&self.0.der)
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Certificate {}

/// One `CERTIFICATE` PEM block of these bytes, with a line feed at its end.
pub fn pem_block(der: &[u8]) -> String {
    block("CERTIFICATE", der)
}

/// One `X509 CRL` PEM block of these bytes, with a line feed at its end.
pub fn crl_pem_block(der: &[u8]) -> String {
    block("X509 CRL", der)
}

fn block(label: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, der), config)
}

fn extensions(parsed: &X509Certificate<'_>) -> Result<(Names, Extensions), CertificateError> {
    let mut names = Names::default();
    let mut found = Extensions::default();
    let mut seen = BTreeSet::new();
    for extension in parsed.extensions() {
        let oid = || extension.oid.to_id_string();
        if !seen.insert(extension.oid.as_bytes()) {
            return Err(CertificateError::DuplicateExtension(oid()));
        }
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(value) => {
                value.general_names.iter().for_each(|name| collect(&mut names, name));
            }
            ParsedExtension::ParseError { .. } => {
                return Err(CertificateError::MalformedExtension(oid()));
            }
            ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::Unparsed
                if extension.critical =>
            {
                found.critical_unknown.push(oid());
            }
            known => found.take(known, extension.critical),
        }
    }
    Ok((names, found))
}

fn collect(names: &mut Names, name: &GeneralName<'_>) {
    match name {
        GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
        GeneralName::DNSName(dns) => names.dns.push((*dns).to_owned()),
        GeneralName::IPAddress(ip) => names.ips.push(ip.to_vec()),
        _ => names.others += 1,
    }
}

impl Extensions {
    fn take(&mut self, extension: &ParsedExtension<'_>, critical: bool) {
        match extension {
            ParsedExtension::BasicConstraints(value) => {
                self.basic_constraints = Some(BasicConstraints {
                    critical,
                    ca: value.ca,
                    path_len: value.path_len_constraint,
                });
            }
            ParsedExtension::KeyUsage(value) => {
                self.key_usage = Some(KeyUsage {
                    critical,
                    digital_signature: value.digital_signature(),
                    key_encipherment: value.key_encipherment(),
                    key_cert_sign: value.key_cert_sign(),
                    crl_sign: value.crl_sign(),
                });
            }
            ParsedExtension::ExtendedKeyUsage(value) => {
                self.extended_key_usage = Some(ExtendedKeyUsage {
                    server_auth: value.server_auth,
                    client_auth: value.client_auth,
                });
            }
            ParsedExtension::SubjectKeyIdentifier(value) => {
                self.subject_key_id = Some(value.0.to_vec())
            }
            ParsedExtension::AuthorityKeyIdentifier(value) => {
                self.authority_key_id = value.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            ParsedExtension::NameConstraints(value) => {
                let subtrees =
                    value.permitted_subtrees.iter().chain(&value.excluded_subtrees).flatten();
                self.uri_name_constraints =
                    subtrees.into_iter().any(|subtree| matches!(subtree.base, GeneralName::URI(_)));
            }
            _ => {}
        }
    }
}
