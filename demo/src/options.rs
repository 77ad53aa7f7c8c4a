//! The words of `banyan demo` and `banyan bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use trust::Cohort;

/// Least number of agents with `--distrust`.
const AGENTS_ON_THE_DAY: u16 = 4;

/// Options of `demo`.
#[derive(Debug, Args, Clone)]
pub struct DemoOptions {
    /// How many agents, each with one workload [default: 12, 4 with --envoy, 8 with --distrust]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(2..=64))]
    pub agents: Option<u16>,
    /// How many times the root is rotated under the traffic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub rotations: u32,
    /// Additional workloads without an agent, which only speak the Istio CSR API [default: 0, or 3 with --distrust]
    #[arg(long, value_name = "N", conflicts_with = "envoy", value_parser = clap::value_parser!(u16).range(0..=16))]
    pub csr_only: Option<u16>,
    /// How many servers the CA has; more than one share a store
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=5))]
    pub replicas: u16,
    /// Where the CA's state is: in a file of the one server, or in a real etcd (`cargo xtask peers etcd`) [default: redb for
    /// one server, etcd for several]
    #[arg(long, value_enum)]
    pub store: Option<StoreEngine>,
    /// Minimum duration of the traffic, in seconds
    #[arg(long, value_name = "S", default_value_t = 45, value_parser = clap::value_parser!(u64).range(5..=3600))]
    pub seconds: u64,
    /// Break something during a rotation; may be repeated
    #[arg(long, value_enum)]
    pub fault: Vec<Fault>,
    /// Give the new root and its issuer keys of this algorithm, where the first ones have P-256. Agents then shake hands with their
    /// proxies before it signs
    #[arg(long, value_enum, value_name = "ALGORITHM", conflicts_with = "envoy")]
    pub algorithm: Option<Algorithm>,
    /// In each rotation this cohort has leaves of the new root first, such as `20%`; when they are in use it is widened, and then the
    /// new root signs for all
    #[arg(long, value_name = "COHORT", conflicts_with_all = ["distrust", "fault"])]
    pub canary: Option<Cohort>,
    /// Take proxies at their word, whether they can verify the new algorithm or not (rotation.probe = "never")
    #[arg(long, requires = "algorithm")]
    pub no_probe: bool,
    /// What `--fault random` draws from, so that a run can be repeated [default: another one in each run]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Least number of connections, spread over the rotations [default: 20000 for each rotation with --fault random, else 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
    pub connections: Option<u64>,
    /// Instead of rotations, two emergencies, each in a mesh of its own: the root that signs is stolen, with a standby root and
    /// without; who breaks is compared with what the preview said
    #[arg(long, conflicts_with_all = ["rotations", "replicas", "store", "seconds", "fault", "seed", "connections", "algorithm", "envoy"])]
    pub distrust: bool,
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

/// Where the demo's CA keeps its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StoreEngine {
    /// A file in the data directory of the one server
    Redb,
    /// A real etcd
    Etcd,
}

/// Connections for each rotation under random faults, if nobody says how many.
const CONNECTIONS_PER_ROTATION: u64 = 20_000;

impl DemoOptions {
    /// What cannot be asked for together, and what to do instead; none if all of it can.
    pub fn contradiction(&self) -> Option<String> {
        let asks = |fault: Fault| self.fault.contains(&fault);
        if self.is_random() && self.fault.len() > 1 {
            return Some(
                "--fault random draws from all kinds: name no other fault beside it".to_owned(),
            );
        }
        if self.is_random() && self.rotations == 0 {
            return Some(
                "--fault random breaks things in phases of rotations: say --rotations 1 or more"
                    .to_owned(),
            );
        }
        if self.seed.is_some() && !self.is_random() {
            return Some("--seed is what `--fault random` draws from: say --fault random, or leave --seed out".to_owned());
        }
        if asks(Fault::RestartProxy) && self.envoy.is_some() {
            return Some("--fault restart-proxy is for built-in proxies: leave --envoy out, or say --fault freeze-proxy".to_owned());
        }
        if self.distrust && self.agents.is_some_and(|agents| agents < AGENTS_ON_THE_DAY) {
            return Some(format!(
                "--distrust cuts one agent off, and one has a file of roots: say --agents {AGENTS_ON_THE_DAY} or more"
            ));
        }
        None
    }

    /// Whether faults are drawn.
    pub fn is_random(&self) -> bool {
        self.fault.contains(&Fault::Random)
    }

    /// Whether the leader of the store is killed, so that the store needs three members.
    pub fn kills_store_leader(&self) -> bool {
        self.is_random() || self.fault.contains(&Fault::KillStoreLeader)
    }

    /// How many connections there are at least when so many rotations are over.
    pub fn connections_after(&self, rotations: u32) -> u64 {
        let each = if self.is_random() { CONNECTIONS_PER_ROTATION } else { 0 };
        let all = self.connections.unwrap_or(each * u64::from(self.rotations));
        (all * u64::from(rotations)).checked_div(self.rotations.into()).unwrap_or(all)
    }

    /// The engine that was asked for, or what fits the number of servers.
    pub fn engine(&self) -> StoreEngine {
        let fits = if self.replicas > 1 { StoreEngine::Etcd } else { StoreEngine::Redb };
        self.store.unwrap_or(fits)
    }
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
    /// Stop the CA with SIGSTOP for a while in the middle of a rotation, and let it go on
    PauseCa,
    /// Restart one proxy, which then has nothing until it has asked its agent; not with --envoy
    RestartProxy,
    /// One or two faults in each rotation, drawn from --seed: all kinds that fit the mesh, in all phases
    Random,
    /// Kill the server that leads with SIGKILL in the middle of a rotation, and start it again
    KillReplica,
    /// Stop the server that leads with SIGSTOP for longer than its lease, and let it go on
    PauseReplica,
    /// Cut one server off from the store for longer than its lease
    PartitionStore,
    /// Kill the leader of a store with three members, and start it again
    KillStoreLeader,
    /// Have one proxy that acknowledges every bundle and verifies P-256 alone (a built-in fake of an old version), until the gate
    /// has named it for a while; then it is upgraded. Needs --algorithm
    UnableProxy,
}

/// Algorithms of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// ECDSA on P-256, as before
    P256,
    /// ECDSA on P-384, of root and issuer
    P384,
    /// Ed25519, of the root; its issuer stays at P-256
    Ed25519,
}

impl Algorithm {
    /// The words of banyan.toml for the keys of root and issuer.
    pub const fn keys(self) -> [&'static str; 2] {
        match self {
            Self::P256 => ["p256", "p256"],
            Self::P384 => ["p384", "p384"],
            Self::Ed25519 => ["ed25519", "p256"],
        }
    }
}

impl Fault {
    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KillCa => "kill-ca",
            Self::PauseCa => "pause-ca",
            Self::PartitionAgent => "partition-agent",
            Self::FreezeProxy => "freeze-proxy",
            Self::RestartAgent => "restart-agent",
            Self::RestartProxy => "restart-proxy",
            Self::Random => "random",
            Self::KillReplica => "kill-replica",
            Self::PauseReplica => "pause-replica",
            Self::PartitionStore => "partition-store",
            Self::KillStoreLeader => "kill-store-leader",
            Self::UnableProxy => "unable-proxy",
        }
    }
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
    /// Compare three servers on a real etcd (`cargo xtask peers etcd`) with a single one: certificates, writes to the store,
    /// bundles to many agents, a gate over many rows, and how long an agent takes to go to another server
    Replicas(BenchReplicasOptions),
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

/// Options of `bench replicas`.
#[derive(Debug, Args, Clone)]
pub struct BenchReplicasOptions {
    /// Seconds for each measurement of certificates; there are three in a round
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Rounds of them
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub rounds: u16,
    /// Seconds without any request, for which writes to the store are counted
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub idle_seconds: u64,
    /// Requests in flight
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(3..=512))]
    pub in_flight: u16,
    /// Connected agents that a new bundle is sent to; each takes an open file here and one at its server
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(3..=100_000))]
    pub agents: u32,
    /// Rows in the ledger of the single server when its gate is asked
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rows: u64,
    /// Agents whose server is killed under them, with all that an agent does
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u16).range(6..=1000))]
    pub failing_over: u16,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub json: bool,
}
