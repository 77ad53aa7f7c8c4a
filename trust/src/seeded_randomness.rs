//! The fake of [`Randomness`].

use std::sync::{Mutex, PoisonError};

use crate::randomness::Randomness;

/// A fake for tests: the same seed gives the same bytes. Never use it for anything that must be secret.
#[derive(Debug)]
pub struct SeededRandomness(Mutex<u64>);

impl SeededRandomness {
    /// Starts the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Randomness for SeededRandomness {
    fn fill(&self, buffer: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in buffer.chunks_mut(8) {
            // SplitMix64: a counter through a mixing function, enough to look random to a test.
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            for (to, from) in chunk.iter_mut().zip(mixed.to_le_bytes()) {
                *to = from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::randomness::random_bytes;

    #[test]
    fn same_seed_gives_same_bytes_and_another_seed_others() {
        let take = |seed| random_bytes::<20>(&SeededRandomness::new(seed));
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }
}
