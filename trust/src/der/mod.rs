//! Strict DER (X.690): a bounded reader for what untrusted clients send, a writer for what we sign.
//!
//! The [`Reader`] takes nothing that BER would and DER would not: lengths and integers are minimal, booleans are 00 or
//! FF, tags are one byte. It copies nothing, allocates nothing and recurses at most [`DEPTH_MAX`] deep, so its cost is
//! bounded by the length of its input. The [`Writer`] produces only what the reader takes. Neither knows what the
//! structures mean: that is for [`crate::csr`] and for whoever builds a certificate.

pub mod oid;
mod reader;
pub mod tag;
mod writer;

pub(crate) use reader::check_set_order;
pub use reader::{DEPTH_MAX, DerError, Element, Reader, walk};
pub use writer::{DerTime, Writer};
