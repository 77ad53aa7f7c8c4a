//! A quick hash that spreads well: a walk remembers of each world no more than this.

use std::hash::{BuildHasherDefault, Hasher};

/// Each word is multiplied into the ones before, and both halves of the product are kept.
pub(crate) struct Folded(u64);

impl Default for Folded {
    fn default() -> Self {
        Self(0x6a09_e667_f3bc_c909)
    }
}

impl Folded {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        let [high, low] = [product >> 64, product & u128::from(u64::MAX)].map(|half| half as u64);
        self.0 = (high ^ low).wrapping_add(0xbb67_ae85_84ca_a73b).rotate_left(29);
    }
}

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        let mut last = Self(self.0);
        last.fold(0x3c6e_f372_fe94_f82b);
        last.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.fold(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }
}

pub(crate) type Fingerprints = BuildHasherDefault<Folded>;
