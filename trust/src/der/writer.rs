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
            1950..=2049 => {
                Some(Self { tag: tag::UTC_TIME, text: format!("{:02}{rest}", year % 100) })
            }
            0..=9999 => Some(Self { tag: tag::GENERALIZED_TIME, text: format!("{year:04}{rest}") }),
            _ => None,
        }
    }
}

fn trailing_zeros(octet: u8) -> u8 {
    // 0..=8, which fits.
    u8::try_from(octet.trailing_zeros()).unwrap_or(8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::der::{Reader, oid, walk};

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new();
        write(&mut writer);
        writer.into_der()
    }

    #[test]
    fn values_are_written_as_x690_has_them() {
        assert_eq!(written(|w| w.boolean(true)), [1, 1, 0xff]);
        assert_eq!(written(|w| w.unsigned(&[])), [2, 1, 0]);
        assert_eq!(written(|w| w.unsigned(&[0, 0, 0])), [2, 1, 0]);
        assert_eq!(written(|w| w.unsigned(&[0, 0x7f])), [2, 1, 0x7f]);
        assert_eq!(written(|w| w.unsigned(&[0x80])), [2, 2, 0, 0x80]);
        assert_eq!(written(|w| w.oid(oid::ED25519)), [6, 3, 0x2b, 0x65, 0x70]);
        assert_eq!(written(|w| w.bit_string(&[1, 2])), [3, 3, 0, 1, 2]);
        assert_eq!(written(|w| w.named_bits(0)), [3, 1, 0]);
        assert_eq!(written(|w| w.named_bits(0b101)), [3, 2, 5, 0xa0]);
        assert_eq!(written(|w| w.named_bits(1 << 8)), [3, 3, 7, 0, 0x80]);
        assert_eq!(written(|w| w.context_primitive(6, b"a")), [0x86, 1, b'a']);
        assert_eq!(written(|w| w.context(0, |w| w.unsigned(&[2]))), [0xa0, 3, 2, 1, 2]);
        assert_eq!(written(|w| w.set(|w| w.utf8_string("a"))), [0x31, 3, 0x0c, 1, b'a']);
        assert_eq!(written(|w| w.octet_string_of(Writer::null)), [4, 2, 5, 0]);
    }

    #[test]
    fn lengths_grow_by_the_octets_they_need() {
        for (length, header) in [
            (127, &[4, 0x7f][..]),
            (128, &[4, 0x81, 0x80]),
            (256, &[4, 0x82, 1, 0]),
            (65_536, &[4, 0x83, 1, 0, 0]),
        ] {
            let der = written(|w| w.octet_string(&vec![7; length]));
            assert_eq!(der.len(), header.len() + length);
            assert!(der.starts_with(header) && der.ends_with(&[7]));
        }
    }

    #[test]
    fn times_change_form_where_rfc_5280_says() {
        for (secs, expected) in [
            (-631_152_001, Some((tag::GENERALIZED_TIME, "19491231235959Z"))),
            (-631_152_000, Some((tag::UTC_TIME, "500101000000Z"))),
            (0, Some((tag::UTC_TIME, "700101000000Z"))),
            (2_524_607_999, Some((tag::UTC_TIME, "491231235959Z"))),
            (2_524_608_000, Some((tag::GENERALIZED_TIME, "20500101000000Z"))),
            (Timestamp::MAX.as_secs(), Some((tag::GENERALIZED_TIME, "99991231235959Z"))),
            (Timestamp::MAX.as_secs() + 1, None),
            (-62_167_219_201, None),
        ] {
            let der =
                DerTime::new(Timestamp::from_secs(secs)).map(|time| written(|w| w.time(&time)));
            let expected =
                expected.map(|(tag, text)| written(|w| w.primitive(tag, text.as_bytes())));
            assert_eq!(der, expected, "{secs}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            magnitude in prop::collection::vec(any::<u8>(), 0..300),
            bits in any::<u16>(),
            octets in prop::collection::vec(any::<u8>(), 0..70_000),
        ) {
            let der = written(|w| {
                w.sequence(|w| {
                    w.unsigned(&magnitude);
                    w.named_bits(bits);
                    w.bit_string(&octets);
                });
            });
            walk(&mut Reader::new(&der)).unwrap();
            let mut outer = Reader::new(&der);
            let mut inner = outer.sequence().unwrap();
            outer.finish().unwrap();
            let zeros = magnitude.iter().take_while(|octet| **octet == 0).count();
            let expected = if zeros == magnitude.len() { &[0] } else { &magnitude[zeros..] };
            prop_assert_eq!(inner.unsigned().unwrap(), expected);
            prop_assert_eq!(inner.named_bits().unwrap(), bits);
            prop_assert_eq!(inner.octets_of_bit_string().unwrap(), octets.as_slice());
            inner.finish().unwrap();
        }
    }
}
