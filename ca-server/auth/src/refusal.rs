//! Every way in which this server says no: one closed set, one table from reason to gRPC code.
//!
//! A client gets the code, a text, and `google.rpc.ErrorInfo` with a stable reason and the domain `banyan`; with a code
//! that asks to retry (`UNAVAILABLE`, `RESOURCE_EXHAUSTED`) also `google.rpc.RetryInfo`. Audit records and metric
//! labels use the same reasons. A permanent fault never has a code that clients answer with a retry at once.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use issuance::profile::LifetimeRefused;
use issuance::{IdentityReserved, IssueError, PrepareError, SignError};
use ledger::LedgerError;
use plugins::KeyError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use trust::csr::CsrError;

/// Domain of `ErrorInfo`.
pub const ERROR_DOMAIN: &str = "banyan";
/// Most bytes of a client's input that a text repeats.
pub const ECHO_LEN_MAX: usize = 256;
/// Most bytes of what is said to be wrong. What to do about it is this server's own words, and never cut.
const TEXT_LEN_MAX: usize = 1_024;

/// One refusal: what a client is told, and what audit and metrics say of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", reason.as_str())]
pub struct Refusal {
    reason: Reason,
    /// What is wrong.
    text: String,
    /// What to do about it.
    advice: Option<String>,
    retry_after: Option<Duration>,
    /// Further values for programs.
    metadata: BTreeMap<&'static str, String>,
}

impl Refusal {
    /// Refuses with a text that tells the client what is wrong. The text is escaped, and cut where it is too long, never
    /// inside a command.
    pub fn new(reason: Reason, text: impl AsRef<str>) -> Self {
        let retry_after = reason.retry_after();
        let text = whole_commands(escaped(text.as_ref(), TEXT_LEN_MAX));
        Self { reason, text, advice: None, retry_after, metadata: BTreeMap::new() }
    }

    /// With what can be done instead: `ErrorInfo` has it as `advice`, and its commands, one a line, as `commands`. Both are
    /// this server's own words, so that nothing is escaped or cut.
    #[must_use]
    pub fn advising(mut self, advice: String, commands: &[String]) -> Self {
        self.advice = Some(advice).filter(|advice| !advice.is_empty());
        self.metadata.insert("commands", commands.join("\n"));
        self
    }

    /// Refuses with what is wrong, and with what to do about it, which `ErrorInfo` has as `advice`.
    pub fn advised(reason: Reason, what: impl std::fmt::Display, advice: &str) -> Self {
        Self { advice: Some(advice.to_owned()), ..Self::new(reason, what.to_string()) }
    }

    /// The same, with a value for programs in the metadata of `ErrorInfo`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        self.metadata.insert(name, escaped(value.as_ref(), TEXT_LEN_MAX));
        self
    }

    /// The reason.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// What is wrong.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What to do about it, if that is told apart from what is wrong.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// All of it in one text, for who reads that alone: `"{text}; {advice}"`.
    pub fn message(&self) -> String {
        match &self.advice {
            Some(advice) => format!("{}; {advice}", self.text),
            None => self.text.clone(),
        }
    }

    /// After how long the client should retry, if that can help.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// A client's input for a text: control characters escaped, at most [`ECHO_LEN_MAX`] bytes.
pub fn echoed(input: &str) -> String {
    escaped(input, ECHO_LEN_MAX)
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $code:ident, $retry:expr;)+) => {
        /// Why a request was refused. Names are stable: clients, alarms and dashboards rely on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// Every reason: the closed set of metric labels.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The reason as `ErrorInfo.reason`, audit field and metric label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The gRPC code that goes with it.
            pub const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code,)+ }
            }

            /// Seconds that a client is asked to wait, for codes that ask to retry.
            const fn retry_after_secs(self) -> Option<u64> {
                match self { $(Self::$variant => $retry,)+ }
            }
        }
    };
}

reasons! {
    /// The CSR is larger than 16 KiB.
    CsrTooLarge = "CSR_TOO_LARGE", InvalidArgument, None;
    /// A private key came with the CSR.
    CsrPrivateKeyInside = "CSR_PRIVATE_KEY_INSIDE", InvalidArgument, None;
    /// The CSR is not one PEM block, or not strict DER.
    CsrEncodingInvalid = "CSR_ENCODING_INVALID", InvalidArgument, None;
    /// The CSR's key has malformed parameters or a point off its curve.
    CsrKeyInvalid = "CSR_KEY_INVALID", InvalidArgument, None;
    /// The CSR's key is too weak.
    CsrKeyWeak = "CSR_KEY_WEAK", InvalidArgument, None;
    /// The CSR's key is of a kind that is not issued.
    CsrKeyUnsupported = "CSR_KEY_UNSUPPORTED", InvalidArgument, None;
    /// The CSR is signed with SHA-1 or MD5.
    CsrAlgorithmWeak = "CSR_ALGORITHM_WEAK", InvalidArgument, None;
    /// The CSR's signature algorithm does not fit its key.
    CsrAlgorithmMismatch = "CSR_ALGORITHM_MISMATCH", InvalidArgument, None;
    /// The CSR's signature algorithm is not taken.
    CsrAlgorithmUnsupported = "CSR_ALGORITHM_UNSUPPORTED", InvalidArgument, None;
    /// The CSR's signature does not verify.
    CsrSignatureInvalid = "CSR_SIGNATURE_INVALID", InvalidArgument, None;
    /// The CSR has an attribute that is not taken.
    CsrAttributeRefused = "CSR_ATTRIBUTE_REFUSED", InvalidArgument, None;
    /// The CSR requests an extension that is not taken.
    CsrExtensionRefused = "CSR_EXTENSION_REFUSED", InvalidArgument, None;
    /// A name in the CSR is malformed.
    CsrNameInvalid = "CSR_NAME_INVALID", InvalidArgument, None;
    /// The CSR names another identity than the caller may have.
    CsrIdentityMismatch = "CSR_IDENTITY_MISMATCH", PermissionDenied, None;
    /// The CSR names an identity of another trust domain.
    CsrTrustDomainForeign = "CSR_TRUST_DOMAIN_FOREIGN", PermissionDenied, None;
    /// The CSR is for a key of this CA, present or retired.
    KeyOfCa = "KEY_OF_CA", PermissionDenied, None;
    /// An operator banned the key.
    KeyBlocked = "KEY_BLOCKED", PermissionDenied, None;
    /// The request has no credential.
    CredentialMissing = "CREDENTIAL_MISSING", Unauthenticated, None;
    /// The request's credentials name different identities.
    CredentialsDisagree = "CREDENTIALS_DISAGREE", PermissionDenied, None;
    /// The credential is good, but not for this call.
    CallerNotAllowed = "CALLER_NOT_ALLOWED", PermissionDenied, None;
    /// The authorization header does not begin with `Bearer `, or there are two.
    TokenSchemeUnsupported = "TOKEN_SCHEME_UNSUPPORTED", Unauthenticated, None;
    /// The token is larger than 16 KiB.
    TokenTooLarge = "TOKEN_TOO_LARGE", Unauthenticated, None;
    /// The token is not a JWT in compact form with plain JSON inside.
    TokenMalformed = "TOKEN_MALFORMED", Unauthenticated, None;
    /// The token's algorithm is not taken, such as `none` and `HS256`.
    TokenAlgorithmRefused = "TOKEN_ALGORITHM_REFUSED", Unauthenticated, None;
    /// The token's header brings its own key, or demands an extension.
    TokenHeaderRefused = "TOKEN_HEADER_REFUSED", Unauthenticated, None;
    /// The token's issuer is not configured.
    TokenIssuerUnknown = "TOKEN_ISSUER_UNKNOWN", Unauthenticated, None;
    /// No key of the issuer fits the token.
    TokenKeyUnknown = "TOKEN_KEY_UNKNOWN", Unauthenticated, None;
    /// The token's signature does not verify.
    TokenSignatureInvalid = "TOKEN_SIGNATURE_INVALID", Unauthenticated, None;
    /// The token has no expiry.
    TokenExpiryMissing = "TOKEN_EXPIRY_MISSING", Unauthenticated, None;
    /// The token has neither a time of issue nor a first time of use.
    TokenIssueTimeMissing = "TOKEN_ISSUE_TIME_MISSING", Unauthenticated, None;
    /// The token has expired.
    TokenExpired = "TOKEN_EXPIRED", Unauthenticated, None;
    /// The token is not valid yet.
    TokenNotYetValid = "TOKEN_NOT_YET_VALID", Unauthenticated, None;
    /// The token lives longer than the configuration allows.
    TokenLifeTooLong = "TOKEN_LIFE_TOO_LONG", Unauthenticated, None;
    /// The token is for another audience.
    TokenAudienceMismatch = "TOKEN_AUDIENCE_MISMATCH", Unauthenticated, None;
    /// The token's subject or claims make no identity.
    TokenSubjectInvalid = "TOKEN_SUBJECT_INVALID", Unauthenticated, None;
    /// The client names no cluster that is configured, or does not say which of several.
    TokenClusterUnknown = "TOKEN_CLUSTER_UNKNOWN", Unauthenticated, None;
    /// The token is of another cluster than the one that the client names.
    TokenClusterMismatch = "TOKEN_CLUSTER_MISMATCH", Unauthenticated, None;
    /// The token's cluster does not believe it.
    TokenReviewRefused = "TOKEN_REVIEW_REFUSED", Unauthenticated, None;
    /// The token's cluster cannot be asked now.
    ClusterUnavailable = "CLUSTER_UNAVAILABLE", Unavailable, Some(2);
    /// Which pods run where is not known now.
    PodsNotSynced = "PODS_NOT_SYNCED", Unavailable, Some(2);
    /// The issuer's key set could not be read yet.
    KeySetUnavailable = "KEY_SET_UNAVAILABLE", Unavailable, Some(10);
    /// The join token is malformed or unknown.
    JoinTokenInvalid = "JOIN_TOKEN_INVALID", Unauthenticated, None;
    /// The join token has expired.
    JoinTokenExpired = "JOIN_TOKEN_EXPIRED", Unauthenticated, None;
    /// The join token was used before, with another key or too long ago.
    JoinTokenUsed = "JOIN_TOKEN_USED", PermissionDenied, None;
    /// The join token was taken back.
    JoinTokenRevoked = "JOIN_TOKEN_REVOKED", PermissionDenied, None;
    /// No join token of this id is known.
    JoinTokenUnknown = "JOIN_TOKEN_UNKNOWN", NotFound, None;
    /// The registry of agents and tokens could not be read.
    RegistryUnavailable = "REGISTRY_UNAVAILABLE", FailedPrecondition, None;
    /// The client certificate, or its chain, is malformed.
    CertificateMalformed = "CERTIFICATE_MALFORMED", Unauthenticated, None;
    /// The client's chain has more than 8 certificates.
    CertificateChainTooLong = "CERTIFICATE_CHAIN_TOO_LONG", Unauthenticated, None;
    /// A CA certificate was presented as a client's.
    CertificateCaAsLeaf = "CERTIFICATE_CA_AS_LEAF", Unauthenticated, None;
    /// The client's chain has expired or is not valid yet.
    CertificateExpired = "CERTIFICATE_EXPIRED", Unauthenticated, None;
    /// The client's chain ends in no root of the bundle.
    CertificateUntrusted = "CERTIFICATE_UNTRUSTED", Unauthenticated, None;
    /// The client certificate has no SPIFFE id, or two URI names.
    CertificateIdentityInvalid = "CERTIFICATE_IDENTITY_INVALID", Unauthenticated, None;
    /// The client certificate is of another trust domain.
    CertificateTrustDomainForeign = "CERTIFICATE_TRUST_DOMAIN_FOREIGN", Unauthenticated, None;
    /// The ledger has no matching live row for the client certificate.
    CertificateNotIssued = "CERTIFICATE_NOT_ISSUED", Unauthenticated, None;
    /// The client certificate was given up.
    CertificateReleased = "CERTIFICATE_RELEASED", Unauthenticated, None;
    /// An operator took the client certificate for gone. It was shown, so its row counts again: it may be shown again.
    CertificateForgotten = "CERTIFICATE_FORGOTTEN", Unauthenticated, None;
    /// The server that issued the client certificate does not say whether it did, and a root that is distrusted vouches for
    /// nothing.
    CertificateUnconfirmed = "CERTIFICATE_UNCONFIRMED", Unavailable, Some(2);
    /// The request asks for another's identity.
    ImpersonationRefused = "IMPERSONATION_REFUSED", PermissionDenied, None;
    /// The agent is not entitled to the identity.
    IdentityNotEntitled = "IDENTITY_NOT_ENTITLED", PermissionDenied, None;
    /// The identity is reserved for the CA and its agents.
    IdentityReserved = "IDENTITY_RESERVED", PermissionDenied, None;
    /// An operator banned the identity.
    IdentityBanned = "IDENTITY_BANNED", PermissionDenied, None;
    /// The agent is not registered, or with another key.
    AgentUnknown = "AGENT_UNKNOWN", PermissionDenied, None;
    /// The agent is banned.
    AgentBanned = "AGENT_BANNED", PermissionDenied, None;
    /// No agent of this name is registered, or the name is not banned, so nothing can be done about it.
    AgentNotRegistered = "AGENT_NOT_REGISTERED", NotFound, None;
    /// There is no such ban.
    BanUnknown = "BAN_UNKNOWN", NotFound, None;
    /// The caller, or all callers together, have as many agents as they may.
    RegistrationsExhausted = "REGISTRATIONS_EXHAUSTED", ResourceExhausted, Some(60);
    /// An operator revoked the client certificate.
    CertificateRevoked = "CERTIFICATE_REVOKED", Unauthenticated, None;
    /// No such leaf is alive, so nothing can be done about it.
    LeafUnknown = "LEAF_UNKNOWN", NotFound, None;
    /// The leaf is in use as far as this server knows.
    LeafHeld = "LEAF_HELD", FailedPrecondition, None;
    /// A field of the request is malformed.
    RequestInvalid = "REQUEST_INVALID", InvalidArgument, None;
    /// The requested lifetime is below the minimum.
    TtlBelowMinimum = "TTL_BELOW_MINIMUM", InvalidArgument, None;
    /// The requested lifetime is above the maximum.
    TtlAboveMaximum = "TTL_ABOVE_MAXIMUM", InvalidArgument, None;
    /// The issuer's chain ends too soon for the shortest leaf.
    SignerEnding = "SIGNER_ENDING", FailedPrecondition, None;
    /// The issuer's chain is not valid yet by the server's clock.
    SignerNotYetValid = "SIGNER_NOT_YET_VALID", FailedPrecondition, None;
    /// The server's wall clock went another way than its uptime: nobody knows what time it is.
    ClockDiverged = "CLOCK_DIVERGED", Unavailable, Some(5);
    /// The durable horizon has not been raised yet.
    HorizonBehind = "HORIZON_BEHIND", Unavailable, Some(1);
    /// The server has not reached its store for so long that another may take it for dead.
    LeaseLapsed = "LEASE_LAPSED", Unavailable, Some(1);
    /// The ledger's disk is full or its segment stopped.
    LedgerStopped = "LEDGER_STOPPED", FailedPrecondition, None;
    /// One write of the ledger failed and was taken back.
    LedgerWriteFailed = "LEDGER_WRITE_FAILED", Unavailable, Some(2);
    /// More leaves are asked for than the key backend signs.
    KeyBackendBusy = "KEY_BACKEND_BUSY", ResourceExhausted, Some(1);
    /// The key backend is away.
    KeyBackendUnavailable = "KEY_BACKEND_UNAVAILABLE", Unavailable, Some(5);
    /// The key backend refuses, or its key or issuer is wrong; an operator must act.
    KeyBackendRefused = "KEY_BACKEND_REFUSED", FailedPrecondition, None;
    /// The server has no root yet, or starts or stops.
    NotReady = "NOT_READY", Unavailable, Some(1);
    /// The identity or the agent has as many live leaves as it may.
    RowsExhausted = "ROWS_EXHAUSTED", ResourceExhausted, Some(60);
    /// The identity asks for leaves faster than it may.
    IdentityTooFast = "IDENTITY_TOO_FAST", ResourceExhausted, Some(1);
    /// Too many requests at once.
    Overloaded = "OVERLOADED", ResourceExhausted, Some(1);
    /// The CA's state was restored from a backup, and members hold a bundle that it never published.
    StateBehind = "STATE_BEHIND", Unavailable, Some(10);
    /// The agent has not stored the bundle in force yet.
    BundleNotStored = "BUNDLE_NOT_STORED", Aborted, None;
    /// The agent has other roots than this server under the sequence that it has stored.
    BundleDiffers = "BUNDLE_DIFFERS", FailedPrecondition, None;
    /// The bundle asked for is not known here.
    BundleUnknown = "BUNDLE_UNKNOWN", FailedPrecondition, None;
    /// The rotation machine refuses this in its present state.
    RotationRefused = "ROTATION_REFUSED", FailedPrecondition, None;
    /// The record could not be written or read: nothing changed.
    RecordUnavailable = "RECORD_UNAVAILABLE", Unavailable, Some(2);
    /// Whether the record was written is unknown: the store does not say.
    RecordUnknown = "RECORD_UNKNOWN", Unavailable, Some(2);
    /// There is no relying party of this name.
    RelyingPartyUnknown = "RELYING_PARTY_UNKNOWN", NotFound, None;
    /// There is no waiver of this name.
    WaiverUnknown = "WAIVER_UNKNOWN", NotFound, None;
    /// There is no federation with this trust domain.
    FederationUnknown = "FEDERATION_UNKNOWN", NotFound, None;
    /// Somebody else keeps the federation with this trust domain.
    FederationOwned = "FEDERATION_OWNED", FailedPrecondition, None;
    /// The bundle of another trust domain is not taken.
    ForeignBundleRefused = "FOREIGN_BUNDLE_REFUSED", InvalidArgument, None;
    /// The bearer token is of no downstream CA.
    DownstreamTokenInvalid = "DOWNSTREAM_TOKEN_INVALID", Unauthenticated, None;
    /// There is no downstream CA of this name.
    DownstreamUnknown = "DOWNSTREAM_UNKNOWN", NotFound, None;
    /// A downstream CA may not begin while a rotation is under way.
    DownstreamWaits = "DOWNSTREAM_WAITS", ResourceExhausted, Some(2);
    /// No issuer is signed for this request.
    IssuerRefused = "ISSUER_REFUSED", FailedPrecondition, None;
    /// What stands above the issuer ends before the issuer would.
    IssuerOutlives = "ISSUER_OUTLIVES", FailedPrecondition, None;
    /// The root authority does not answer.
    AuthorityUnavailable = "AUTHORITY_UNAVAILABLE", Unavailable, Some(5);
    /// A defect of this server.
    InternalDefect = "INTERNAL_DEFECT", Internal, None;
}

impl Reason {
    /// The reason with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == name)
    }

    fn retry_after(self) -> Option<Duration> {
        self.retry_after_secs().map(Duration::from_secs)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.message();
        let advice = refusal.advice.map(|advice| ("advice", advice));
        let metadata = refusal.metadata.into_iter().chain(advice);
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value));
        let mut details = ErrorDetails::with_error_info(
            refusal.reason.as_str(),
            ERROR_DOMAIN,
            metadata.collect::<HashMap<_, _>>(),
        );
        if let Some(delay) = refusal.retry_after {
            details.set_retry_info(Some(delay));
        }
        Self::with_error_details(refusal.reason.code(), message, details)
    }
}

impl From<CsrError> for Refusal {
    fn from(error: CsrError) -> Self {
        let reason = Reason::from_name(error.reason()).unwrap_or(Reason::CsrEncodingInvalid);
        Self::new(reason, error.to_string())
    }
}

impl From<IdentityReserved> for Refusal {
    fn from(error: IdentityReserved) -> Self {
        Self::new(Reason::IdentityReserved, error.to_string())
    }
}

impl From<IssueError> for Refusal {
    fn from(error: IssueError) -> Self {
        if let IssueError::Sign(SignError::Key(KeyError::Busy { retry_after })) = &error {
            let text = format!(
                "more leaves are requested than the server's key can sign; retry in {} s",
                retry_after.as_secs().max(1)
            );
            return Self {
                retry_after: Some(*retry_after),
                ..Self::new(Reason::KeyBackendBusy, text)
            };
        }
        let reason = match &error {
            IssueError::Clock(_) => Reason::ClockDiverged,
            IssueError::Prepare(PrepareError::Lifetime(refused)) => lifetime_reason(refused),
            IssueError::Prepare(PrepareError::OtherTrustDomain) => Reason::IdentityNotEntitled,
            IssueError::Prepare(PrepareError::Date) => Reason::SignerNotYetValid,
            IssueError::Prepare(PrepareError::Lint(_))
            | IssueError::Sign(SignError::IntentMismatch) => Reason::InternalDefect,
            IssueError::Ledger(error) => ledger_reason(error),
            IssueError::Sign(SignError::Key(
                KeyError::Transient { .. } | KeyError::BackendDown { .. },
            )) => Reason::KeyBackendUnavailable,
            IssueError::Sign(SignError::Key(_) | SignError::OwnSignature | SignError::Peer(_)) => {
                Reason::KeyBackendRefused
            }
        };
        if let IssueError::Ledger(LedgerError::TooMany { holder, limit, setting }) = &error {
            let text = format!(
                "{holder} has {limit} live leaves, the maximum; wait until some end, or have the operator raise \
                 limits.{setting}"
            );
            return Self::new(reason, text);
        }
        // What concerns the operator stays in the server's log.
        match reason {
            Reason::ClockDiverged => clock_diverged(),
            Reason::LedgerStopped | Reason::LedgerWriteFailed => {
                Self::new(reason, "the server could not record the leaf; its log says why")
            }
            Reason::KeyBackendRefused | Reason::KeyBackendUnavailable => {
                Self::new(reason, "the server's issuer could not sign; its log says why")
            }
            _ => Self::new(reason, error.to_string()),
        }
    }
}

/// What callers are told while nobody knows what time it is.
pub fn clock_diverged() -> Refusal {
    Refusal::new(
        Reason::ClockDiverged,
        "the server's clock was changed and is not trusted yet; retry in 5 s",
    )
}

const fn lifetime_reason(refused: &LifetimeRefused) -> Reason {
    match refused {
        LifetimeRefused::BelowMinimum { .. } => Reason::TtlBelowMinimum,
        LifetimeRefused::AboveMaximum { .. } => Reason::TtlAboveMaximum,
        LifetimeRefused::SignerEnding { .. } => Reason::SignerEnding,
        LifetimeRefused::SignerNotYetValid { .. } => Reason::SignerNotYetValid,
        LifetimeRefused::HorizonBehind { .. } => Reason::HorizonBehind,
    }
}

const fn ledger_reason(error: &LedgerError) -> Reason {
    match error {
        LedgerError::WriteFailed { .. } => Reason::LedgerWriteFailed,
        LedgerError::Clock(_) => Reason::ClockDiverged,
        LedgerError::TooMany { .. } => Reason::RowsExhausted,
        LedgerError::DuplicateSerial(_) | LedgerError::TooLong { .. } => Reason::InternalDefect,
        LedgerError::Full { .. }
        | LedgerError::Poisoned { .. }
        | LedgerError::Closed
        | LedgerError::Damaged(_) => Reason::LedgerStopped,
    }
}

/// Drops what is left of a command that was cut off.
fn whole_commands(mut text: String) -> String {
    if text.matches('`').count() % 2 == 1
        && let Some(begin) = text.rfind('`')
    {
        text.truncate(begin);
        text.push('…');
    }
    text
}

fn escaped(text: &str, len_max: usize) -> String {
    let mut out = String::new();
    for character in text.chars() {
        let piece: String = match character {
            ' ' | '"' | '\'' => character.into(),
            _ => character.escape_debug().collect(),
        };
        if out.len() + piece.len() > len_max {
            break;
        }
        out.push_str(&piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_codes_that_ask_to_come_again_say_when() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let again = matches!(reason.code(), Code::Unavailable | Code::ResourceExhausted);
            assert_eq!(reason.retry_after().is_some(), again, "{reason:?}");
            assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
        }
        let internal = Reason::ALL.iter().filter(|reason| reason.code() == Code::Internal);
        assert_eq!(internal.collect::<Vec<_>>(), [&Reason::InternalDefect]);
    }

    #[test]
    fn every_reason_of_the_csr_reader_is_in_the_table_as_invalid_argument() {
        for name in CsrError::REASONS {
            assert_eq!(
                Reason::from_name(name).map(Reason::code),
                Some(Code::InvalidArgument),
                "{name}"
            );
        }
    }

    #[test]
    fn a_status_carries_reason_domain_and_retry() {
        let status = Status::from(Refusal::new(Reason::HorizonBehind, "retry"));
        assert_eq!(status.code(), Code::Unavailable);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("HORIZON_BEHIND", ERROR_DOMAIN));
        let retry = status.get_details_retry_info().unwrap();
        assert_eq!(retry.retry_delay, Some(Duration::from_secs(1)));
        let denied = Status::from(Refusal::new(Reason::KeyBlocked, "blocked"));
        assert!(denied.get_details_retry_info().is_none());
    }

    #[test]
    fn a_busy_key_backend_is_resource_exhausted_with_its_own_wait() {
        let retry_after = Duration::from_millis(2_500);
        let busy = IssueError::Sign(SignError::Key(KeyError::Busy { retry_after }));
        let status = Status::from(Refusal::from(busy));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_details_error_info().unwrap().reason, "KEY_BACKEND_BUSY");
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(retry_after));
    }

    #[test]
    fn no_refusal_ends_inside_a_command_and_none_says_its_advice_twice() {
        let advice = "open it with `banyan relying-party confirm NAME`, or give it up with `banyan rotate abort`";
        for length in 0..2_000 {
            let what = format!("{} `banyan rotate explain` says more", "x".repeat(length));
            let refusal = Refusal::advised(Reason::RotationRefused, &what, advice);
            assert!(refusal.text().len() <= TEXT_LEN_MAX + 3);
            assert_eq!(refusal.text().matches('`').count() % 2, 0, "{}", refusal.text());
            assert_eq!(refusal.advice(), Some(advice));
            let status = Status::from(refusal);
            let told = status.message().strip_suffix(&format!("; {advice}")).unwrap();
            assert!(!told.contains("abort"), "{told}");
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.metadata["advice"], advice);
        }
    }

    #[test]
    fn input_is_echoed_short_and_without_control_characters() {
        let hostile = format!("a\0b\r\n\u{1b}[31m\u{202e}{}", "x".repeat(10_000));
        let echo = echoed(&hostile);
        assert!(echo.len() <= ECHO_LEN_MAX);
        assert!(echo.starts_with("a\\0b\\r\\n"));
        assert!(!echo.chars().any(char::is_control));
        assert!(!echo.contains('\u{202e}'));
        assert!(Refusal::new(Reason::RequestInvalid, hostile).text().len() <= TEXT_LEN_MAX);
    }
}
