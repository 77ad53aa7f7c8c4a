//! Strict DER (X.690): a bounded reader for what strangers send, a writer for what we sign.
//!
//! The [`Reader`] takes nothing that BER would and DER would not: lengths and integers are minimal, booleans are 00 or
//! FF, tags are one byte. It copies nothing, allocates nothing and recurses at most [`DEPTH_MAX`] deep, so its cost is
//! bounded by the length of its input. The [`Writer`] produces only what the reader takes. Neither knows what the
//! structures mean: that is for [`crate::csr`] and for whoever builds a certificate.

pub mod oid;
mod reader;
mod writer;

pub(crate) use reader::check_set_order;
pub use reader::{DEPTH_MAX, DerError, Element, Reader, walk};
pub use writer::{DerTime, Writer};

/// Identifier octets of the types used here, class and constructed bit included.
pub mod tag {
    /// `BOOLEAN`.
    pub const BOOLEAN: u8 = 0x01;
    /// `INTEGER`.
    pub const INTEGER: u8 = 0x02;
    /// `BIT STRING`.
    pub const BIT_STRING: u8 = 0x03;
    /// `OCTET STRING`.
    pub const OCTET_STRING: u8 = 0x04;
    /// `NULL`.
    pub const NULL: u8 = 0x05;
    /// `OBJECT IDENTIFIER`.
    pub const OID: u8 = 0x06;
    /// `UTF8String`.
    pub const UTF8_STRING: u8 = 0x0c;
    /// `PrintableString`.
    pub const PRINTABLE_STRING: u8 = 0x13;
    /// `IA5String`.
    pub const IA5_STRING: u8 = 0x16;
    /// `UTCTime`.
    pub const UTC_TIME: u8 = 0x17;
    /// `GeneralizedTime`.
    pub const GENERALIZED_TIME: u8 = 0x18;
    /// `SEQUENCE` and `SEQUENCE OF`.
    pub const SEQUENCE: u8 = 0x30;
    /// `SET` and `SET OF`.
    pub const SET: u8 = 0x31;

    /// Context-specific tag `number` (0..=30) of a constructed value, such as `[0] EXPLICIT`.
    pub const fn context(number: u8) -> u8 {
        0xa0 | (number & 0x1f)
    }

    /// Context-specific tag `number` (0..=30) of a primitive value, such as `[6] IMPLICIT IA5String`.
    pub const fn context_primitive(number: u8) -> u8 {
        0x80 | (number & 0x1f)
    }
}
