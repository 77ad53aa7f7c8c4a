//! How long a plan takes, and how much memory, for a mesh of so many members.
//!
//! `cargo run --release -p planner --example scale -- 100000` prints members, leaves issued, time on a
//! processor, memory, and how long the rotation took.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use ledger::EvidenceClass;
use planner::{Mesh, Question, Share, Sketch, plan};
use rotation::Policy;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let agents = std::env::args().nth(1).ok_or("how many members?")?.parse()?;
    let hour = Duration::from_secs(3_600);
    let question = Question {
        mesh: Mesh::Sketched(Sketch {
            agents,
            proxies: 1,
            csr_only: Share::percent(10),
            offline: Share::percent(2),
            back_after: None,
        }),
        policy: Policy {
            leaf_lifetime_max: hour,
            leaf_lifetime_min: Duration::from_secs(300),
            horizon_step_max: hour / 4,
            ..Policy::default()
        },
        leaf_ttl: hour,
        budget: 500,
        agent_evidence: EvidenceClass::Applied,
        root_left: None,
        root_bytes: 450,
        csr_renews_at: Share::percent(50),
        seed: 1,
    };
    let forecast = plan(&question)?;
    // Of this thread, which does it all: what else runs beside it is not counted.
    let scheduled = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanos = scheduled.split(' ').next().unwrap_or_default().parse()?;
    let took = Duration::from_nanos(nanos);
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("").trim();
    println!(
        "| {agents} | {} | {:.1} s | {peak} | {:?} s |",
        forecast.csr.total,
        took.as_secs_f64(),
        forecast.answer.seconds
    );
    Ok(())
}
