//! `banyan bench replicas`: that it ends, and that its figures hang together. How good they are depends on the machine.

use std::process::Stdio;

use anyhow::Context as _;
use serde_json::Value;

/// Longest time on a machine that is busy.
const BENCH_MAX: std::time::Duration = std::time::Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_are_measured_beside_a_single_one() -> anyhow::Result<()> {
    let arguments = "bench replicas --seconds 1 --rounds 1 --idle-seconds 2 --agents 30 --rows 1 --failing-over 6 --json";
    let bench = tokio::process::Command::new(super::BANYAN)
        .args(arguments.split(' '))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(BENCH_MAX, bench).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let figures: Value = serde_json::from_str(said.lines().last().context("no output")?)?;
    let number = |at: &str| figures.pointer(at).and_then(Value::as_f64).unwrap_or(f64::NAN);
    for positive in
        ["/ratio", "/issuing/2/certs_per_sec", "/fan_out/1/joined_per_sec", "/gate/p50_us"]
    {
        assert!(number(positive) > 0.0, "{positive}: {said}");
    }
    // Each agent was at one of three servers, and each server was killed once.
    assert!(number("/failover/agents") >= 6.0, "{said}");
    // Writes of leases and reports: none of them is a leaf's.
    let (writes, leaves) = (
        number("/store_writes_per_sec/under_load"),
        number("/store_writes_per_sec/certs_per_sec_under_load"),
    );
    assert!(writes < 10.0 && leaves > writes, "{said}");
    Ok(())
}
