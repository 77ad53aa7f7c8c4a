//! What stands in the record's key.

use trust::Generation;

const MAGIC: &[u8; 4] = b"BRC1";

/// The record with the entry of the journal that belongs to its last write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) generation: Generation,
    /// Where the entry belongs in the journal.
    pub(crate) index: u64,
    pub(crate) entry: Vec<u8>,
    pub(crate) record: Vec<u8>,
}

impl Value {
    /// Magic, generation, index, length of the entry, entry, record; and the CRC-32 of all of it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.entry.len()).unwrap_or(u32::MAX);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.generation.0.to_be_bytes());
        bytes.extend(self.index.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(&self.entry);
        bytes.extend(&self.record);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    /// The error says what is wrong.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let short = "it is too short";
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or(short)?;
        let (magic, rest) = content.split_first_chunk::<4>().ok_or(short)?;
        if magic != MAGIC {
            return Err("it begins as something else");
        }
        if crc32fast::hash(content) != u32::from_be_bytes(*checksum) {
            return Err("its checksum is wrong");
        }
        let (generation, rest) = rest.split_first_chunk::<8>().ok_or(short)?;
        let (index, rest) = rest.split_first_chunk::<8>().ok_or(short)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short)?;
        let (entry, record) = rest.split_at_checked(length).ok_or(short)?;
        Ok(Self {
            generation: Generation(u64::from_be_bytes(*generation)),
            index: u64::from_be_bytes(*index),
            entry: entry.to_owned(),
            record: record.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written_and_no_altered_one_is() {
        let value = Value {
            generation: Generation(7),
            index: 9,
            entry: b"entry".to_vec(),
            record: b"record".to_vec(),
        };
        let bytes = value.encode();
        assert_eq!(Value::decode(&bytes), Ok(value.clone()));
        let empty = Value { entry: Vec::new(), record: Vec::new(), ..value };
        assert_eq!(Value::decode(&empty.encode()), Ok(empty));
        for end in 0..bytes.len() {
            assert!(Value::decode(&bytes[..end]).is_err(), "the first {end} bytes");
        }
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(Value::decode(&altered).is_err(), "byte {at}");
        }
    }
}
