//! What a gate rests on, asked over many rows.

use std::time::Duration;

use console::admin_socket;
use hdrhistogram::Histogram;
use proto::banyan::admin::v1::GetRotationRequest;
use tokio::time::Instant;

use crate::bench::server::BenchServer;

/// How often it is asked.
const ASKED: u32 = 100;

/// What asking took, from the question to the answer over the admin socket.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) rows: u64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// Asks a server where its rotation waits for many rows.
pub(super) async fn measure(server: &BenchServer, rows: u64) -> anyhow::Result<Gate> {
    let mut rotations = admin_socket::rotations(&server.admin_socket()).await?;
    let mut took = Histogram::<u64>::new(3)?;
    for _ in 0..ASKED {
        let before = Instant::now();
        let rotation = rotations.get_rotation(GetRotationRequest {}).await?.into_inner();
        took.record(u64::try_from(before.elapsed().as_micros())?)?;
        anyhow::ensure!(
            rotation.phase == "distributing",
            "the rotation is in phase '{}', and no gate waits for rows",
            rotation.phase
        );
    }
    let at = |part| Duration::from_micros(took.value_at_quantile(part));
    Ok(Gate { rows, p50: at(0.5), p99: at(0.99) })
}
