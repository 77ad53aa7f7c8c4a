//! Randomness as a port, so that tests can repeat a run.

use std::fmt::Debug;

/// A source of random bytes.
///
/// The real one reads the operating system's generator and is safe for serial numbers and tokens.
/// Private keys are made inside key backends, which have their own source.
pub trait Randomness: Send + Sync + Debug {
    /// Fills the whole buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// Takes `N` random bytes.
pub fn random_bytes<const N: usize>(randomness: &dyn Randomness) -> [u8; N] {
    let mut bytes = [0; N];
    randomness.fill(&mut bytes);
    bytes
}
