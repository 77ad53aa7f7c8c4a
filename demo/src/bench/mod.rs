//! `banyan bench issue`: what a certificate costs, against the bare cryptography of the same machine in the same run.
//! `banyan bench replicas` ([`replicas`]): what several servers cost, against a single one in the same run.
//!
//! The server runs in a child process with everything on (TLS, JWT, ledger, audit, lint, verification of its own
//! signature); the clients run here. The server's cost is the CPU time of its process, so that the clients, which
//! share the machine, do not count. [`floor`] measures the cryptography alone, between the rows.

pub mod floor;
pub mod load;
pub mod replicas;
pub mod report;
pub mod server;

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use console::exit::Failure;
use console::signals;

use self::floor::Floor;
use self::load::{Connections, Job, Measured, WARM_UP};
use self::report::Report;
use self::server::{BenchServer, Seat};
use crate::options::{BenchIssueOptions, BenchOptions, BenchSubject};
use crate::tokens::TokenSource;

/// Runs the benchmark.
///
/// # Errors
/// [`Failure::Failed`] if the server does not start or a request fails, [`Failure::Interrupted`] on Ctrl-C.
pub async fn run(options: &BenchOptions) -> Result<(), Failure> {
    let directory = tempfile::Builder::new().prefix("banyan-bench-").tempdir();
    let directory = directory.map_err(anyhow::Error::from)?;
    let measured = async {
        match &options.subject {
            BenchSubject::Issue(options) => issue(options, directory.path()).await,
            BenchSubject::Replicas(options) => replicas::run(options, directory.path()).await,
        }
    };
    tokio::select! {
        // Signals are watched for before anything is started.
        biased;
        stop = signals::stop_requested() => {
            stop.map_err(anyhow::Error::from)?;
            Err(Failure::Interrupted("the benchmark was interrupted, and its servers are stopped".into()))
        }
        outcome = measured => Ok(outcome?),
    }
}

async fn issue(options: &BenchIssueOptions, directory: &Path) -> anyhow::Result<()> {
    let tokens = TokenSource::new()?;
    let server = BenchServer::start(directory, &tokens, &Seat::alone())
        .await
        .context("cannot start the measured server")?;
    let mut floor = Floor::new()?;
    let mut rows = Vec::new();
    floor.sample();
    for (name, connections, in_flight, fresh_tokens) in rows_of(options) {
        let job = Job {
            connections,
            in_flight,
            duration: Duration::from_secs(options.seconds),
            warm_up: WARM_UP,
            tokens: tokens.supply(fresh_tokens, options.seconds)?,
        };
        let measured: Measured =
            load::run(&[&server], job).await.with_context(|| format!("row '{name}'"))?;
        floor.sample();
        rows.push((name, measured));
    }
    let report = Report::new(&floor, rows, server.peak_rss_kib()?, options)?;
    server.stop().await?;
    report.print(options.json)
}

/// The rows in their order: name, connections, requests in flight, a new token for each request.
fn rows_of(options: &BenchIssueOptions) -> [(&'static str, Connections, u16, bool); 4] {
    [
        ("one in flight, token seen before", Connections::Kept, 1, false),
        ("in flight, token seen before", Connections::Kept, options.in_flight, false),
        ("in flight, token at first sight", Connections::Kept, options.in_flight, true),
        (
            "new connection each, token seen before",
            Connections::NewEach,
            options.in_flight.min(16),
            false,
        ),
    ]
}
