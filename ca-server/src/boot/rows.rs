//! The ledger of a start: its files are read, and a segment of this incarnation is opened.

use std::collections::BTreeSet;
use std::sync::Arc;

use ledger::{Ledger, OpenOptions, Recovered};
use rotation::{Event, ReplicaName, SegmentId};
use rotation_driver::DriverHandle;
use trust::randomness::random_bytes;

use super::blocking::blocking;
use super::layout::Layout;
use super::{BootError, HostDeps};
use crate::config::Config;

/// Reads the ledger and opens a segment of this incarnation, in the ledger first and then in the record: what the record
/// says of former segments rests on their having been read.
pub(super) async fn open(
    config: &Config,
    deps: &HostDeps,
    layout: &Layout,
    driver: &DriverHandle,
) -> Result<(Arc<Ledger>, SegmentId), BootError> {
    let tag: [u8; 8] = random_bytes(deps.randomness.as_ref());
    let name = format!("{}-{:016x}", config.replica(), u64::from_be_bytes(tag));
    let segment = SegmentId::parse(&name)?;
    let options = OpenOptions {
        dir: layout.paths.ledger(),
        segment: ledger::SegmentId::parse(&name).map_err(ledger::OpenError::from)?,
        disk: Arc::clone(&deps.disk),
        clock: Arc::clone(&deps.clock),
        skew: config.leaf().skew(),
        settings: ledger::Settings {
            rows_per_identity: config.limits().rows_per_identity(),
            rows_per_agent: config.limits().rows_per_agent(),
            ..ledger::Settings::default()
        },
    };
    let (ledger, recovered) = blocking(move || Ledger::open(options)).await??;
    let opened = Event::SegmentOpened {
        replica: ReplicaName::parse(config.replica())?,
        segment: segment.clone(),
        read: read_segments(&recovered)?,
    };
    let state = driver.submit(opened).await?;
    let ledger = Arc::new(ledger);
    let forgetting = Arc::clone(&ledger);
    let known = move |id: &ledger::SegmentId| {
        SegmentId::parse(id.as_str()).is_ok_and(|id| state.segments.contains_key(&id))
    };
    if let Err(error) = blocking(move || forgetting.forget(known)).await? {
        tracing::warn!(%error, "what is stated about former segments is kept until the next start");
    }
    tracing::info!(%segment, rows = recovered.rows, "ledger open");
    Ok((ledger, segment))
}

fn read_segments(recovered: &Recovered) -> Result<BTreeSet<SegmentId>, rotation::BadName> {
    recovered.whole.iter().map(|segment| SegmentId::parse(segment.as_str())).collect()
}
