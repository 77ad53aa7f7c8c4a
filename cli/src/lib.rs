//! The command line of Banyan: operators' verbs.
//!
//! It decides nothing about certificates: `serve` and `agent` start the processes, the read verbs ask the admin API.
//! Start at [`args`] for the words that users type, then [`verbs`]. The demo and the benchmark are a crate of their own, and what
//! all of them print with is the crate `console`, exit codes too.

// Both end the program where nobody reads: `output` does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod admin_client;
pub mod args;
pub mod config_file;
pub mod logs;
pub mod verbs;

use std::process::ExitCode;

use clap::Parser;
use console::exit::{self, Failure};

use crate::args::{Arguments, Verb};

/// Parses the command line, runs the verb, and turns its outcome into an exit code.
pub fn run() -> ExitCode {
    let as_json = exit::wants_json(std::env::args_os());
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) if as_json && told.use_stderr() => return exit::report(&usage(&told), true),
        // Help, and errors with the usage below them.
        Err(told) => told.exit(),
    };
    install_crypto_provider();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::Failed(anyhow::anyhow!("cannot start threads: {error}"));
            return exit::report(&failure, as_json);
        }
    };
    match runtime.block_on(dispatch(arguments.verb)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::report(&failure, as_json),
    }
}

/// What the parser says in its first lines; below them it prints the usage.
fn usage(told: &clap::Error) -> Failure {
    let text = told.to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or_default();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    Failure::Usage(said.trim_start_matches("error: ").into())
}

/// Makes ring the process's TLS provider; a second call changes nothing.
pub fn install_crypto_provider() {
    // An error says that one is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

async fn dispatch(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Serve(options) => verbs::serve::run(&options).await,
        Verb::Agent(options) => verbs::agent::run(&options).await,
        Verb::Replica(options) => verbs::replica::run(&options).await,
        Verb::Token(options) => verbs::token::run(&options).await,
        Verb::Leaf(options) => verbs::leaf::run(&options).await,
        Verb::Root(options) => verbs::root::run(&options).await,
        Verb::Issuer(options) => verbs::issuer::run(&options).await,
        Verb::Authority(options) => verbs::authority::run(&options).await,
        Verb::Ceremony(options) => verbs::ceremony::run(&options),
        Verb::Plugin(options) => verbs::plugin::run(&options).await,
        Verb::Rotate(options) => verbs::rotate::run(&options).await,
        Verb::Simulate(options) => verbs::simulate::run(&options).await,
        Verb::RelyingParty(options) => verbs::relying_party::run(&options).await,
        Verb::Ban(options) => verbs::ban::run(&options).await,
        Verb::Crl(options) => verbs::crl::run(&options).await,
        Verb::Waiver(options) => verbs::waiver::run(&options).await,
        Verb::Federation(options) => verbs::federation::run(&options).await,
        Verb::Downstream(options) => verbs::downstream::run(&options).await,
        Verb::State(options) => verbs::state::run(&options).await,
        Verb::Journal(options) => verbs::journal::run(&options).await,
        Verb::Clock(options) => verbs::clock::run(&options).await,
        Verb::Keys(options) => verbs::keys::run(&options).await,
        Verb::Kubernetes(options) => verbs::kubernetes::run(&options).await,
        Verb::Issue(options) => verbs::issue::run(&options).await,
        Verb::Status(options) => verbs::status::run(&options).await,
        Verb::Config(options) => verbs::config::run(&options).await,
        Verb::Demo(options) => demo::mesh::run(&options).await,
        Verb::Bench(options) => demo::bench::run(&options).await,
        Verb::Version(options) => verbs::about::version(&options),
        Verb::Completions(options) => verbs::about::completions(&options),
        Verb::Man(options) => verbs::about::man(&options),
    }
}
