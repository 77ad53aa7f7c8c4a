//! A CA server for tests that kill it: `ca_under_test CONFIG`. Prints its two addresses once it serves, and runs until it
//! is killed. A start that fails is told on standard error, with exit code 1; its log goes there too, when the
//! configuration names a filter.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use ca_server::config::DEFAULT_FILTER;
use ca_server::{Config, HostDeps, Server};
use cli::args::LogFormat;
use integration_tests::faults::FaultPlan;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let path =
        std::env::args_os().nth(1).map(PathBuf::from).context("usage: ca_under_test CONFIG")?;
    let (config, deps) = (Config::load(&path)?, HostDeps::system());
    let filter = config.log().filter();
    let _logs = (filter != DEFAULT_FILTER)
        .then(|| cli::logs::start(LogFormat::Text, filter))
        .transpose()?;
    let fault_plan = FaultPlan::default();
    let running = Box::pin(Server::start_with(config, deps, &fault_plan)).await?;
    println!("{} {}", running.grpc_addr, running.plain_addr);
    std::future::pending().await
}
