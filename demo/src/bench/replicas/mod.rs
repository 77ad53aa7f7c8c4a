//! `banyan bench replicas`: what several servers on one store cost, against a single server in the same run.
//!
//! A single server with a file of its own, and three on a real etcd, all in child processes. Rounds take turns between
//! them, so that a machine that is busy for a while is busy for all; what is compared is compared within a round.

mod connected;
mod fan_out;
mod fleet;
mod gate;
mod issuing;
mod moving;
mod report;

use std::path::Path;

use anyhow::Context;

use self::fleet::Fleet;
use self::report::Report;
use crate::options::BenchReplicasOptions;

/// Runs the benchmark.
///
/// # Errors
/// If a server does not start, or a request fails.
pub async fn run(options: &BenchReplicasOptions, directory: &Path) -> anyhow::Result<()> {
    let mut fleet = Fleet::start(directory).await?;
    let (issuing, writes) = issuing::compare(&fleet, options).await.context("certificates")?;
    let failover = moving::measure(&mut fleet, options.failing_over, directory).await;
    let failover = failover.context("agents whose server was killed")?;
    let rows = issuing::fill(&fleet, options).await.context("rows")?;
    let mut fan_outs = Vec::new();
    let alone: Vec<_> = std::iter::once(&fleet.alone).collect();
    fan_outs.push(fan_out::measure(&alone, &fleet.tokens, options.agents).await?);
    let gate = gate::measure(&fleet.alone, rows).await.context("the gate")?;
    let three: Vec<_> = fleet.three.iter().collect();
    fan_outs.push(fan_out::measure(&three, &fleet.tokens, options.agents).await?);
    fleet.stop().await?;
    Report { issuing, writes, fan_outs, gate, failover }.print(options.json)
}
