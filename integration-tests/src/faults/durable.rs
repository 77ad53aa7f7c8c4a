//! What a server left on the disk.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use host::RealDisk;
use ledger::{Record, Row, reader};
use rotation::{SegmentId, State, record};
use rotation_driver::{RecordStore as _, SharedRecord};
use stores_redb::{OpenError, RedbStore};
use trust::{RootId, Serial};

use super::Leaf;
use crate::support::SOON;

/// The record and the ledger of a server that does not run.
#[derive(Debug)]
pub struct Durable {
    /// The record; `None` when nothing was stored in it yet.
    pub state: Option<State>,
    rows: HashMap<Serial, (Row, String)>,
    /// Rows that were written twice as new.
    repeated: Vec<Serial>,
}

impl Durable {
    /// Reads a data directory. A former server of this process may still be letting go of the record, so that is waited
    /// for.
    ///
    /// # Errors
    /// When something is there and cannot be read.
    pub async fn read(data: &Path) -> anyhow::Result<Self> {
        let mut found = Self {
            state: state(&data.join("state.redb")).await?,
            rows: HashMap::new(),
            repeated: vec![],
        };
        for file in reader::read(&RealDisk, &data.join("ledger"))? {
            let file = file?;
            for entry in file.entries {
                if let Record::Intent(row) = entry.record {
                    let segment = file.file.segment.as_str().to_owned();
                    let before = found.rows.insert(row.serial, ((*row).clone(), segment));
                    found.repeated.extend(before.map(|(row, _)| row.serial));
                }
            }
        }
        Ok(found)
    }

    /// The ids of all roots in the record.
    #[must_use]
    pub fn roots(&self) -> BTreeSet<RootId> {
        self.state.iter().flat_map(|state| state.roots.keys().copied()).collect()
    }

    /// Whether the ledger has a row with this serial.
    #[must_use]
    pub fn has(&self, serial: &Serial) -> bool {
        self.rows.contains_key(serial)
    }

    /// Checks that everything that was released is covered: a row of its own that says the same, under a horizon of its
    /// root and a bound of its segment that reach as far as it lives.
    ///
    /// # Errors
    /// The first leaf that is not.
    pub fn covers(&self, released: &[Leaf]) -> anyhow::Result<()> {
        ensure!(self.repeated.is_empty(), "serials came twice: {:?}", self.repeated);
        let mut seen = BTreeSet::new();
        for leaf in released {
            let serial = leaf.serial().context("a leaf without a serial of ours")?;
            ensure!(seen.insert(leaf.id()), "{serial} was released twice");
            let (row, segment) =
                self.rows.get(&serial).with_context(|| format!("{serial} has no row"))?;
            let ends = leaf.validity().not_after();
            ensure!(
                row.not_after == ends && row.spki == leaf.spki_hash(),
                "{serial} differs from its row"
            );
            let state = self.state.as_ref().context("a leaf was released without a record")?;
            let horizon = state.roots.get(&row.root).and_then(|root| root.horizon);
            ensure!(horizon >= Some(ends), "{serial} ends at {ends}, the horizon is {horizon:?}");
            let segment = state.segments.get(&SegmentId::parse(segment)?);
            let bound = segment.and_then(|segment| segment.bounds.get(&row.root).copied());
            ensure!(
                bound >= Some(ends),
                "{serial} ends at {ends}, its segment's bound is {bound:?}"
            );
        }
        Ok(())
    }
}

async fn state(path: &Path) -> anyhow::Result<Option<State>> {
    let opened = async {
        loop {
            match RedbStore::open(Arc::new(RealDisk), path) {
                Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(OpenError::Missing { .. }) => return anyhow::Ok(None),
                opened => return Ok(Some(opened?)),
            }
        }
    };
    let Some(store) =
        tokio::time::timeout(SOON, opened).await.context("the record is in use")??
    else {
        return Ok(None);
    };
    let stored = SharedRecord::new(Arc::new(store)).load().await?;
    Ok(stored.map(|stored| record::decode(&stored.record)).transpose()?)
}
