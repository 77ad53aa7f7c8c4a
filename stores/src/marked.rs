//! Values that tell whether somebody edited them.
//!
//! A marked value begins with a line `banyan 1 CHECKSUM`; the checksum is over the key and all that follows. So a value that was
//! edited by hand, cut short, or copied to another key is refused, and its key is named. It guards against mistakes, not against
//! whoever may write to the store.

use crate::{Key, ReadError};

const WORDS: &str = "banyan 1 ";

/// The value of this key with this body.
#[must_use]
pub fn mark(key: &Key, body: &[u8]) -> Vec<u8> {
    let line = format!("{WORDS}{:08x}\n", checksum(key, body));
    [line.as_bytes(), body].concat()
}

/// The body of a value that was read at this key.
///
/// # Errors
/// [`ReadError::Unreadable`] with the key.
pub fn unmark<'v>(key: &Key, value: &'v [u8]) -> Result<&'v [u8], ReadError> {
    let odd = |what: &str| ReadError::Unreadable {
        key: key.to_string(),
        reason: format!(
            "{what}, so this program did not write it: put back the value that was there, or restore a backup"
        ),
    };
    let end = value.iter().position(|byte| *byte == b'\n');
    let (line, rest) = end
        .and_then(|end| value.split_at_checked(end))
        .ok_or_else(|| odd("its first line is missing"))?;
    let body = rest.get(1..).unwrap_or_default();
    let written = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix(WORDS));
    let Some(written) = written else { return Err(odd("it begins as something else")) };
    match written == format!("{:08x}", checksum(key, body)) {
        true => Ok(body),
        false => Err(odd("its checksum is wrong")),
    }
}

fn checksum(key: &Key, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key.to_string().as_bytes());
    hasher.update(&[0]);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spaces::{AGENTS, BUNDLES};

    #[test]
    fn a_value_that_was_edited_cut_or_moved_is_refused_and_its_key_named() {
        let key = AGENTS.key("node-1").unwrap();
        for body in [b"".as_slice(), b"{}", b"two\nlines\n"] {
            let value = mark(&key, body);
            assert_eq!(unmark(&key, &value), Ok(body));
            for end in 0..value.len() {
                assert!(unmark(&key, &value[..end]).is_err(), "the first {end} bytes");
            }
            for at in 0..value.len() {
                let mut edited = value.clone();
                edited[at] ^= 1;
                let said = unmark(&key, &edited).unwrap_err().to_string();
                assert!(said.contains("agents/node-1") && said.contains("backup"), "{said}");
            }
            for other in [AGENTS.key("node-2").unwrap(), BUNDLES.key("node-1").unwrap()] {
                assert!(unmark(&other, &value).is_err(), "{other}");
            }
        }
    }
}
