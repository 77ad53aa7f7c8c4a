//! Bytes of single fields of a payload, and why a payload is not understood.

use trust::Timestamp;

use crate::row::{Ended, EvidenceClass, Probed, RowKind, Word};

/// Version of the kinds that hold a row, from which on it has a word about its holders.
pub(crate) const WORD_VERSION: u8 = 2;

/// Why a payload whose checksum holds was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// A kind, or a version of a kind, that this program does not know.
    Newer,
    /// A known kind whose body makes no sense.
    Malformed,
}

pub(crate) fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.as_secs().to_le_bytes());
}

/// Texts are bounded before they get here (names at `intend`, identities by their type, the rest by `escape`).
/// One that is not is cut, rather than framed wrongly.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend(text.bytes().take(usize::from(len)));
}

pub(crate) fn put_option<T>(
    out: &mut Vec<u8>,
    value: Option<T>,
    put: impl FnOnce(&mut Vec<u8>, T),
) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(crate) const fn kind_byte(kind: RowKind) -> u8 {
    match kind {
        RowKind::AgentHeld => 0,
        RowKind::CsrOnly => 1,
        RowKind::ChannelTrusted => 2,
        RowKind::Own => 3,
        RowKind::AgentIdentity => 4,
        RowKind::Probe => 5,
    }
}

pub(crate) const fn class_byte(class: EvidenceClass) -> u8 {
    match class {
        EvidenceClass::Assumed => 1,
        EvidenceClass::Sent => 2,
        EvidenceClass::Delivered => 3,
        EvidenceClass::Applied => 4,
        EvidenceClass::HandshakeObserved => 5,
    }
}

pub(crate) fn put_word(out: &mut Vec<u8>, word: Word) {
    match word {
        Word::None => out.push(0),
        Word::Trusting(sequence) => {
            out.push(1);
            out.extend_from_slice(&sequence.0.to_le_bytes());
        }
        Word::OwnTrust => out.push(2),
        Word::Listening { trusting, seen } => {
            out.push(3);
            out.extend_from_slice(&trusting.0.to_le_bytes());
            put_probed(out, seen);
        }
    }
}

fn put_probed(out: &mut Vec<u8>, seen: Probed) {
    let (byte, sequence) = match seen {
        Probed::Nothing => return out.push(0),
        Probed::NotProbeable(sequence) => (1, sequence),
        Probed::Unable(sequence) => (2, sequence),
        Probed::Observed(sequence) => (3, sequence),
    };
    out.push(byte);
    out.extend_from_slice(&sequence.0.to_le_bytes());
}

pub(crate) fn put_ended(out: &mut Vec<u8>, ended: Option<Ended>) {
    match ended {
        None => out.push(0),
        Some(Ended::Released) => out.push(1),
        Some(Ended::Superseded { by }) => {
            out.push(2);
            out.extend_from_slice(by.as_bytes());
        }
        Some(Ended::Abandoned) => out.push(3),
    }
}

/// A number in groups of 7 bits, the lowest first; all but the last have the high bit set.
pub(crate) fn put_short(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

/// A time as seconds from another on; those before it are folded in between.
pub(crate) fn put_time_from(out: &mut Vec<u8>, base: Timestamp, time: Timestamp) {
    let seconds = time.as_secs().wrapping_sub(base.as_secs());
    put_short(out, ((seconds << 1) ^ (seconds >> 63)).cast_unsigned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Input;

    #[test]
    fn numbers_and_times_read_back_at_every_size_and_never_overflow() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put_short(&mut bytes, value);
                assert_eq!(Input(&bytes).short(), Ok(value));
                let (base, time) =
                    (Timestamp::from_secs(-3), Timestamp::from_secs(value.cast_signed()));
                bytes.clear();
                put_time_from(&mut bytes, base, time);
                assert_eq!(Input(&bytes).time_from(base), Ok(time));
            }
        }
        assert_eq!(Input(&[0xff; 10]).short(), Err(DecodeError::Malformed));
        assert_eq!(Input(&[0xff; 3]).short(), Err(DecodeError::Malformed));
    }
}
