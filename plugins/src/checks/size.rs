//! How much an answer may be.

use super::fault::Unsafe;

/// Largest answer of a plugin that is looked at, in bytes of DER. 64 certificates of 8 KiB fit twice.
pub const MAX_ANSWER_LEN: usize = 1024 * 1024;

pub(super) fn check_size(certificates: &[Vec<u8>]) -> Result<(), Unsafe> {
    let len = certificates.iter().map(Vec::len).fold(0, usize::saturating_add);
    if len > MAX_ANSWER_LEN {
        return Err(Unsafe::TooLarge { len });
    }
    Ok(())
}
