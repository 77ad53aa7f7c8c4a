//! Reads a store that may be in use, and makes the file.
//!
//! What must be of one moment is read again and again until two readings in a row are the same, version by version: then
//! nothing was written between them, and both are the state of that time. The journal is read last; up to the record's own entry
//! it does not change any more.

use std::collections::VecDeque;
use std::sync::Arc;

use rotation_driver::SharedRecord;
use stores::spaces::{self, JOURNAL, RECORD};
use stores::{Entry, SharedStore, Space, settle};

use super::error::BackupError;
use super::frames::Frames;
use super::header::Header;
use super::parts::{Part, part};
use crate::owner;

/// How often the whole is read before it is given up.
const TRIES: usize = 20;
/// From this reading on, rows of the registry may have moved.
const TRIES_FOR_ROWS: usize = 6;
/// Bytes that are given out at once, about.
const CHUNK_BYTES: usize = 256 * 1_024;
/// Entries of the journal that are read at once.
const PAGE: usize = 500;

/// What a backup shall be.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Whether the sealed keys of roots are in it.
    pub with_keys: bool,
    /// The time, in seconds since the Unix epoch.
    pub now: i64,
    /// The release that makes it.
    pub release: String,
}

/// A backup in the making: its bytes, as they are asked for.
pub struct Taking {
    store: Arc<dyn SharedStore>,
    frames: Option<Frames>,
    ready: Vec<u8>,
    left: VecDeque<(Space, Entry)>,
    journal: Option<Journal>,
    header: Header,
}

/// What of the journal is still to be read.
struct Journal {
    from: String,
    /// The record's own entry.
    last: u64,
}

struct Cut {
    spaces: Vec<(Space, Vec<Entry>)>,
    registry_moved: bool,
}

impl Taking {
    /// Reads what must be of one moment.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn begin(store: Arc<dyn SharedStore>, choice: &Choice) -> Result<Self, BackupError> {
        let whose = owner::owner(store.as_ref()).await?.ok_or(BackupError::Empty)?;
        let cut = cut(store.as_ref(), choice.with_keys).await?;
        let record = cut.spaces.iter().find(|(space, _)| *space == RECORD);
        let record = record.and_then(|(_, entries)| entries.first()).ok_or(BackupError::Empty)?;
        let unusable = |error: &dyn std::fmt::Display| BackupError::Record(error.to_string());
        let kept = SharedRecord::kept(&record.value).map_err(|error| unusable(&error))?;
        let state =
            rotation::record::decode(&kept.stored.record).map_err(|error| unusable(&error))?;
        let header = Header {
            trust_domain: whose.trust_domain,
            ca: whose.ca,
            state_format: whose.format,
            release: choice.release.clone(),
            taken_at: choice.now,
            generation: state.generation.0,
            sequence: state.sequence.0,
            phase: state.phase.name().to_owned(),
            with_keys: choice.with_keys,
            registry_moved: cut.registry_moved,
        };
        let (frames, ready) = Frames::begin(&header)?;
        let left = cut.spaces.into_iter().flat_map(|(space, entries)| {
            entries.into_iter().map(move |entry| (space, entry)).collect::<Vec<_>>()
        });
        Ok(Self {
            store,
            frames: Some(frames),
            ready,
            left: left.collect(),
            journal: Some(Journal { from: String::new(), last: kept.index }),
            header,
        })
    }

    /// What stands at the beginning.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The next bytes of the file; `None` when it is whole.
    ///
    /// # Errors
    /// [`BackupError`]; what was given out so far is no backup.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, BackupError> {
        let mut bytes = std::mem::take(&mut self.ready);
        while bytes.len() < CHUNK_BYTES {
            let Some(frames) = &mut self.frames else { break };
            if let Some((space, entry)) = self.left.pop_front() {
                bytes.extend(frames.entry(space.name(), &entry.id, &entry.value));
                continue;
            }
            if let Some(journal) = self.journal.take() {
                self.journal = self.read_on(journal).await?;
                continue;
            }
            bytes.extend(self.frames.take().map(Frames::end).unwrap_or_default());
        }
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    /// The next page of the journal.
    async fn read_on(&mut self, journal: Journal) -> Result<Option<Journal>, BackupError> {
        let from = Some(journal.from.as_str()).filter(|from| !from.is_empty());
        let page = self.store.list(JOURNAL, from, PAGE).await?;
        let known = |entry: &&Entry| entry.id.parse().is_ok_and(|index: u64| index <= journal.last);
        let whole = page.entries.iter().all(|entry| known(&entry));
        // An id behind the last, and before all others: no id has control characters.
        let next = page.entries.last().map(|last| format!("{}\u{1}", last.id));
        let entries = page.entries.into_iter().filter(|entry| known(&entry));
        self.left.extend(entries.map(|entry| (JOURNAL, entry)));
        let goes_on = next.filter(|_| page.more && whole);
        Ok(goes_on.map(|from| Journal { from, last: journal.last }))
    }
}

/// The state of one moment, but for the journal.
async fn cut(store: &dyn SharedStore, with_keys: bool) -> Result<Cut, BackupError> {
    let mut last = read(store, with_keys).await?;
    for tried in 1..TRIES {
        let again = read(store, with_keys).await?;
        let same = |wanted: fn(Part) -> bool| {
            let of = |all: &[(Space, Vec<Entry>)]| {
                let wanted = all.iter().filter(|(space, _)| wanted(part(*space)));
                wanted
                    .flat_map(|(space, entries)| {
                        let version =
                            |entry: &Entry| (space.name(), entry.id.clone(), entry.version.clone());
                        entries.iter().map(version).collect::<Vec<_>>()
                    })
                    .collect::<Vec<_>>()
            };
            of(&last) == of(&again)
        };
        let core = same(|part| matches!(part, Part::Core | Part::Keys));
        let rows = same(|part| part == Part::Rows);
        if core && (rows || tried >= TRIES_FOR_ROWS) {
            return Ok(Cut { spaces: again, registry_moved: !rows });
        }
        last = again;
    }
    Err(BackupError::Moves { tries: TRIES })
}

async fn read(
    store: &dyn SharedStore,
    with_keys: bool,
) -> Result<Vec<(Space, Vec<Entry>)>, BackupError> {
    let mut all = Vec::new();
    for space in spaces::ALL {
        let wanted = match part(space) {
            Part::Core | Part::Rows => true,
            Part::Keys => with_keys,
            Part::Meta | Part::Journal | Part::Living => false,
        };
        if wanted {
            all.push((space, settle::all(store, space).await?));
        }
    }
    Ok(all)
}
