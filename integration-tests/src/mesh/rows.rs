//! What the files of a ledger say of each leaf, while the CA runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use host::RealDisk;
use ledger::{EvidenceClass, Record, RowKind};
use trust::{Sequence, Serial};

/// The account of all leaves, by serial.
#[derive(Debug, Default)]
pub struct Rows {
    /// Identity and kind of each row.
    pub intents: BTreeMap<Serial, (String, RowKind)>,
    /// The strongest proof of each row that has one: class, then sequence.
    pub proven: BTreeMap<Serial, (EvidenceClass, Sequence)>,
    /// Rows that hold no gate any more: released, or superseded.
    pub ended: BTreeSet<Serial>,
}

impl Rows {
    /// Reads every file below a ledger's directory.
    ///
    /// # Errors
    /// When a file is damaged.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let mut rows = Self::default();
        for file in ledger::reader::read(&RealDisk, directory)? {
            file?.entries.into_iter().for_each(|entry| rows.take(entry.record));
        }
        Ok(rows)
    }

    /// Serials of the rows of an identity.
    pub fn of(&self, identity: &str) -> BTreeSet<Serial> {
        let own = self.intents.iter().filter(|(_, (id, _))| id == identity);
        own.map(|(serial, _)| *serial).collect()
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Intent(row) => {
                self.intents.insert(row.serial, (row.identity.to_string(), row.kind));
            }
            Record::Acked { serial, proof } => {
                let best = self.proven.entry(serial).or_insert((proof.class, proof.applied));
                *best = (*best).max((proof.class, proof.applied));
            }
            Record::Released { serial } | Record::Superseded { serial, .. } => {
                self.ended.insert(serial);
            }
            _ => {}
        }
    }
}
