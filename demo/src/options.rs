//! The words of `banyan demo` and `banyan bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Options of `demo`.
#[derive(Debug, Args, Clone)]
pub struct DemoOptions {
    /// How many agents, each with one workload [default: 12, or 4 with --envoy]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=64))]
    pub agents: Option<u16>,
    /// How many times the root is rotated under the traffic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub rotations: u32,
    /// Additional workloads without an agent, which only speak the Istio CSR API
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "envoy", value_parser = clap::value_parser!(u16).range(0..=16))]
    pub csr_only: u16,
    /// Minimum duration of the traffic, in seconds
    #[arg(long, value_name = "S", default_value_t = 45, value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub seconds: u64,
    /// Break something during a rotation; may be repeated
    #[arg(long, value_enum)]
    pub fault: Vec<Fault>,
    /// Use real Envoys as workloads; give the PATH of the binary unless it is on PATH or installed by `cargo xtask peers envoy`
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    pub envoy: Option<Option<PathBuf>>,
    /// Print one JSON object as the last line, without the live view
    #[arg(long)]
    pub json: bool,
    /// Keep the temporary directory and say where it is
    #[arg(long)]
    pub keep: bool,
}

/// What the demo can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Kill the CA with SIGKILL in the middle of a rotation, and start it again
    KillCa,
    /// Cut one agent off from the CA while the new root is distributed
    PartitionAgent,
    /// Freeze one proxy while the new root is distributed: an Envoy with SIGSTOP, a built-in one by no longer reading
    FreezeProxy,
    /// Stop one agent while the new root is distributed, and start it again; its proxy keeps running
    RestartAgent,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// What to measure.
    #[command(subcommand)]
    pub subject: BenchSubject,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchSubject {
    /// Issue certificates over gRPC and TLS, and compare with the bare cryptography
    Issue(BenchIssueOptions),
}

/// Options of `bench issue`.
#[derive(Debug, Args, Clone)]
pub struct BenchIssueOptions {
    /// Seconds for each of the measured rows
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Requests in flight
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub in_flight: u16,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}
