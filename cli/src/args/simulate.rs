//! The words of `banyan simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use planner::Share;

use super::AdminTarget;

/// Options of `simulate`.
#[derive(Debug, Args)]
pub struct SimulateOptions {
    /// Members of the mesh: agents with their proxies, and clients that ask for themselves
    #[arg(long, value_name = "N", required_unless_present = "from_live", conflicts_with = "from_live", allow_hyphen_values = true, value_parser = members)]
    pub agents: Option<u64>,
    /// Proxies behind each agent, with a leaf each
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "from_live", allow_hyphen_values = true, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    pub proxies: u32,
    /// Share of members that have no agent and send CSRs themselves
    #[arg(
        long,
        value_name = "SHARE",
        default_value = "0%",
        conflicts_with = "from_live",
        allow_hyphen_values = true
    )]
    pub csr_only: Share,
    /// Share of members that cannot be reached when the rotation begins
    #[arg(
        long,
        value_name = "SHARE",
        default_value = "0%",
        conflicts_with = "from_live",
        allow_hyphen_values = true
    )]
    pub offline: Share,
    /// When those come back, after the begin [default: never]
    #[arg(long, value_name = "DURATION", conflicts_with = "from_live", allow_hyphen_values = true, value_parser = duration)]
    pub back_after: Option<Duration>,
    /// Life of a leaf [default: leaf.ttl_default of the policy]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub leaf_ttl: Option<Duration>,
    /// Leaves that agents are asked to renew early, such as 500/s [default: rotation.reissue_per_second of the policy]
    #[arg(long, value_name = "N/s", allow_hyphen_values = true, value_parser = budget)]
    pub budget: Option<u64>,
    /// A banyan.toml, whose sections `leaf`, `rotation` and `root` are the policy; without one they are as in a file that says nothing
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// What is left of the present root's life when the rotation begins [default: that of the live root, else what the
    /// policy leaves after rotation.max_root_age]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub root_left: Option<Duration>,
    /// Take leaves, holders, limits and the root's end from a running server, which is not changed
    #[arg(long)]
    pub from_live: bool,
    /// What chance follows from: the same seed gives the same plan
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Draw trust and leaves over time into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Where the admin API is.
    #[command(flatten)]
    pub target: AdminTarget,
}

fn members(text: &str) -> Result<u64, String> {
    match text.replace('_', "").parse() {
        Ok(0) | Err(_) => Err("write a whole number of at least 1".to_owned()),
        Ok(members) => Ok(members),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(length) if length >= Duration::from_secs(1) => Ok(length),
        _ => Err("write a length of time of at least 1s, such as 1h or 90m".to_owned()),
    }
}

fn budget(text: &str) -> Result<u64, String> {
    match text.strip_suffix("/s").unwrap_or(text).parse() {
        Ok(budget @ 1..=100_000) => Ok(budget),
        _ => Err("write leaves a second from 1/s to 100000/s, such as 500/s".to_owned()),
    }
}
