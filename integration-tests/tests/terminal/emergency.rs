//! `banyan demo --distrust` and `banyan demo --fault random`: what they claim is in their last line, and what makes no sense is refused by name.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use integration_tests::mesh::SOON;
use integration_tests::pty::Terminal;
use serde_json::Value;

use super::demo::processes_of;
use super::{BANYAN, SIZES, banyan};

/// What a demo ended with.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn demo(directory: &Path, words: &[&str]) -> anyhow::Result<Ended> {
    let mut command = tokio::process::Command::new(BANYAN);
    command.arg("demo").args(words).env("TMPDIR", directory).stdin(Stdio::null());
    let output = command.kill_on_drop(true).output().await?;
    let [out, err] = [output.stdout, output.stderr].map(String::from_utf8);
    Ok(Ended { code: output.status.code(), out: out?, err: err? })
}

impl Ended {
    /// The last line of one that succeeded.
    fn found(&self) -> anyhow::Result<Value> {
        anyhow::ensure!(self.code == Some(0), "{:?}: {} {}", self.code, self.out, self.err);
        Ok(serde_json::from_str(self.out.lines().last().unwrap_or_default())?)
    }
}

fn sum(counted: &Value) -> u64 {
    counted.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_breaks_in_an_emergency_is_who_the_preview_named() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let words = ["--distrust", "--agents", "4", "--csr-only", "1", "--json"];
    let found = demo(directory.path(), &words).await?.found()?;
    for run in ["with_standby", "without_standby"] {
        let run = &found[run];
        // One is out of reach and one asks for itself; each breaks with the three others, both ways.
        assert_eq!(run["preview"]["workloads"], 5, "{found:#}");
        assert_eq!(run["preview"]["reachable"], 3, "{found:#}");
        let stranded = serde_json::json!([
            "spiffe://demo.banyan/ns/demo/sa/csr01",
            "spiffe://demo.banyan/ns/demo/sa/w04"
        ]);
        assert_eq!(run["preview"]["stranded"], stranded, "{found:#}");
        assert_eq!(run["predicted_broken"], 12, "{found:#}");
        assert_eq!(run["observed_broken"], 12, "{found:#}");
        assert_eq!(run["failed"], 0, "{found:#}");
        assert!(run["seconds_to_last_old_leaf"].as_f64().is_some_and(|some| some > 0.0));
    }
    assert_eq!(found["as_predicted"], true, "{found:#}");
    assert_eq!(fs::read_dir(directory.path())?.count(), 0, "a directory is left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faults_that_a_seed_draws_come_and_none_costs_a_connection() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let words = ["--fault", "random", "--seed", "7", "--rotations", "3", "--agents", "4"];
    let few = ["--connections", "300", "--seconds", "5", "--json"];
    let found = demo(directory.path(), &[&words[..], &few].concat()).await?.found()?;
    assert_eq!((&found["failed"], &found["rotations"]), (&0.into(), &3.into()), "{found:#}");
    assert!(found["handshakes"].as_u64().is_some_and(|count| count >= 300), "{found:#}");
    assert_eq!(found["seed"], 7);
    let made = found["faults_made"].as_u64().unwrap_or_default();
    assert_eq!(found["fault_plan"].as_array().map(Vec::len), usize::try_from(made).ok());
    assert!((3..=6).contains(&made), "one or two in each rotation: {found:#}");
    for counted in ["faults_by_kind", "faults_by_phase"] {
        assert_eq!(sum(&found[counted]), made, "{counted}: {found:#}");
    }
    let both = found["faults_by_kind_and_phase"].as_object().into_iter().flatten();
    assert_eq!(both.map(|(_, phases)| sum(phases)).sum::<u64>(), made, "{found:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_do_not_go_together_are_refused_with_what_to_say_instead() -> anyhow::Result<()>
{
    let directory = tempfile::tempdir()?;
    for (words, says) in [
        (&["--seed", "7"][..], "--seed is what `--fault random` draws from"),
        (&["--seed", "7", "--fault", "kill-ca"], "say --fault random, or leave --seed out"),
        (&["--fault", "random", "--fault", "kill-ca"], "name no other fault beside it"),
        (&["--fault", "random", "--rotations", "0"], "say --rotations 1 or more"),
        (
            &["--fault", "restart-proxy", "--envoy"],
            "leave --envoy out, or say --fault freeze-proxy",
        ),
        (&["--distrust", "--agents", "3"], "say --agents 4 or more"),
        (&["--distrust", "--rotations", "2"], "cannot be used with"),
        (&["--distrust", "--envoy"], "cannot be used with"),
        (&["--distrust", "--fault", "kill-ca"], "cannot be used with"),
    ] {
        let ended = demo(directory.path(), words).await?;
        assert_eq!(ended.code, Some(2), "{words:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{words:?}: {}", ended.err);
    }
    assert_eq!(fs::read_dir(directory.path())?.count(), 0, "something was begun");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_the_second_emergency_leaves_nothing() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut command =
        banyan(directory.path(), &["demo", "--distrust", "--agents", "4", "--csr-only", "1"]);
    command.env("TMPDIR", directory.path());
    let (columns, rows) = SIZES[1];
    let mut terminal = Terminal::run(command, columns, rows)?;
    let second = |text: &str| text.contains("without a standby root: starting the mesh");
    terminal.until("the second one", SOON * 4, second).await?;
    terminal.press("\x03")?;
    assert_eq!(terminal.ended(SOON).await?, 130, "{}", terminal.rows().join("\n"));
    assert_eq!(processes_of(directory.path())?, Vec::<String>::new());
    assert_eq!(fs::read_dir(directory.path())?.count(), 0, "a directory is left");
    Ok(())
}
