//! Whether the octets of a public key are a sound point of its curve.
//!
//! The signature check refuses a bad point as well, but only as a bad signature, and not every key that is parsed is
//! used to verify one. All values here are public: nothing runs in constant time, and no key is derived.

use super::kind::KeyError;

/// A curve `y² = x³ - 3x + b` over a prime field whose elements are `N` limbs of 64 bits, the lowest first.
struct Curve<const N: usize> {
    prime: [u64; N],
    b: [u64; N],
    /// -1 / prime, modulo 2^64.
    prime_inverse: u64,
}

/// SEC 2 §2.4.2.
const P256: Curve<4> = Curve {
    prime: [
        0xffff_ffff_ffff_ffff,
        0x0000_0000_ffff_ffff,
        0x0000_0000_0000_0000,
        0xffff_ffff_0000_0001,
    ],
    b: [0x3bce_3c3e_27d2_604b, 0x651d_06b0_cc53_b0f6, 0xb3eb_bd55_7698_86bc, 0x5ac6_35d8_aa3a_93e7],
    prime_inverse: 1,
};

/// SEC 2 §2.5.1.
const P384: Curve<6> = Curve {
    prime: [
        0x0000_0000_ffff_ffff,
        0xffff_ffff_0000_0000,
        0xffff_ffff_ffff_fffe,
        0xffff_ffff_ffff_ffff,
        0xffff_ffff_ffff_ffff,
        0xffff_ffff_ffff_ffff,
    ],
    b: [
        0x2a85_c8ed_d3ec_2aef,
        0xc656_398d_8a2e_d19d,
        0x0314_088f_5013_875a,
        0x181d_9c6e_fe81_4112,
        0x988e_056b_e3f8_2d19,
        0xb331_2fa7_e23e_e7e4,
    ],
    prime_inverse: 0x0000_0001_0000_0001,
};

/// The prime of Curve25519's field, 2^255 - 19: its upper and lower 128 bits.
const PRIME_25519: (u128, u128) = (u128::MAX >> 1, u128::MAX - 18);

/// The y coordinates of the Ed25519 points whose order divides 8: 0, 1, -1, and the two of order 8.
const SMALL_ORDER_Y: [(u128, u128); 5] = [
    (0, 0),
    (0, 1),
    (u128::MAX >> 1, u128::MAX - 19),
    (0x05fc536d_880238b1_3933c6d3_05acdfd5, 0xf098eff2_89f4c345_b027b2c2_8f95e826),
    (0x7a03ac92_77fdc74e_c6cc392c_fa53202a, 0x0f67100d_760b3cba_4fd84d3d_706a17c7),
];

/// Demands an uncompressed point of P-256.
pub(super) fn check_p256(point: &[u8]) -> Result<(), KeyError> {
    P256.check(point)
}

/// Demands an uncompressed point of P-384.
pub(super) fn check_p384(point: &[u8]) -> Result<(), KeyError> {
    P384.check(point)
}

/// Demands 32 octets that are a reduced y coordinate, not of small order. Whether a point has it is left to the
/// signature check, which decodes it.
pub(super) fn check_ed25519(point: &[u8]) -> Result<(), KeyError> {
    if point.len() != 32 {
        return Err(KeyError::Malformed);
    }
    let (low, high) = point.split_at(16);
    let number = |octets: &[u8]| {
        octets.iter().rev().fold(0_u128, |sum, octet| sum << 8 | u128::from(*octet))
    };
    // The top bit is the sign of x.
    let y = (number(high) & (u128::MAX >> 1), number(low));
    if y >= PRIME_25519 {
        return Err(KeyError::NotOnCurve);
    }
    if SMALL_ORDER_Y.contains(&y) { Err(KeyError::SmallOrder) } else { Ok(()) }
}

impl<const N: usize> Curve<N> {
    fn check(&self, point: &[u8]) -> Result<(), KeyError> {
        let (x, y) = match point.split_first() {
            Some((0x04, coordinates)) if coordinates.len() == 16 * N => coordinates.split_at(8 * N),
            _ => return Err(KeyError::Malformed),
        };
        let (x, y) = (limbs(x), limbs(y));
        if self.is_reduced(&x) && self.is_reduced(&y) && self.holds(&x, &y) {
            Ok(())
        } else {
            Err(KeyError::NotOnCurve)
        }
    }

    /// Whether `y² = x(x² - 3) + b`, both sides divided by R², where R = 2^(64 N): each [`Self::product`] divides by R
    /// once, which saves bringing the coordinates into Montgomery form first.
    fn holds(&self, x: &[u64; N], y: &[u64; N]) -> bool {
        let one = small(1);
        let y_squared = self.product(&self.product(y, y), &one);
        let three = self.product(&small(3), &one);
        let b = self.product(&self.product(&self.b, &one), &one);
        let x_cubed_less = self.product(&self.difference(&self.product(x, x), &three), x);
        self.difference(&y_squared, &b) == x_cubed_less
    }

    fn is_reduced(&self, value: &[u64; N]) -> bool {
        value.iter().rev().lt(self.prime.iter().rev())
    }

    /// `a * b / R` modulo the prime (Montgomery's product); both factors are reduced.
    fn product(&self, a: &[u64; N], b: &[u64; N]) -> [u64; N] {
        let mut sum = [0; N];
        let mut over = 0_u64;
        for factor in b {
            let carry = add_multiple(&mut sum, a, *factor);
            let (top, first_over) = over.overflowing_add(carry);
            // This multiple of the prime makes the lowest limb zero, so that it can be dropped.
            let lowest = sum.first().copied().unwrap_or(0);
            let carry =
                add_multiple(&mut sum, &self.prime, lowest.wrapping_mul(self.prime_inverse));
            let (top, second_over) = top.overflowing_add(carry);
            sum.rotate_left(1);
            if let Some(last) = sum.last_mut() {
                *last = top;
            }
            over = u64::from(first_over) + u64::from(second_over);
        }
        if over != 0 || !self.is_reduced(&sum) {
            subtract(&mut sum, &self.prime);
        }
        sum
    }

    /// `a - b` modulo the prime; both are reduced.
    fn difference(&self, a: &[u64; N], b: &[u64; N]) -> [u64; N] {
        let mut out = *a;
        if subtract(&mut out, b) {
            // Below zero: the sum with the prime wraps back around.
            add_multiple(&mut out, &self.prime, 1);
        }
        out
    }
}

/// `to += value * factor`; returns the limb that is carried out.
fn add_multiple<const N: usize>(to: &mut [u64; N], value: &[u64; N], factor: u64) -> u64 {
    let mut carry = 0_u64;
    for (to, limb) in to.iter_mut().zip(value) {
        // At most (2^64 - 1)² + 2 (2^64 - 1) = 2^128 - 1.
        let wide = u128::from(*limb) * u128::from(factor) + u128::from(*to) + u128::from(carry);
        (*to, carry) = (wide as u64, (wide >> 64) as u64);
    }
    carry
}

/// `from -= value`; returns whether the difference is below zero.
fn subtract<const N: usize>(from: &mut [u64; N], value: &[u64; N]) -> bool {
    let mut borrow = false;
    for (from, limb) in from.iter_mut().zip(value) {
        let (difference, first) = from.overflowing_sub(*limb);
        let (difference, second) = difference.overflowing_sub(u64::from(borrow));
        (*from, borrow) = (difference, first || second);
    }
    borrow
}

fn small<const N: usize>(value: u64) -> [u64; N] {
    let mut out = [0; N];
    if let Some(lowest) = out.first_mut() {
        *lowest = value;
    }
    out
}

/// Limbs of a big-endian number of `8 N` octets.
fn limbs<const N: usize>(octets: &[u8]) -> [u64; N] {
    let mut out = [0; N];
    for (limb, octets) in out.iter_mut().zip(octets.rchunks(8)) {
        *limb = octets.iter().fold(0, |limb, octet| limb << 8 | u64::from(*octet));
    }
    out
}
