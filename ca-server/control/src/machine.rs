//! What a server does with its machine beside its work. Each of it blocks, so it is a port: a server has it done on threads
//! that may block, a simulation has no such machine.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use auth::authn::jwt::JwtVerifier;
use ledger::Ledger;
use tokio::task::spawn_blocking;

use crate::clock::GuardedClock;
use crate::compaction::Compaction;
use crate::footing::{Footing, Missing};
use crate::logs::Logs;

/// The machine that a server runs on.
#[async_trait]
pub trait Machine: Send + Sync + Debug {
    /// Notes the clock for the next start.
    ///
    /// # Errors
    /// As the disk says; it is tried again.
    async fn note_clock(&self) -> io::Result<()>;

    /// Reads the key sets of token issuers again; those that cannot be read stay as they were, and are told.
    async fn read_key_sets(&self) -> Vec<String>;

    /// Looks whether the files that the server stands on are still there; `None` when that could not be done.
    async fn look_at_files(&self) -> Option<Missing>;

    /// Has the ledger compacted, unless that is being done; does not wait for it.
    fn compact(&self);
}

/// The machine of a real server, which is looked at on threads that may block.
#[derive(Debug)]
pub struct OnThreads {
    /// The clock.
    pub guard: Arc<GuardedClock>,
    /// The issuers of tokens.
    pub jwt: Arc<JwtVerifier>,
    /// The files that it stands on.
    pub footing: Arc<Footing>,
    /// The files of the ledger, which follow one another.
    pub logs: Arc<Logs>,
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// The compaction that runs. Held to begin one only.
    pub compaction: Mutex<Compaction>,
}

#[async_trait]
impl Machine for OnThreads {
    async fn note_clock(&self) -> io::Result<()> {
        let guard = Arc::clone(&self.guard);
        let noted = spawn_blocking(move || guard.note()).await;
        noted.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    async fn read_key_sets(&self) -> Vec<String> {
        let jwt = Arc::clone(&self.jwt);
        let read = spawn_blocking(move || jwt.reload(|path| std::fs::read(path))).await;
        read.unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    async fn look_at_files(&self) -> Option<Missing> {
        let (footing, logs, ledger) =
            (Arc::clone(&self.footing), Arc::clone(&self.logs), Arc::clone(&self.ledger));
        spawn_blocking(move || logs.look(&ledger, footing.look())).await.ok()
    }

    fn compact(&self) {
        let mut compaction = self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        compaction.begin(&self.ledger);
    }
}
