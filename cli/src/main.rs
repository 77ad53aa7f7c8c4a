//! `banyan`: runs the CA, its agents and every operator's verb.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
