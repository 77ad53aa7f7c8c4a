//! Federation with other trust domains: their bundles as documents, and how the last good one of each is kept up.
//!
//! A bundle of another domain is about members of that domain and of no other: bundles are never merged, and none of them touches
//! the bundle, the gates or the leaves of this CA. What is here: [`document`] reads and writes SPIFFE bundle documents;
//! [`keeper`] reads endpoints when they are due, and tells what is served. What is stored is in the registry. Start at [`Keeper`].
#![forbid(unsafe_code)]

pub mod document;
mod endpoint;
mod jwk;
pub mod keeper;

pub use document::{Document, DocumentRefused};
pub use keeper::{Foreign, Keeper, REFRESH_HINT, Troubles};
