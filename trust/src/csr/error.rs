//! Why a CSR is refused: a closed set, each with a stable reason for machines.

use crate::der::DerError;
use crate::key::{AlgorithmError, KeyError};
use crate::spiffe_id::SpiffeIdError;

/// Why a CSR is refused. Its text has at most 256 bytes and nothing of the CSR but object identifiers in digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// It has more than 16 KiB.
    #[error("the CSR is larger than 16384 bytes")]
    TooLarge,
    /// A private key stands in it, or in its place.
    #[error(
        "a private key was sent with the CSR; it must be considered known: generate a new one and send only the CSR"
    )]
    PrivateKeyInside,
    /// It is not one PEM block of strict DER with the structure of a CSR.
    #[error("the CSR is not encoded as it must be: {0}")]
    Encoding(#[from] EncodingFault),
    /// Its public key is not taken.
    #[error("the CSR's key is refused: {0}")]
    Key(#[from] KeyError),
    /// Its signature algorithm is not taken for its key.
    #[error("the CSR's signature algorithm is refused: {0}")]
    Algorithm(#[from] AlgorithmError),
    /// Its signature was not made by its key over its content.
    #[error("the CSR's signature does not verify; sign it with the key it carries")]
    SignatureInvalid,
    /// It carries an attribute that is not taken.
    #[error("the CSR's attributes are refused: {0}")]
    Attribute(#[from] AttributeFault),
    /// It requests an extension that is not taken.
    #[error("an extension requested by the CSR is refused: {0}")]
    Extension(#[from] ExtensionFault),
    /// It asks for a name that is not taken.
    #[error("a name requested by the CSR is refused: {0}")]
    Name(#[from] NameFault),
}

/// What is wrong with the encoding of a CSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodingFault {
    /// No block, two blocks, another label, or anything but white space around the block.
    #[error("send exactly one PEM block CERTIFICATE REQUEST and nothing else")]
    NotOneBlock,
    /// The PEM block holds anything but canonical base64.
    #[error("the PEM block holds something else than base64")]
    Base64,
    /// The content is not strict DER.
    #[error("{0}")]
    Der(#[from] DerError),
    /// The version is not 0 (v1).
    #[error("the version is not 0")]
    Version,
}

/// What is wrong with the attributes of a CSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeFault {
    /// There are more than 8.
    #[error("there are more than 8")]
    TooMany,
    /// One stands there twice, or has several values where one is demanded.
    #[error("one stands there twice")]
    Duplicate,
    /// A challenge password is a secret, which has no place in a CSR.
    #[error("a challenge password is not taken; authenticate in the request instead")]
    ChallengePassword,
}

/// What is wrong with the extensions that a CSR requests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionFault {
    /// There are more than 16.
    #[error("there are more than 16")]
    TooMany,
    /// One stands there twice.
    #[error("{oid} stands there twice")]
    Duplicate {
        /// Which, in dotted form.
        oid: String,
    },
    /// One is critical, and unknown here.
    #[error("{oid} is critical and not supported")]
    UnknownCritical {
        /// Which, in dotted form.
        oid: String,
    },
    /// The basic constraints ask for a CA certificate.
    #[error("basic constraints ask for a CA certificate; workloads get leaves only")]
    CertificateAuthority,
    /// The key usage asks for the right to sign certificates or revocation lists.
    #[error("key usage asks to sign certificates or CRLs; workloads get leaves only")]
    CaKeyUsage,
    /// The extended key usage asks for other purposes than serverAuth and clientAuth, or for none.
    #[error("extended key usage may hold only serverAuth and clientAuth")]
    ExtendedKeyUsage,
}

/// What is wrong with the names that a CSR asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameFault {
    /// There are more than 64 of one kind.
    #[error("there are more than 64 of one kind")]
    TooMany,
    /// There is more than one URI (X509-SVID §2).
    #[error("there is more than one URI; a workload has one SPIFFE id")]
    SecondUri,
    /// The URI is not a SPIFFE id.
    #[error("the URI is not a SPIFFE id: {0}")]
    SpiffeId(#[from] SpiffeIdError),
    /// A name is empty, too long, or has characters that its type forbids; control characters always.
    #[error("a name is empty, too long, or has a forbidden character")]
    Malformed,
    /// A name has another type than URI, DNS, IP address or e-mail.
    #[error("only URI, DNS, IP address and e-mail names are taken")]
    UnsupportedType,
    /// A text of the subject has another type than UTF8String, PrintableString or IA5String.
    #[error("texts of the subject are UTF8String, PrintableString or IA5String")]
    TextType,
    /// The subject has more than one common name.
    #[error("the subject has more than one common name")]
    SecondCommonName,
}

impl CsrError {
    /// Every reason that [`Self::reason`] gives: the closed set for metric labels.
    pub const REASONS: [&str; 13] = [
        "CSR_TOO_LARGE",
        "CSR_PRIVATE_KEY_INSIDE",
        "CSR_ENCODING_INVALID",
        "CSR_KEY_INVALID",
        "CSR_KEY_WEAK",
        "CSR_KEY_UNSUPPORTED",
        "CSR_ALGORITHM_WEAK",
        "CSR_ALGORITHM_MISMATCH",
        "CSR_ALGORITHM_UNSUPPORTED",
        "CSR_SIGNATURE_INVALID",
        "CSR_ATTRIBUTE_REFUSED",
        "CSR_EXTENSION_REFUSED",
        "CSR_NAME_INVALID",
    ];

    /// Stable reason for machines.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge => "CSR_TOO_LARGE",
            Self::PrivateKeyInside => "CSR_PRIVATE_KEY_INSIDE",
            Self::Encoding(_) => "CSR_ENCODING_INVALID",
            Self::Key(fault) => key_reason(*fault),
            Self::Algorithm(AlgorithmError::Weak) => "CSR_ALGORITHM_WEAK",
            Self::Algorithm(AlgorithmError::Mismatch) => "CSR_ALGORITHM_MISMATCH",
            Self::Algorithm(AlgorithmError::Unsupported) => "CSR_ALGORITHM_UNSUPPORTED",
            Self::Algorithm(AlgorithmError::Encoding(_)) => "CSR_ENCODING_INVALID",
            Self::SignatureInvalid => "CSR_SIGNATURE_INVALID",
            Self::Attribute(_) => "CSR_ATTRIBUTE_REFUSED",
            Self::Extension(_) => "CSR_EXTENSION_REFUSED",
            Self::Name(_) => "CSR_NAME_INVALID",
        }
    }
}

impl From<DerError> for CsrError {
    fn from(fault: DerError) -> Self {
        Self::Encoding(EncodingFault::Der(fault))
    }
}

const fn key_reason(fault: KeyError) -> &'static str {
    match fault {
        KeyError::Encoding(_) => "CSR_ENCODING_INVALID",
        KeyError::Malformed | KeyError::NotOnCurve => "CSR_KEY_INVALID",
        KeyError::RsaTooShort | KeyError::RsaExponent | KeyError::SmallOrder => "CSR_KEY_WEAK",
        KeyError::RsaTooLong | KeyError::UnsupportedAlgorithm | KeyError::UnsupportedCurve => {
            "CSR_KEY_UNSUPPORTED"
        }
    }
}
