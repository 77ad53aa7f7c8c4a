//! `banyan serve` for tests of several servers: `replica_under_test FOLDER`. It reads `banyan.toml` of that folder, and what the
//! test slips in by files of it ([`Hooks`]).
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use cli::args::ServeOptions;
use integration_tests::replicas::Hooks;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: replica_under_test FOLDER");
        return ExitCode::FAILURE;
    };
    cli::install_crypto_provider();
    let hooks = Hooks::at(&folder);
    let options = ServeOptions { config: Some(folder.join("banyan.toml")) };
    match cli::verbs::serve::run_embedded(&options, || hooks.host_deps(), &hooks).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
