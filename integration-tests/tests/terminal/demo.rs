use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use integration_tests::mesh::SOON;
use integration_tests::pty::Terminal;
use portable_pty::CommandBuilder;

use super::{BANYAN, SIZES, banyan};

/// Longest time of a demo with few agents on a machine that is busy.
const DEMO_MAX: Duration = Duration::from_secs(300);

/// A small demo whose temporary directory is in this one.
fn demo(directory: &Path) -> CommandBuilder {
    let mut command = banyan(directory, &["demo", "--agents", "2", "--seconds", "5"]);
    command.env("TMPDIR", directory);
    command
}

/// Command lines of processes that name this directory.
pub(crate) fn processes_of(directory: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // Processes come and go meanwhile.
        let Ok(line) = fs::read(entry?.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&directory.display().to_string()) {
            found.push(line);
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_leaves_no_old_frame_and_ends_with_a_sentence() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut terminals = Vec::new();
    for (columns, rows) in SIZES {
        terminals.push(Terminal::run(demo(directory.path()), columns, rows)?);
    }
    for terminal in &mut terminals {
        assert_eq!(terminal.ended(DEMO_MAX).await?, 0, "{}", terminal.rows().join("\n"));
        let rows = terminal.rows();
        let (counters, bars): (Vec<_>, Vec<_>) = (
            rows.iter().filter(|row| row.contains(" connections, 0 failed, ")).collect(),
            rows.iter().filter(|row| row.contains("new leaves #")).collect(),
        );
        assert_eq!((counters.len(), bars.len()), (1, 1), "{rows:#?}");
        let text = terminal.text();
        for needed in [
            "every workload has its certificate; traffic starts",
            "rotation 1: draining",
            "the old root is nowhere: not in a bundle, not trusted by a proxy, not under a leaf in use",
            "or the tour in README.md",
        ] {
            assert!(text.contains(needed), "{needed} is missing\n{rows:#?}");
        }
        assert!(
            text.ends_with("the demo succeeded: no connection failed, and the old root is gone"),
            "{rows:#?}"
        );
    }
    assert_eq!(fs::read_dir(directory.path())?.count(), 0, "a directory is left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_all_that_a_demo_started() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (columns, rows) = SIZES[0];
    let mut terminal = Terminal::run(demo(directory.path()), columns, rows)?;
    terminal.until("traffic", SOON, |text| text.contains("0 failed")).await?;
    assert_eq!(processes_of(directory.path())?.len(), 1, "its CA runs");
    terminal.press("\x03")?;
    assert_eq!(terminal.ended(SOON).await?, 130, "{}", terminal.rows().join("\n"));
    let text = terminal.text();
    assert!(text.contains("has stopped its CA and agents"), "{text}");
    assert!(text.ends_with("is removed"), "{text}");
    assert_eq!(processes_of(directory.path())?, Vec::<String>::new());
    assert_eq!(fs::read_dir(directory.path())?.count(), 0, "a directory is left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_while_a_demo_starts_leaves_nothing_either() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (columns, rows) = SIZES[0];
    let mut terminal = Terminal::run(demo(directory.path()), columns, rows)?;
    terminal.until("the first line", SOON, |text| text.contains("starting the CA")).await?;
    terminal.press("\x03")?;
    assert_eq!(terminal.ended(SOON).await?, 130, "{}", terminal.rows().join("\n"));
    assert_eq!(processes_of(directory.path())?, Vec::<String>::new());
    assert_eq!(fs::read_dir(directory.path())?.count(), 0, "a directory is left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_with_a_cohort_first_shows_that_it_grew_and_nothing_fails() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut command = tokio::process::Command::new(BANYAN);
    command.args(["demo", "--agents", "6", "--seconds", "5", "--canary", "20%", "--json"]);
    command.env("TMPDIR", directory.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(DEMO_MAX, command.output()).await??;
    let (told, said) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    let told = told.lines().last().ok_or_else(|| anyhow::anyhow!("no object, but {said}"))?;
    let told: serde_json::Value = serde_json::from_str(told)?;
    assert_eq!((output.status.code(), &told["failed"]), (Some(0), &0.into()), "{told:#}");
    let canary = &told["canary"];
    assert_eq!((&canary["cohort"], &canary["widened_to"]), (&"20%".into(), &"50%".into()));
    let one = &canary["rotations"][0];
    assert_eq!((&one["widened"], &one["held_for"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!((&one["first_taken"], &one["last_taken"]), (&1.into(), &3.into()), "{told:#}");
    assert!(told["phase_seconds"]["canary"].as_f64() > Some(5.0), "{told:#}");
    assert_eq!(told["old_root_gone"], true);
    Ok(())
}

/// What a demo in which one proxy cannot verify the new root comes to, and its exit code.
async fn with_an_unable_proxy(more: &[&str]) -> anyhow::Result<(i32, serde_json::Value)> {
    let directory = tempfile::tempdir()?;
    let mut command = tokio::process::Command::new(BANYAN);
    command.args(["demo", "--agents", "2", "--seconds", "5", "--json"]);
    command.args(["--algorithm", "p384", "--fault", "unable-proxy"]).args(more);
    command.env("TMPDIR", directory.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(DEMO_MAX, command.output()).await??;
    let (told, said) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    let told = told.lines().last().ok_or_else(|| anyhow::anyhow!("no object, but {said}"))?;
    Ok((output.status.code().unwrap_or(-1), serde_json::from_str(told)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_cannot_verify_the_new_algorithm_is_named_by_the_gate_and_nothing_fails()
-> anyhow::Result<()> {
    let (code, told) = with_an_unable_proxy(&[]).await?;
    assert_eq!((code, &told["failed"]), (0, &0.into()), "{told:#}");
    let unable = &told["unable_proxy"];
    assert_eq!(unable["proxy"], "spiffe://demo.banyan/ns/demo/sa/w02");
    assert_eq!((&unable["named"], &unable["ended"]), (&true.into(), &"upgraded".into()));
    assert_eq!(unable["others_named"], serde_json::json!([]));
    assert_eq!(told["old_root_gone"], true);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_probe_the_same_demo_fails() -> anyhow::Result<()> {
    let (code, told) = with_an_unable_proxy(&["--no-probe"]).await?;
    assert_eq!((code, &told["unable_proxy"]["named"]), (1, &false.into()), "{told:#}");
    assert!(told["failed"].as_u64() > Some(0), "{told:#}");
    Ok(())
}
