//! The system's randomness.

use ring::rand::{SecureRandom, SystemRandom};
use trust::Randomness;

/// The operating system's cryptographic random source.
#[derive(Clone, Debug)]
pub struct OsRandomness(SystemRandom);

impl OsRandomness {
    /// The one place where the system's source is opened.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this type is what everybody else is handed instead"
    )]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for OsRandomness {
    fn default() -> Self {
        Self::new()
    }
}

impl Randomness for OsRandomness {
    /// Fills `buffer` with random bytes.
    ///
    /// # Panics
    /// When the kernel has no random source. A process that makes keys and serials must not go on without one,
    /// and there is no value that could be returned in its place.
    fn fill(&self, buffer: &mut [u8]) {
        if self.0.fill(buffer).is_err() {
            panic!("the operating system gives no randomness: getrandom failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fills_differ_and_leave_no_byte_untouched() {
        let (mut first, mut second) = ([0u8; 64], [0u8; 64]);
        OsRandomness::new().fill(&mut first);
        OsRandomness::new().fill(&mut second);
        assert_ne!(first, second);
        assert!(first.iter().filter(|byte| **byte == 0).count() < 16);
    }
}
