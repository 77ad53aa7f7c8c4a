//! Certificates: a single server, one of three, and three; and what the store is asked to write meanwhile.

use std::time::Duration;

use anyhow::Context;
use console::admin_socket;
use proto::banyan::admin::v1::StatusRequest;
use tokio::time::Instant;

use super::fleet::Fleet;
use crate::bench::load::{self, Connections, Job, Measured, WARM_UP};
use crate::bench::server::BenchServer;
use crate::options::BenchReplicasOptions;

/// Seconds of one go at filling a ledger.
const FILLING_SECS: u64 = 5;
const FILLING_IN_FLIGHT: u16 = 64;

/// What the rounds found: the median of each, and of the ratio within each round.
#[derive(Debug)]
pub(super) struct Issuing {
    pub(super) rounds: u16,
    pub(super) alone: Row,
    pub(super) one_of_three: Row,
    pub(super) three: Row,
    /// CPU per certificate of one of three over that of the single server.
    pub(super) ratio: f64,
}

/// One kind of load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) cpu_us_per_cert: f64,
    pub(super) certs_per_sec: f64,
}

/// Writes to the store by three servers, a second.
#[derive(Debug)]
pub(super) struct Writes {
    pub(super) idle: f64,
    pub(super) under_load: f64,
    /// Certificates a second while they were counted under load.
    pub(super) certs_per_sec: f64,
}

/// Runs the rounds, and then lets the servers be idle.
pub(super) async fn compare(
    fleet: &Fleet,
    options: &BenchReplicasOptions,
) -> anyhow::Result<(Issuing, Writes)> {
    let three: Vec<_> = fleet.three.iter().collect();
    let one = three.get(..1).context("no server")?;
    let (mut alone, mut of_three, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let (mut load, mut idle) = (Counted::default(), Counted::default());
    for _ in 0..options.rounds {
        alone.push(row(fleet, &[&fleet.alone], options).await?);
        let before = (fleet.store.revision().await?, Instant::now());
        of_three.push(row(fleet, one, options).await?);
        all.push(row(fleet, &three, options).await?);
        load.add(before, fleet.store.revision().await?);
    }
    let before = (fleet.store.revision().await?, Instant::now());
    tokio::time::sleep(Duration::from_secs(options.idle_seconds)).await;
    idle.add(before, fleet.store.revision().await?);
    let ratios = of_three.iter().zip(&alone);
    let ratio = median(ratios.map(|(one, alone)| one.cpu_us_per_cert / alone.cpu_us_per_cert));
    let issued: u64 = of_three.iter().chain(&all).map(|row| row.certificates).sum();
    let writes = Writes {
        idle: idle.per_sec(),
        under_load: load.per_sec(),
        certs_per_sec: issued as f64 / load.time.as_secs_f64(),
    };
    let [alone, one_of_three, three] = [&alone, &of_three, &all].map(|rows| Row {
        cpu_us_per_cert: median(rows.iter().map(|row| row.cpu_us_per_cert)),
        certs_per_sec: median(rows.iter().map(Measured::per_second)),
    });
    Ok((Issuing { rounds: options.rounds, alone, one_of_three, three, ratio }, writes))
}

/// Issues until the single server's ledger has so many rows; gives how many it has.
pub(super) async fn fill(fleet: &Fleet, options: &BenchReplicasOptions) -> anyhow::Result<u64> {
    loop {
        let mut admin = admin_socket::connect(&fleet.alone.admin_socket()).await?;
        let ledger = admin.status(StatusRequest {}).await?.into_inner().ledger;
        let rows = ledger.context("the status has no ledger")?.live_rows;
        if rows >= options.rows {
            return Ok(rows);
        }
        let job = Job {
            connections: Connections::Kept,
            in_flight: FILLING_IN_FLIGHT,
            duration: Duration::from_secs(FILLING_SECS),
            warm_up: Duration::ZERO,
            tokens: fleet.tokens.supply(false, FILLING_SECS)?,
        };
        load::run(&[&fleet.alone], job).await?;
    }
}

/// Writes over a time.
#[derive(Debug, Default)]
struct Counted {
    writes: u64,
    time: Duration,
}

impl Counted {
    fn add(&mut self, before: (u64, Instant), now: u64) {
        let (revision, at) = before;
        self.writes += now.saturating_sub(revision);
        self.time += at.elapsed();
    }

    fn per_sec(&self) -> f64 {
        self.writes as f64 / self.time.as_secs_f64()
    }
}

async fn row(
    fleet: &Fleet,
    servers: &[&BenchServer],
    options: &BenchReplicasOptions,
) -> anyhow::Result<Measured> {
    let job = Job {
        connections: Connections::Kept,
        in_flight: options.in_flight,
        duration: Duration::from_secs(options.seconds),
        warm_up: WARM_UP,
        tokens: fleet.tokens.supply(false, options.seconds)?,
    };
    load::run(servers, job).await
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
