//! Small parts of a simulated server: its machine, and evidence that is bent on purpose.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use control::clock::GuardedClock;
use control::evidence::EvidenceReader;
use control::footing::Missing;
use control::machine::Machine;
use rotation::{Evidence, State};
use rotation_driver::{EvidenceSource, NoEvidence};

use crate::run::Broken;

/// A machine whose disk never blocks, without key sets.
#[derive(Debug)]
pub(crate) struct Simulated {
    pub(crate) guard: Arc<GuardedClock>,
    pub(crate) ledger: Arc<ledger::Ledger>,
}

#[async_trait]
impl Machine for Simulated {
    async fn note_clock(&self) -> io::Result<()> {
        self.guard.note()
    }

    async fn read_key_sets(&self) -> Vec<String> {
        Vec::new()
    }

    async fn look_at_files(&self) -> Option<Missing> {
        Some(Missing::default())
    }

    fn compact(&self) {
        let ledger = Arc::clone(&self.ledger);
        tokio::spawn(async move { ledger.compact_without_threads().await });
    }
}

/// Evidence that says something else than it was read.
#[derive(Debug)]
pub(crate) struct Bent {
    pub(crate) reader: Arc<EvidenceReader>,
    pub(crate) broken: Option<Broken>,
}

#[async_trait]
impl EvidenceSource for Bent {
    async fn read(&self, state: &State) -> Result<Evidence, NoEvidence> {
        let mut evidence = self.reader.read(state).await?;
        match self.broken {
            Some(Broken::UnreadSegments) => {
                let all = state.segments.keys();
                evidence.read = all.map(|id| (id.clone(), state.generation)).collect();
            }
            Some(Broken::NoRows) => {
                evidence.unproven = rotation::evidence::Tally::default();
                evidence.live.clear();
            }
            Some(Broken::EarlyBounds) => {
                evidence.at = evidence.at.plus(std::time::Duration::from_secs(120));
            }
            _ => {}
        }
        Ok(evidence)
    }
}
