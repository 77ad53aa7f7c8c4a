//! A whole file, checked.

use std::collections::BTreeMap;

use ring::digest::{Context, SHA256};
use rotation::State;
use rotation_driver::SharedRecord;
use stores::Space;
use stores::spaces::{self, RECORD};

use super::error::BackupError;
use super::frames::{
    self, BODY_BYTES_MAX, END, ENTRY, Entry, HEAD_BYTES, HEADER, MAGIC, PREFIX_BYTES,
};
use super::header::{FORMAT, Header};
use super::parts::{Part, part};
use crate::error::{FORMAT as STATE_FORMAT, OwnerError};

/// A backup whose every checksum was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// What it says of itself.
    pub header: Header,
    /// The record in it.
    pub state: State,
    /// Tells it from every other backup: SHA-256 of all but its end, in hexadecimal.
    pub id: String,
    /// What it holds, by the names of spaces.
    entries: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
}

impl Backup {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`BackupError`], with the byte and the entry where it is not what was written.
    pub fn read(file: &[u8]) -> Result<Self, BackupError> {
        let mut reader = Reader::begin(file)?;
        let header = reader.header()?;
        if header.state_format > STATE_FORMAT {
            return Err(OwnerError::Newer { found: header.state_format }.into());
        }
        let (entries, id) = reader.entries(&header)?;
        let record = entries.get(RECORD.name()).and_then(|record| record.values().next());
        let record = record.ok_or(BackupError::Empty)?;
        let kept = SharedRecord::kept(record);
        let kept = kept.map_err(|error| BackupError::Record(error.to_string()))?;
        let state = rotation::record::decode(&kept.stored.record);
        let state = state.map_err(|error| BackupError::Record(error.to_string()))?;
        if state.trust_domain.as_str() != header.trust_domain
            || state.generation.0 != header.generation
        {
            let text = "the header says another trust domain or generation than the record";
            return Err(BackupError::Record(text.to_owned()));
        }
        Ok(Self { header, state, id, entries })
    }

    /// What it holds of a space.
    pub fn of(&self, space: Space) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        self.entries.get(space.name()).into_iter().flatten()
    }

    /// How many keys it holds of each space, those without any left out.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.entries.iter().map(|(space, keys)| (*space, keys.len())).collect()
    }
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
    number: u64,
}

struct Frame<'a> {
    kind: u8,
    body: &'a [u8],
    /// Where it begins.
    at: usize,
}

type Entries = BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>;

impl<'a> Reader<'a> {
    fn begin(file: &'a [u8]) -> Result<Self, BackupError> {
        let rest = file.strip_prefix(MAGIC).ok_or(BackupError::NotABackup)?;
        let reader = Self { file, at: PREFIX_BYTES, number: 0 };
        let Some(format) = rest.first_chunk::<4>() else {
            return Err(reader.damaged(MAGIC.len(), "it ends before its format"));
        };
        match u32::from_be_bytes(*format) {
            found if found > FORMAT => Err(BackupError::Newer { found }),
            0 => Err(reader.damaged(MAGIC.len(), "its format never existed")),
            _ => Ok(reader),
        }
    }

    fn damaged(&self, at: usize, what: &str) -> BackupError {
        let place = match self.number {
            0 => "the header".to_owned(),
            number => format!("entry {number}"),
        };
        BackupError::Damaged {
            offset: u64::try_from(at).unwrap_or(u64::MAX),
            place,
            what: what.to_owned(),
        }
    }

    fn frame(&mut self) -> Result<Frame<'a>, BackupError> {
        let at = self.at;
        let cut = || self.damaged(at, "the file ends here, and its end is missing");
        let rest = self.file.get(at..).unwrap_or_default();
        let (head, _) = rest.split_first_chunk::<HEAD_BYTES>().ok_or_else(cut)?;
        let [kind, length @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > BODY_BYTES_MAX {
            return Err(self.damaged(at, "its length is impossible"));
        }
        let covered = rest.get(..HEAD_BYTES + length).ok_or_else(cut)?;
        let after = rest.get(HEAD_BYTES + length..).unwrap_or_default();
        let written = after.first_chunk::<4>().ok_or_else(cut)?;
        if u32::from_be_bytes(*written) != frames::checksum(self.number, covered) {
            return Err(self.damaged(at, "its checksum is wrong"));
        }
        self.at = at + HEAD_BYTES + length + 4;
        self.number += 1;
        Ok(Frame { kind, body: covered.get(HEAD_BYTES..).unwrap_or_default(), at })
    }

    fn header(&mut self) -> Result<Header, BackupError> {
        let frame = self.frame()?;
        let read = (frame.kind == HEADER).then(|| serde_json::from_slice(frame.body));
        match read {
            Some(Ok(header)) => Ok(header),
            _ => Err(BackupError::Damaged {
                offset: PREFIX_BYTES as u64,
                place: "the header".to_owned(),
                what: "it is none".to_owned(),
            }),
        }
    }

    /// All entries, and the digest that names the file.
    fn entries(&mut self, header: &Header) -> Result<(Entries, String), BackupError> {
        let mut entries = Entries::new();
        loop {
            let frame = self.frame()?;
            match frame.kind {
                ENTRY => self.take(&frame, header, &mut entries)?,
                END => {
                    let id = self.end(&frame)?;
                    return Ok((entries, id));
                }
                _ => return Err(self.damaged(frame.at, "it is of no kind that there is")),
            }
        }
    }

    fn take(
        &self,
        frame: &Frame<'_>,
        header: &Header,
        entries: &mut Entries,
    ) -> Result<(), BackupError> {
        let entry = Entry::parse(frame.body)
            .ok_or_else(|| self.damaged(frame.at, "it does not fit together"))?;
        let Some(space) = spaces::ALL.into_iter().find(|space| space.name() == entry.space) else {
            let (space, release) = (entry.space.to_owned(), header.release.clone());
            return Err(BackupError::NewerSpace { space, release });
        };
        if matches!(part(space), Part::Meta | Part::Living) {
            return Err(self.damaged(frame.at, "no backup holds its space"));
        }
        let keys = entries.entry(space.name()).or_default();
        match keys.insert(entry.id.to_owned(), entry.value.to_vec()) {
            None => Ok(()),
            Some(_) => Err(self.damaged(frame.at, "its key is there twice")),
        }
    }

    fn end(&self, frame: &Frame<'_>) -> Result<String, BackupError> {
        let damaged = |at: usize, what: &str| BackupError::Damaged {
            offset: u64::try_from(at).unwrap_or(u64::MAX),
            place: "the end".to_owned(),
            what: what.to_owned(),
        };
        let (count, written) = frames::parse_end(frame.body)
            .ok_or_else(|| damaged(frame.at, "it does not fit together"))?;
        let mut digest = Context::new(&SHA256);
        digest.update(self.file.get(..frame.at).unwrap_or_default());
        let digest = digest.finish();
        // The header and the end are frames too.
        if count != self.number.saturating_sub(2) || digest.as_ref() != written {
            return Err(damaged(frame.at, "the whole is not what was written"));
        }
        if self.at != self.file.len() {
            return Err(damaged(self.at, "something stands behind it"));
        }
        Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
