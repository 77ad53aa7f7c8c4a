//! What a CSR may ask for, and how much of it.

use std::net::IpAddr;

use crate::spiffe_id::SpiffeId;

/// Longest CSR in bytes, in either form.
pub const CSR_LEN_MAX: usize = 16 * 1024;
/// Most attributes of a CSR.
pub const ATTRIBUTES_MAX: usize = 8;
/// Most extensions that a CSR requests.
pub const EXTENSIONS_MAX: usize = 16;
/// Most names of one kind that a CSR requests.
pub const NAMES_MAX: usize = 64;

/// The names that a CSR asks for. They are requests: to be compared with the authenticated identity, never copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestedNames {
    /// The URI subject alternative name; a CSR with two is refused.
    pub spiffe_id: Option<SpiffeId>,
    /// DNS subject alternative names.
    pub dns: Vec<String>,
    /// IP address subject alternative names.
    pub ips: Vec<IpAddr>,
    /// E-mail addresses, from subject alternative names and the subject.
    pub emails: Vec<String>,
    /// The subject's common name.
    pub common_name: Option<String>,
}

impl RequestedNames {
    /// Whether no name is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
