//! What can be wrong with an answer.

use std::fmt;

use thiserror::Error;
use trust::{CertificateError, RootError, RootId, Timestamp};

/// Why an answer is not safe to use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unsafe {
    /// More than [`MAX_ANSWER_LEN`](super::MAX_ANSWER_LEN).
    #[error("the answer has {len} bytes; at most 1048576 are looked at")]
    TooLarge {
        /// Its length, in bytes of DER.
        len: usize,
    },
    /// It does not fit the protocol that it came by, so there is nothing to check.
    #[error("the answer does not fit the protocol: {detail}")]
    Malformed {
        /// What is wrong.
        detail: String,
    },
    /// A chain of no certificates, or of more than a peer takes.
    #[error("the chain has {count} certificates; between 1 and 7 are expected below the root")]
    ChainLength {
        /// How many there are.
        count: usize,
    },
    /// One certificate is wrong.
    #[error("{which} {fault}")]
    Certificate {
        /// The certificate.
        which: Which,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The chain ends in no root that the authority announced.
    #[error("the chain ends in no root that the authority announced")]
    UnknownRoot,
    /// The chain ends in another root than the one asked for.
    #[error("the chain ends in root {found}, not in root {asked} that was asked for")]
    OtherRoot {
        /// The root asked for.
        asked: RootId,
        /// The root it ends in.
        found: RootId,
    },
    /// The private key does not belong to the public key.
    #[error(
        "the key that signs does not match the public key: its signature of a nonce does not verify"
    )]
    PrivateKeyMismatch,
    /// A root that was withdrawn, and that no operator named for its return.
    #[error(
        "root {} was withdrawn before; give the authority another root, or let this one return with `banyan rotate start \
         --to NAME --stage-again {}`", .0.short(), .0.short()
    )]
    RetiredRoot(RootId),
    /// The same root twice.
    #[error("root {0} is announced twice")]
    DuplicateRoot(RootId),
    /// Another certificate for the key and subject of a known root, which no operator named.
    #[error(
        "root {} has the key and the subject of known root {}; if it is a renewal that you want, take it with `banyan rotate \
         start --to NAME --stage-again {}`, else give the authority a root with another key",
        found.short(), known.short(), found.short()
    )]
    SameKeyAndSubject {
        /// The new one.
        found: RootId,
        /// The known one.
        known: RootId,
    },
    /// Roots were added and removed in one change.
    #[error(
        "{added} roots were added and {removed} removed at once; a change does one or the other"
    )]
    AddedAndRemoved {
        /// How many are new.
        added: usize,
        /// How many are gone.
        removed: usize,
    },
    /// There were roots, and now there are none.
    #[error("the authority announces no root any more")]
    NoRootsLeft,
    /// The signing root is not among those announced.
    #[error("the signing root {0} is not announced")]
    SigningNotAnnounced(RootId),
    /// More further roots than are taken.
    #[error("{count} further roots are named; at most 16 are taken")]
    TooManyFurther {
        /// How many there are.
        count: usize,
    },
    /// A further root with the key and subject of a root of our own.
    #[error(
        "is another certificate for the key and the name of root {}, which is or was one of our own; leave it out", known.short()
    )]
    TwinOfOurs {
        /// The further root.
        found: RootId,
        /// Ours.
        known: RootId,
    },
    /// The generation went back, or stayed while the set changed.
    #[error("the generation of the root set went from {before} to {after} over a change")]
    Generation {
        /// The last one seen.
        before: u64,
        /// The one answered now.
        after: u64,
    },
}

/// Which certificate of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The issuer, first in the chain.
    Issuer,
    /// A certificate between the issuer and its root; 1 is the one above the issuer.
    Intermediate(usize),
    /// A root, by its place in the answer, before it has an id.
    RootAt(usize),
    /// A root.
    Root(RootId),
    /// A certificate by its subject.
    Named(String),
    /// Another root's key and name under an own root.
    Cross,
}

/// What is wrong with one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// Not one DER certificate.
    #[error("is no certificate: {0}")]
    Malformed(CertificateError),
    /// Not fit to be a root, for a reason that has no variant of its own here.
    #[error("is no root: {0}")]
    NotARoot(RootError),
    /// Its key is not the one in the CSR.
    #[error("certifies another key than the CSR's")]
    WrongKey,
    /// Basic constraints are absent or say that it is no CA.
    #[error(
        "is not a CA certificate: basic constraints CA:TRUE are missing; give one that may sign certificates"
    )]
    NotCa,
    /// Basic constraints are not marked critical (RFC 5280 section 4.2.1.9).
    #[error("has basic constraints that are not critical")]
    ConstraintsNotCritical,
    /// Key usage is absent or lacks keyCertSign.
    #[error(
        "lacks the key usage keyCertSign, so strict peers refuse it; make another one with keyUsage keyCertSign"
    )]
    NoCertSign,
    /// An extended key usage that leaves out workloads' leaves.
    #[error(
        "has an extended key usage without both serverAuth and clientAuth, so its leaves fail at peers"
    )]
    ExtendedKeyUsage,
    /// Too few certificates may stand below it.
    #[error(
        "has path length {found}, and {needed} is needed, since the issuer of this CA stands below it; have it signed with \
         pathlen:{needed} or more, or without pathlen"
    )]
    PathLength {
        /// What the certificate says.
        found: u32,
        /// What must stand below.
        needed: u32,
    },
    /// No subject key identifier.
    #[error("has no subject key identifier")]
    NoSubjectKeyId,
    /// The authority key identifier is absent or is not the signer's.
    #[error("has an authority key identifier that is not the subject key identifier of its signer")]
    AuthorityKeyId,
    /// Not valid yet.
    #[error("is valid from {0} only")]
    NotYetValid(Timestamp),
    /// Ends before the time that was asked for.
    #[error("ends at {ends}, before {needed} that was asked for")]
    EndsTooEarly {
        /// When it ends.
        ends: Timestamp,
        /// How long it must last.
        needed: Timestamp,
    },
    /// A signature algorithm that is not taken: SHA-1, MD5, PSS and whatever peers would refuse; by its name.
    #[error(
        "is signed with {0}, an algorithm that peers refuse; sign it with ECDSA on P-256 or P-384, Ed25519, or RSA \
         (PKCS #1 v1.5), and SHA-256 or SHA-384"
    )]
    SignatureAlgorithm(String),
    /// A key that is not taken: RSA below 2048 bits, odd curves.
    #[error("has an {key}, which is not taken: {problem}")]
    WeakKey {
        /// The key by the name that operators know.
        key: String,
        /// Why it is not taken.
        problem: trust::key::KeyError,
    },
    /// A critical extension that peers do not know.
    #[error("has the unknown critical extension {0}")]
    CriticalExtension(String),
    /// Name constraints on URIs, which common verifiers refuse altogether.
    #[error("has name constraints of type URI, which rustls and others refuse")]
    UriNameConstraints,
    /// A SPIFFE id of another trust domain.
    #[error("belongs to another trust domain: {0}")]
    OtherTrustDomain(String),
    /// Issuer name or signature do not fit the next certificate.
    #[error("is not signed by the next certificate of the chain")]
    NotSignedByNext,
    /// A self-signed certificate among the intermediates.
    #[error("is self-signed; the chain comes without its root")]
    RootInChain,
    /// A cross certificate with another name, key or key identifier than the root that it is for.
    #[error("has another {0} than the root that it is for, so no issuer of that stands below it")]
    NotOfRoot(&'static str),
    /// Ends after the time that was asked for.
    #[error("ends at {ends}, after {most} that was asked for")]
    EndsTooLate {
        /// When it ends.
        ends: Timestamp,
        /// How long it may last.
        most: Timestamp,
    },
    /// An extension that nobody asked for, and that may narrow what stands below.
    #[error("has the extension {0}, which nobody asked for; give it without")]
    ForeignExtension(String),
}

impl Unsafe {
    /// A stable word for conditions and metric labels, from a closed set.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "ANSWER_TOO_LARGE",
            Self::Malformed { .. } => "ANSWER_MALFORMED",
            Self::ChainLength { .. } => "CHAIN_LENGTH",
            Self::Certificate { fault, .. } => fault.reason(),
            Self::UnknownRoot => "ROOT_UNKNOWN",
            Self::OtherRoot { .. } => "ROOT_OTHER",
            Self::PrivateKeyMismatch => "PRIVATE_KEY_MISMATCH",
            Self::RetiredRoot(_) => "ROOT_RETIRED",
            Self::DuplicateRoot(_) => "ROOT_DUPLICATE",
            Self::SameKeyAndSubject { .. } => "ROOT_SAME_KEY_AND_SUBJECT",
            Self::AddedAndRemoved { .. } => "ROOTS_ADDED_AND_REMOVED",
            Self::NoRootsLeft => "ROOTS_GONE",
            Self::SigningNotAnnounced(_) => "SIGNING_ROOT_UNKNOWN",
            Self::TooManyFurther { .. } => "TOO_MANY_FURTHER_ROOTS",
            Self::TwinOfOurs { .. } => "FURTHER_ROOT_IS_A_TWIN",
            Self::Generation { .. } => "GENERATION_WRONG",
        }
    }
}

impl Fault {
    /// A stable word for conditions and metric labels, from a closed set.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "CERTIFICATE_MALFORMED",
            Self::NotARoot(_) => "NOT_A_ROOT",
            Self::WrongKey => "KEY_NOT_OF_CSR",
            Self::NotCa => "NOT_A_CA",
            Self::ConstraintsNotCritical => "CONSTRAINTS_NOT_CRITICAL",
            Self::NoCertSign => "NO_CERT_SIGN",
            Self::ExtendedKeyUsage => "EXTENDED_KEY_USAGE",
            Self::PathLength { .. } => "PATH_LENGTH",
            Self::NoSubjectKeyId => "NO_SUBJECT_KEY_ID",
            Self::AuthorityKeyId => "AUTHORITY_KEY_ID",
            Self::NotYetValid(_) => "NOT_YET_VALID",
            Self::EndsTooEarly { .. } => "ENDS_TOO_EARLY",
            Self::SignatureAlgorithm(_) => "SIGNATURE_ALGORITHM",
            Self::WeakKey { .. } => "KEY_WEAK",
            Self::CriticalExtension(_) => "CRITICAL_EXTENSION",
            Self::UriNameConstraints => "URI_NAME_CONSTRAINTS",
            Self::OtherTrustDomain(_) => "OTHER_TRUST_DOMAIN",
            Self::NotSignedByNext => "NOT_SIGNED_BY_NEXT",
            Self::RootInChain => "ROOT_IN_CHAIN",
            Self::NotOfRoot(_) => "NOT_OF_ROOT",
            Self::EndsTooLate { .. } => "ENDS_TOO_LATE",
            Self::ForeignExtension(_) => "FOREIGN_EXTENSION",
        }
    }

    pub(super) fn of(self, which: Which) -> Unsafe {
        Unsafe::Certificate { which, fault: self }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issuer => f.write_str("the issuer"),
            Self::Intermediate(place) => write!(f, "intermediate {place}"),
            Self::RootAt(place) => write!(f, "root number {}", place + 1),
            Self::Root(id) => write!(f, "root {}", id.short()),
            Self::Named(subject) => write!(f, "the certificate \"{subject}\""),
            Self::Cross => f.write_str("the cross certificate"),
        }
    }
}
