//! The vocabulary of Banyan: names, keys, certificates, bundles and times, parsed once and true ever after.
//!
//! Bytes become types here and nowhere else: a [`SpiffeId`], [`Bundle`], [`csr::VerifiedCsr`] or [`Chain`] that exists
//! has passed its checks. The crate signs nothing and touches neither files, sockets nor the system's clock; time and
//! randomness come in through [`Clock`] and [`Randomness`]. Their fakes are there for tests, with the feature `testing`.
//!
//! Start at [`spiffe_id`], then [`bundle`] and [`chain`]; CSRs are in [`csr`].

pub mod bundle;
pub mod certificate;
pub mod chain;
mod clock_guard;
pub mod cohort;
pub mod cover;
pub mod csr;
pub mod der;
pub mod described;
pub mod digest;
pub mod join_token;
pub mod key;
#[cfg(any(test, feature = "testing"))]
mod manual_clock;
pub mod plain;
pub mod randomness;
pub mod renewal;
mod revocation_list;
pub mod root;
#[cfg(any(test, feature = "testing"))]
mod seeded_randomness;
pub mod sequence;
pub mod serial;
pub mod spiffe_id;
pub mod time;
pub mod transition;

pub use bundle::{Bundle, BundleError};
pub use certificate::{Certificate, CertificateError};
pub use chain::{Chain, ChainError, PeerRole};
pub use clock_guard::{Accepted, ClockGuard, ClockMark};
pub use cohort::{Cohort, CohortError};
pub use cover::Cover;
pub use digest::{BundleDigest, CertificateId, RootId, SpkiHash};
pub use key::{KeyKind, PublicKey, SignatureAlgorithm};
#[cfg(any(test, feature = "testing"))]
pub use manual_clock::ManualClock;
pub use randomness::Randomness;
pub use revocation_list::{RevocationList, RevocationListError};
pub use root::{Root, RootError};
#[cfg(any(test, feature = "testing"))]
pub use seeded_randomness::SeededRandomness;
pub use sequence::{Generation, Sequence};
pub use serial::Serial;
pub use spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
pub use time::{Agreed, Clock, ClockDiverged, Timestamp, Validity};
