//! Issuance: from an authorized request to a signed, verified and recorded leaf.
//!
//! One path, one file a step: [`profile`] decides how long the leaf lives, [`prepare`] builds its bytes from a fixed
//! template and lints them, the ledger makes its row durable, [`sign`] signs and verifies; [`issue`] holds the order.
//! What belongs together in one reply travels in one [`snapshot`].
//!
//! The order is kept by types: a [`prepare::Prepared`] can be used once, a signature needs the ledger's proof that the
//! row is durable, and an [`AuthorizedRequest`] keeps nothing of a CSR but its public key.
//!
//! Revocation lists are signed in [`crl`], with the issuers' own keys.
//!
//! Not here: who may have which identity (authorization), the network, the bundle's changes. Start at [`issue`].

pub mod crl;
pub mod cross;
pub mod issue;
pub mod leaf;
pub mod lint;
pub mod prepare;
pub mod profile;
pub mod request;
pub mod sign;
pub mod signer;
pub mod snapshot;
mod template;

#[cfg(test)]
extern crate self as issuance;
#[cfg(test)]
mod fixture;

pub use cross::{CrossCertificate, CrossError};
pub use issue::{IssueError, Issuer};
pub use leaf::IssuedLeaf;
pub use prepare::PrepareError;
pub use profile::{LeafProfile, LifetimeRefused, ProfileSettings};
pub use request::{AuthorizedRequest, Holder, IdentityReserved, ServingNames};
pub use sign::SignError;
pub use signer::{Signer, SignerError, SignerParts};
pub use snapshot::{CountedSnapshot, Snapshot, SnapshotCell};
