//! The version of the protocol.

/// Version of the protocol that is spoken here.
pub const PROTOCOL_VERSION: u32 = 1;
