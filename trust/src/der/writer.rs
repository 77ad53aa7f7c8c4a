//! The writer.

use super::tag;
use crate::time::{Civil, Timestamp};

/// Writes DER values one after another into a buffer.
///
/// Constructed values are written by a closure that gets the same writer; their length is put in afterwards.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// Starts empty.
    pub const fn new() -> Self {
        Self { out: Vec::new() }
    }

    /// Starts empty, with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity) }
    }

    /// What has been written.
    pub fn into_der(self) -> Vec<u8> {
        self.out
    }

    /// Copies DER that stands already, such as an issuer's name.
    pub fn raw(&mut self, der: &[u8]) {
        self.out.extend_from_slice(der);
    }

    /// Writes a primitive value: identifier octet `tag`, length, `content`.
    pub fn primitive(&mut self, tag: u8, content: &[u8]) {
        self.nested(tag, |writer| writer.raw(content));
    }

    /// Writes a value whose content is what `content` writes.
    pub fn nested(&mut self, tag: u8, content: impl FnOnce(&mut Self)) {
        self.out.push(tag);
        // One octet is kept for the length, which is enough for most values; longer ones are moved once.
        let length_at = self.out.len();
        self.out.push(0);
        let start = self.out.len();
        content(self);
        let length = self.out.len() - start;
        if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
            if let Some(octet) = self.out.get_mut(length_at) {
                *octet = short;
            }
            return;
        }
        let octets = length.to_be_bytes();
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        let count = octets.len() - zeros;
        // At most 8 octets of a usize: fits the seven bits.
        let form = 0x80 | u8::try_from(count).unwrap_or(0x7f);
        let long = std::iter::once(form).chain(octets.into_iter().skip(zeros));
        self.out.splice(length_at..start, long);
    }

    /// Writes a `SEQUENCE` of what `content` writes.
    pub fn sequence(&mut self, content: impl FnOnce(&mut Self)) {
        self.nested(tag::SEQUENCE, content);
    }

    /// Writes a `SET` of what `content` writes; the caller keeps several members in ascending order of their DER.
    pub fn set(&mut self, content: impl FnOnce(&mut Self)) {
        self.nested(tag::SET, content);
    }

    /// Writes a constructed value with the context-specific tag `number`, such as `[0] EXPLICIT`.
    pub fn context(&mut self, number: u8, content: impl FnOnce(&mut Self)) {
        self.nested(tag::context(number), content);
    }

    /// Writes a primitive value with the context-specific tag `number`, such as `[6] IMPLICIT IA5String`.
    pub fn context_primitive(&mut self, number: u8, content: &[u8]) {
        self.primitive(tag::context_primitive(number), content);
    }

    /// Writes a `BOOLEAN`.
    pub fn boolean(&mut self, value: bool) {
        self.primitive(tag::BOOLEAN, &[if value { 0xff } else { 0x00 }]);
    }

    /// Writes an `INTEGER` that is not negative, from its big-endian magnitude; leading zeros are dropped, one is put
    /// in front of a set top bit.
    pub fn unsigned(&mut self, magnitude: &[u8]) {
        let zeros = magnitude.iter().take_while(|octet| **octet == 0).count();
        let minimal = magnitude.get(zeros..).unwrap_or_default();
        self.nested(tag::INTEGER, |writer| {
            if minimal.first().is_none_or(|first| first & 0x80 != 0) {
                writer.out.push(0);
            }
            writer.raw(minimal);
        });
    }

    /// Writes an `OBJECT IDENTIFIER` from its content octets, as in [`super::oid`].
    pub fn oid(&mut self, content: &[u8]) {
        self.primitive(tag::OID, content);
    }

    /// Writes a `NULL`.
    pub fn null(&mut self) {
        self.primitive(tag::NULL, &[]);
    }

    /// Writes a `BIT STRING` of whole octets.
    pub fn bit_string(&mut self, octets: &[u8]) {
        self.nested(tag::BIT_STRING, |writer| {
            writer.out.push(0);
            writer.raw(octets);
        });
    }

    /// Writes a `BIT STRING` of named bits; bit `n` of `bits` is named bit `n`, as [`super::Reader::named_bits`] has it.
    pub fn named_bits(&mut self, bits: u16) {
        let [low, high] = bits.to_le_bytes().map(u8::reverse_bits);
        match (low, high) {
            (0, 0) => self.primitive(tag::BIT_STRING, &[0]),
            (low, 0) => self.primitive(tag::BIT_STRING, &[trailing_zeros(low), low]),
            (low, high) => self.primitive(tag::BIT_STRING, &[trailing_zeros(high), low, high]),
        }
    }

    /// Writes an `OCTET STRING`.
    pub fn octet_string(&mut self, octets: &[u8]) {
        self.primitive(tag::OCTET_STRING, octets);
    }

    /// Writes an `OCTET STRING` that holds the DER which `content` writes, as extensions do.
    pub fn octet_string_of(&mut self, content: impl FnOnce(&mut Self)) {
        self.nested(tag::OCTET_STRING, content);
    }

    /// Writes a `UTF8String`.
    pub fn utf8_string(&mut self, text: &str) {
        self.primitive(tag::UTF8_STRING, text.as_bytes());
    }

    /// Writes a time as `UTCTime` or `GeneralizedTime`, whichever its year demands.
    pub fn time(&mut self, time: &DerTime) {
        self.primitive(time.tag, time.text.as_bytes());
    }
}

/// A time in the form that certificates demand (RFC 5280 §4.1.2.5): `UTCTime` for 1950 to 2049, else
/// `GeneralizedTime`; whole seconds, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerTime {
    tag: u8,
    text: String,
}

impl DerTime {
    /// Takes a time of the years 0 to 9999; others cannot be written and give `None`.
    pub fn new(time: Timestamp) -> Option<Self> {
        let Civil { year, month, day, hour, minute, second } = time.civil();
        let rest = format_args!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z").to_string();
        match year {
            1950..=2049 => Some(Self { tag: tag::UTC_TIME, text: format!("{:02}{rest}", year % 100) }),
            0..=9999 => Some(Self { tag: tag::GENERALIZED_TIME, text: format!("{year:04}{rest}") }),
            _ => None,
        }
    }
}

fn trailing_zeros(octet: u8) -> u8 {
    // 0..=8, which fits.
    u8::try_from(octet.trailing_zeros()).unwrap_or(8)
}
