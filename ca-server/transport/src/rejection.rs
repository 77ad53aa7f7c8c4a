//! Why a request is rejected before its handler, and the bounds that it must keep.

use std::fmt;

use http::HeaderMap;
use tonic::Status;

use crate::peer::Peer;

/// Most bytes of metadata in a request: names and values, and 32 for each field as HTTP/2 counts them (RFC 9113 §6.5.2).
pub const METADATA_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of one message from a client.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

const FIELD_OVERHEAD: usize = 32;

/// Why a request did not reach its handler, or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// More than [`METADATA_BYTES_MAX`] of metadata.
    MetadataTooLarge,
    /// A message of more than [`MESSAGE_BYTES_MAX`].
    MessageTooLarge,
    /// A message that is not what the method takes.
    MessageMalformed,
    /// As many requests as the server takes at a time are under way.
    Overloaded,
    /// The answer was not ready in time.
    TimedOut,
}

/// Writes a refusal of the guard down and puts it into words for the client.
pub trait RejectionHandler: Send + Sync + fmt::Debug {
    /// The answer to a request that was turned away.
    fn rejected(&self, rejection: Rejection, peer: Option<&Peer>) -> Status;
}

/// Bytes of a request's metadata, as HTTP/2 counts them.
pub(crate) fn metadata_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum()
}
