//! Serial numbers of certificates that Banyan issues.

use std::fmt;

use crate::randomness::{Randomness, random_bytes};

/// A 128-bit random positive serial number (RFC 5280 §4.1.2.2 allows 160 bits and asks for positive).
///
/// The first byte is 0x40..=0x7f: positive in DER without padding, always exactly 16 bytes, 126 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; Self::LEN]);

impl Serial {
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// Draws a new serial number.
    pub fn random(randomness: &dyn Randomness) -> Self {
        let mut bytes = random_bytes::<{ Self::LEN }>(randomness);
        let [first, ..] = &mut bytes;
        *first = (*first & 0x3f) | 0x40;
        Self(bytes)
    }

    /// Takes the content bytes of a DER INTEGER; `None` unless they have the form of our serials.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; Self::LEN] = bytes.try_into().ok()?;
        (0x40..=0x7f).contains(bytes.first()?).then_some(Self(bytes))
    }

    /// The bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandomness;

    #[test]
    fn serials_are_positive_sixteen_bytes_and_differ() {
        let source = SeededRandomness::new(7);
        let all: std::collections::BTreeSet<_> =
            (0..1000).map(|_| Serial::random(&source)).collect();
        assert_eq!(all.len(), 1000);
        assert!(all.iter().all(|serial| Serial::from_bytes(serial.as_bytes()) == Some(*serial)));
    }

    #[test]
    fn foreign_serials_are_not_ours() {
        for foreign in [&[0x40; 15][..], &[0x40; 17], &[0x80; 16], &[0; 16], &[]] {
            assert_eq!(Serial::from_bytes(foreign), None);
        }
    }
}
