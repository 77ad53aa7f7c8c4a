//! What stands where the records of a file end: a write that was cut short, or damage.
//!
//! A file is written into zeros that were put there ahead. A power cut in the middle of a commit leaves any of its
//! sectors written and the others zero, so that bytes may follow a gap. Two things tell that from damage. The gap is a
//! whole sector of zeros, as far as the record that is not there has bytes in it, and no flipped bit makes one: a
//! record has at least two bits set in its first byte and in its last. And no later commit follows: what stands before
//! the first record of a commit was durable when that commit began.

use crate::envelope::starts_commit;

/// Disks write this many bytes wholly or not at all, or a multiple of it.
const SECTOR: usize = 512;

/// Whether nothing but zeros follows.
pub(crate) fn is_unwritten(rest: &[u8]) -> bool {
    rest.iter().all(|byte| *byte == 0)
}

/// Whether the bytes from `offset` on, where no record could be read, are what a commit left that was cut short.
/// `len` is how many bytes the record has, as far as that is known.
pub(crate) fn is_torn(bytes: &[u8], offset: usize, len: usize) -> bool {
    let Some(rest) = bytes.get(offset..) else { return false };
    // The file ends within the record, or its last bytes are missing and nothing follows.
    let cut_short = rest.get(len.saturating_sub(1)..).is_none_or(is_unwritten);
    cut_short || (has_gap(bytes, offset, len) && !has_later_commit(bytes, offset))
}

/// Whether a sector that the record has bytes in was not written.
fn has_gap(bytes: &[u8], offset: usize, len: usize) -> bool {
    let end = offset.saturating_add(len);
    let mut at = offset;
    while at < end {
        let next = (at / SECTOR + 1) * SECTOR;
        if bytes.get(at..next.min(bytes.len())).is_some_and(is_unwritten) {
            return true;
        }
        at = next;
    }
    false
}

fn has_later_commit(bytes: &[u8], offset: usize) -> bool {
    let from = offset.saturating_add(1);
    (from..bytes.len()).any(|at| bytes.get(at..).is_some_and(starts_commit))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::Damage;
    use crate::frame::{self, Scan, Source, scan};
    use crate::record::{AuditRefusal, Entry, Record};
    use crate::segment::{FileId, SegmentId};
    use crate::shorthand::Writing;
    use crate::testing::{NOW, one_of_each};

    fn commit(records: impl IntoIterator<Item = Record>) -> Vec<u8> {
        let (mut writing, mut bytes) = (Writing::default(), Vec::new());
        for record in records {
            frame::append(&Entry { at: NOW, record }, &mut writing, &mut bytes);
        }
        bytes
    }

    /// A file with a header and one record, that is `shift` bytes longer than the shortest.
    fn started(file: &FileId, shift: usize) -> Vec<u8> {
        let detail = |len| {
            AuditRefusal::new(&"r".repeat(len), "c").detail(&"d".repeat(shift.saturating_sub(len)))
        };
        [frame::header(file), commit([Record::Refused(detail(shift.min(256)))])].concat()
    }

    fn several() -> Vec<u8> {
        commit(one_of_each().into_iter().filter(|record| !matches!(record, Record::End { .. })))
    }

    fn look(file: &FileId, bytes: &[u8]) -> Result<Scan, Damage> {
        scan(&Source { file, path: Path::new("log") }, bytes, true, |_| {})
    }

    #[test]
    fn whatever_sectors_of_the_last_commit_are_there_the_ones_before_it_are_read() {
        let file = FileId { segment: SegmentId::parse("s").unwrap(), number: 1 };
        for shift in (0..SECTOR).step_by(5).chain(500..SECTOR) {
            let mut bytes = started(&file, shift);
            let durable = bytes.len();
            bytes.extend(several());
            let (first, last) = (durable / SECTOR, (bytes.len() - 1) / SECTOR);
            let end = bytes.len();
            bytes.resize(end + 2 * SECTOR, 0);
            assert_eq!(look(&file, &bytes).unwrap().whole, end as u64);
            for kept in 0..(1 << (last - first + 1)) - 1 {
                let mut cut = bytes.clone();
                for sector in (first..=last).filter(|sector| kept >> (sector - first) & 1 == 0) {
                    cut[durable.max(sector * SECTOR)..(sector + 1) * SECTOR].fill(0);
                }
                let found =
                    look(&file, &cut).unwrap_or_else(|damage| panic!("{shift} {kept:b}: {damage}"));
                assert!(
                    (durable..end).contains(&usize::try_from(found.whole).unwrap()),
                    "{shift} {kept:b}"
                );
                assert!(found.torn > 0 || kept == 0 || is_unwritten(&cut[found.whole as usize..]));
            }
        }
    }

    #[test]
    fn no_flipped_bit_in_any_commit_is_taken_for_a_write_that_was_cut_short() {
        let file = FileId { segment: SegmentId::parse("s").unwrap(), number: 1 };
        for shift in (0..SECTOR).step_by(131).chain(506..SECTOR) {
            let mut bytes = started(&file, shift);
            bytes.extend(several());
            let end = bytes.len();
            bytes.resize(end + SECTOR, 0);
            for bit in 0..end * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(look(&file, &bytes).is_err(), "{shift}: bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn a_gap_is_damage_when_a_later_commit_follows_it() {
        let file = FileId { segment: SegmentId::parse("s").unwrap(), number: 1 };
        let before = [started(&file, 0), several()].concat();
        let bytes =
            [before.clone(), commit([Record::Refused(AuditRefusal::new("r", "c"))])].concat();
        for sector in 1..before.len() / SECTOR {
            let mut cut = bytes.clone();
            cut[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
            assert!(look(&file, &cut).is_err(), "{sector}");
            assert!(look(&file, &cut[..before.len()]).is_ok(), "{sector}");
        }
    }
}
