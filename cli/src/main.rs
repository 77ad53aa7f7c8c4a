//! `banyan`: runs the CA, its agents and every operator's verb.

use std::process::ExitCode;

/// Issuing a certificate allocates some two hundred small pieces on changing threads, which this allocator does in less
/// time than the system's (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
