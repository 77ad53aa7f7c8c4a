//! The servers that are measured.

use std::path::Path;

use anyhow::Context;

use crate::bench::server::{BenchServer, Seat};
use crate::mesh::store::Store;
use crate::tokens::TokenSource;

/// Servers that share the store.
const SERVERS: usize = 3;

/// What is measured.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) tokens: TokenSource,
    pub(super) alone: BenchServer,
    pub(super) store: Store,
    pub(super) three: Vec<BenchServer>,
}

impl Fleet {
    pub(super) async fn start(directory: &Path) -> anyhow::Result<Self> {
        let tokens = TokenSource::new()?;
        let alone = BenchServer::start(&directory.join("alone"), &tokens, &Seat::alone())
            .await
            .context("cannot start the single server")?;
        let store = Store::start(directory, 1).await?;
        let mut three = Vec::new();
        for number in 1..=SERVERS {
            let name = format!("ca-{number}");
            let home = directory.join(&name);
            let seat = Seat { name, store: store.addresses().first().copied(), ..Seat::alone() };
            let server = BenchServer::start(&home, &tokens, &seat).await;
            three.push(server.with_context(|| format!("cannot start {}", seat.name))?);
        }
        Ok(Self { tokens, alone, store, three })
    }

    pub(super) async fn stop(self) -> anyhow::Result<()> {
        for server in self.three.into_iter().chain([self.alone]) {
            server.stop().await?;
        }
        Ok(())
    }
}
