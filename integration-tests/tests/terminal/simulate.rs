//! `banyan simulate`: what it says is held against real rotations, it changes nothing, and it refuses what makes no sense by name.

use std::sync::Arc;

use host::{RealDisk, SystemClock};
use integration_tests::faults::{AuthorityMode, AuthoritySwitch, CaDir, FaultPlan, eventually};
use serde_json::Value;

use super::issuer::asked;
use super::said::banyan;

/// What the demo's CA is told of leaves and rotations.
const POLICY: &str = r#"
[leaf]
ttl_default = "12s"
ttl_max = "12s"
ttl_min = "5s"
backdate = "2s"
skew = "2s"

[rotation]
settle = "2s"
withdrawal_max = "30s"
reissue_per_second = 50
"#;
/// A real phase may last so much longer or shorter than the planned one, in seconds: half of a leaf's life, since it depends on
/// which leaves a few clients happen to hold, and what a busy machine adds.
const BOUND: f64 = 6.0 + 4.0;

fn planned(forecast: &Value, phase: &str) -> f64 {
    let phases = forecast.get("phases").and_then(Value::as_array).into_iter().flatten();
    let seconds =
        phases.filter(|one| one["phase"] == phase).find_map(|one| one["seconds"].as_f64());
    seconds.unwrap_or_else(|| panic!("{phase} is not in {forecast}"))
}

/// Runs a real mesh and a plan of it, and compares how long their phases last.
async fn compare(csr_only: &str, share: &str, members: &str) -> anyhow::Result<[f64; 2]> {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("banyan.toml"), POLICY)?;
    let demo = ["demo", "--agents", "4", "--csr-only", csr_only, "--seconds", "5", "--json"];
    let real = banyan(directory.path(), &demo).await?;
    assert_eq!(real.code, Some(0), "{} {}", real.out, real.err);
    let real = real.json()?;
    let words =
        ["simulate", "--agents", members, "--csr-only", share, "--policy", "banyan.toml", "--json"];
    let plan = banyan(directory.path(), &words).await?;
    assert_eq!(plan.code, Some(0), "{} {}", plan.out, plan.err);
    let plan = plan.json()?;
    let mut told = [0.0; 2];
    for (phase, told) in ["distributing", "draining"].into_iter().zip(&mut told) {
        let lasted = real.pointer(&format!("/phase_seconds/{phase}")).and_then(Value::as_f64);
        let lasted = lasted.unwrap_or_default();
        let planned = planned(&plan, phase);
        let difference = (lasted - planned).abs();
        assert!(difference <= BOUND, "{phase}: {lasted} s in truth, {planned} s by the plan");
        *told = planned;
    }
    Ok(told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_and_a_real_rotation_agree_with_clients_that_ask_for_themselves_and_without()
-> anyhow::Result<()> {
    let behind_agents = compare("0", "0%", "4").await?;
    let with_others = compare("4", "50%", "8").await?;
    // The bound is no bound if the plan does not tell the two apart: these wait for whole leaves.
    for (alone, others) in behind_agents.into_iter().zip(with_others) {
        assert!(
            others > alone + 5.0,
            "{alone} s, and {others} s with clients that ask for themselves"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_makes_no_sense_is_refused_by_its_option() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("broken.toml"), "[rotation]\nsettle = \"never\"\n")?;
    std::fs::write(directory.path().join("no.toml"), "[rotation\n")?;
    let cases: &[(&[&str], i32, &str)] = &[
        (&[], 2, "--agents"),
        (&["--agents", "0"], 2, "at least 1"),
        (&["--agents", "-5"], 2, "--agents"),
        (&["--agents", "9000000"], 2, "--agents and --proxies"),
        (&["--agents", "10", "--offline", "-2%"], 2, "--offline"),
        (&["--agents", "10", "--offline", "101%"], 2, "from 0% to 100%"),
        (&["--agents", "10", "--csr-only", "x"], 2, "--csr-only"),
        (&["--agents", "10", "--budget", "0"], 2, "--budget"),
        (&["--agents", "10", "--budget", "-1/s"], 2, "--budget"),
        (&["--agents", "10", "--leaf-ttl", "-1h"], 2, "--leaf-ttl"),
        (
            &["--agents", "10", "--leaf-ttl", "10s"],
            2,
            "--leaf-ttl: leaves that live 10s are shorter than leaf.ttl_min, 5m",
        ),
        (
            &["--agents", "10", "--leaf-ttl", "60d"],
            2,
            "--leaf-ttl: leaves that live 60d are longer than",
        ),
        (&["--agents", "10", "--root-left", "10s"], 2, "--root-left"),
        (&["--agents", "10", "--policy", "nowhere.toml"], 5, "nowhere.toml"),
        (&["--agents", "10", "--policy", "broken.toml"], 5, "settle"),
        (&["--agents", "10", "--policy", "no.toml"], 5, "no.toml"),
        (&["--from-live", "--agents", "10"], 2, "--from-live"),
        (&["--from-live", "--socket", "nowhere.sock"], 3, "nowhere.sock"),
    ];
    for (words, code, needed) in cases {
        let words: Vec<_> = std::iter::once("simulate").chain(words.iter().copied()).collect();
        let said = banyan(directory.path(), &words).await?;
        assert_eq!(said.code, Some(*code), "{words:?}: {} {}", said.out, said.err);
        assert!(said.err.contains(needed) && said.out.is_empty(), "{words:?}: {}", said.err);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_from_a_live_server_changes_nothing_there_and_refuses_an_unhealthy_one()
-> anyhow::Result<()> {
    let (ca_dir, switch) = (CaDir::new("")?, AuthoritySwitch::new(AuthorityMode::Works));
    let fault_plan = FaultPlan { authority: Some(switch.clone()), ..FaultPlan::default() };
    let running =
        ca_dir.start_with(Arc::new(RealDisk), Arc::new(SystemClock), &fault_plan).await??;
    let directory = tempfile::tempdir()?;
    let socket = running.admin_socket.display().to_string();
    let words = ["simulate", "--from-live", "--socket", &socket, "--svg", "plan.svg", "--json"];

    // Nobody is there yet but the server itself.
    let status = ["status", "--socket", &socket, "--json"];
    let before = banyan(directory.path(), &status).await?.json()?;
    let said = banyan(directory.path(), &words).await?;
    assert_eq!(said.code, Some(0), "{} {}", said.out, said.err);
    let forecast = said.json()?;
    assert_eq!(forecast["answer"]["finishes"], true, "{forecast}");
    assert!(forecast["question"]["root_left_seconds"].as_u64() > Some(3_600), "{forecast}");
    let drawn = std::fs::read_to_string(directory.path().join("plan.svg"))?;
    for needed in ["leaves that live", "trust the new root, %", "dashed", "dotted", "seconds since"]
    {
        assert!(drawn.contains(needed), "{needed} is missing in {drawn}");
    }
    let after = banyan(directory.path(), &status).await?.json()?;
    // Not its generation: the server itself raises that, for its own certificates.
    for kept in ["phase", "sequence", "bundle_digest", "active_root"] {
        assert_eq!(before[kept], after[kept], "{kept}");
        assert!(!after[kept].is_null(), "{kept} is missing in {after}");
    }

    switch.turn(AuthorityMode::Down);
    eventually("the server says that it is unhealthy", || async {
        asked(&running, &["status"]).await.is_ok_and(|code| code == Some(1))
    })
    .await?;
    let said = banyan(directory.path(), &words).await?;
    assert_eq!(said.code, Some(4), "{} {}", said.out, said.err);
    assert!(said.err.contains("not healthy") && said.err.contains("banyan status"), "{}", said.err);
    CaDir::stop(running).await
}
