//! The journal, read over the admin API and replayed through the machine.

use proto::banyan::admin::v1::ReadJournalRequest;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use rotation::State;
use rotation_driver::{Replayed, replay};
use tonic::transport::Channel;

use crate::exit::{Failure, from_status};

/// How often a journal that grew while it was read is read again.
const READS_MAX: usize = 5;

/// A journal with the record that it should lead to.
#[derive(Debug)]
pub struct Journal {
    /// Entries with their indexes, oldest first.
    pub entries: Vec<(u64, Vec<u8>)>,
    /// The record.
    pub record: State,
}

/// Reads the whole journal and replays it.
///
/// # Errors
/// [`Failure::Failed`] names the entry that does not hold.
pub async fn verified(client: &mut RotationServiceClient<Channel>) -> Result<Replayed, Failure> {
    for _ in 0..READS_MAX {
        let Journal { entries, record } = read(client, 0).await?;
        let replayed = replay(record.trust_domain.clone(), &entries).map_err(|error| {
            Failure::Failed(anyhow::anyhow!("the journal is not verified: {error}"))
        })?;
        if replayed.state == record {
            return Ok(replayed);
        }
        // Entries that came while it was read lead beyond the record that came with them.
        if replayed.state.generation <= record.generation {
            let (found, stored) = (replayed.state.generation, record.generation);
            return Err(Failure::Failed(anyhow::anyhow!(
                "the journal is not verified: it leads to generation {found}, and the record of generation {stored} is \
                 another: stop the server, keep the data directory, and restore the latest backup"
            )));
        }
    }
    Err(Failure::Failed(anyhow::anyhow!(
        "the record changes faster than it can be read: try again"
    )))
}

/// Reads the journal from an entry on.
///
/// # Errors
/// [`Failure`] if the server is away or refuses.
pub async fn read(
    client: &mut RotationServiceClient<Channel>,
    from: u64,
) -> Result<Journal, Failure> {
    let mut entries = Vec::new();
    let mut next = from;
    loop {
        let request = ReadJournalRequest { from: next, limit: 0 };
        let page =
            client.read_journal(request).await.map_err(|status| from_status(&status))?.into_inner();
        entries.extend(page.entries.into_iter().map(|entry| (entry.index, entry.entry)));
        if !page.more {
            let record = serde_json::from_slice(&page.record).map_err(anyhow::Error::from)?;
            return Ok(Journal { entries, record });
        }
        next = entries.last().map_or(next, |(index, _)| index.saturating_add(1));
    }
}
