//! Handshakes as the Envoys of this machine count them, read from their admin endpoints.
//!
//! An admin endpoint is believed about numbers only, and what it answers is bounded in time and size. Start at [`AdminReader`].

mod get;
mod reader;
mod statistics;

pub(crate) use reader::AdminReader;
