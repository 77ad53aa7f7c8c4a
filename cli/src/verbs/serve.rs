//! `banyan serve`.

use std::time::Duration;

use ca_server::{BootError, Config, Embedding, Ended, HostDeps, Server};
use console::exit::Failure;
use console::signals;

use crate::args::{LogFormat, ServeOptions};
use crate::{config_file, logs, verbs};

/// Longest wait for requests under way when the server is asked to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs the CA until it is asked to stop.
///
/// # Errors
/// [`Failure::Configuration`] if the file is wrong, [`Failure::Failed`] if the server cannot start.
pub async fn run(options: &ServeOptions) -> Result<(), Failure> {
    run_embedded(options, HostDeps::system, &()).await
}

/// As [`run`], with what an embedding program adds, on what it says that the machine is.
///
/// # Errors
/// As [`run`].
pub async fn run_embedded(
    options: &ServeOptions,
    host_deps: impl Fn() -> HostDeps + Send + Sync,
    embedding: &dyn Embedding,
) -> Result<(), Failure> {
    let file = config_file::find(options.config.as_deref(), config_file::SERVER)?;
    let config = Config::load(&file).map_err(|error| Failure::Configuration(error.to_string()))?;
    let _logs = logs::start(log_format(config.log().format()), config.log().filter())?;
    tracing::info!(config = %file.display(), commit = verbs::about::COMMIT, "starting");
    loop {
        let started = Server::start_with(config.clone(), host_deps(), embedding).await;
        let running = started.map_err(not_started)?;
        let ended = tokio::select! {
            stop = signals::stop_requested() => {
                stop.map_err(anyhow::Error::from)?;
                None
            }
            ended = running.ended() => Some(ended),
        };
        tracing::info!("stopping");
        running.shutdown(DRAIN).await;
        match ended {
            None => return Ok(()),
            Some(lost @ Ended::Lost(_)) => return Err(Failure::Failed(lost.into())),
            Some(again @ Ended::SegmentClosed) => tracing::warn!("{again}"),
        }
    }
}

fn not_started(error: BootError) -> Failure {
    match error {
        BootError::Config(problems) => Failure::Configuration(problems.to_string()),
        other => Failure::Failed(other.into()),
    }
}

const fn log_format(format: ca_server::config::LogFormat) -> LogFormat {
    match format {
        ca_server::config::LogFormat::Text => LogFormat::Text,
        ca_server::config::LogFormat::Json => LogFormat::Json,
    }
}
