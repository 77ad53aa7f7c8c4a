//! The state of a CA is restored from a backup: broken off, for several servers at once, and while the store is away.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use integration_tests::replicas::{LEASE, Plan, Trio};
use integration_tests::support::{SOON, eventually};
use stores_peers::Line;
use tokio::time::Instant;

use super::ROTATION_MAX;

/// How long the store takes for an answer, so that a restore is met half way.
const SLOW: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(2);
/// What probes are told of a start that waits.
const WAITS: &str = "waits for the store of the CA's state";

pub(crate) async fn a_restore_that_is_killed_anywhere_goes_on_when_it_is_run_again_and_no_server_starts_in_between(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let restore = Restore::of(&mut trio).await?;
    trio.at(0)?.line(Line::Slow(SLOW)).await?;
    for writes in [1, 3, 9] {
        restore.killed_after(&trio, writes).await?;
        trio.server(1)?.start()?;
        let (ended, log) = (trio.server(1)?.ended().await?, trio.at(1)?.log_tail());
        let said = "is not over: run the same `banyan state restore` again";
        ensure!(!ended.success() && log.contains(said), "after {writes} writes: {log}");
    }
    trio.at(0)?.line(Line::Up).await?;
    let said = restore.whole(&trio).await?;
    ensure!(said.contains("restored "), "{said}");
    recovered_by_all(&mut trio).await?;
    rotates(&trio).await?;
    trio.judged().await.map(drop)
}

pub(crate) async fn servers_that_start_at_once_on_a_restored_state_count_what_was_lost_once_and_all_come_up(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let restore = Restore::of(&mut trio).await?;
    restore.whole(&trio).await?;
    recovered_by_all(&mut trio).await?;
    rotates(&trio).await?;
    trio.judged().await.map(drop)
}

pub(crate) async fn a_start_on_a_restored_state_waits_for_a_store_that_is_away_slow_and_away_again_and_ends_by_itself(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    Restore::of(&mut trio).await?.whole(&trio).await?;
    trio.etcd.stop();
    let before = trio.at(0)?.joined();
    for server in &mut trio.servers {
        server.line(Line::Slow(SLOW * 10)).await?;
        server.start()?;
    }
    told_to_probes(&trio).await?;
    trio.etcd.run()?;
    // It has begun what an end of the process would break off.
    let begun = || async { trio.at(0).is_ok_and(|server| server.joined() > before) };
    eventually("it has joined the servers", begun).await?;
    trio.etcd.stop();
    told_to_probes(&trio).await?;
    trio.etcd.run()?;
    for server in &mut trio.servers {
        server.ready().await?;
        server.line(Line::Up).await?;
    }
    recovered_once(&trio).await?;
    rotates(&trio).await?;
    trio.judged().await.map(drop)
}

/// A restore of a backup in the place of the state that it was made of.
struct Restore {
    file: PathBuf,
    /// How the state is named that is replaced.
    replaces: String,
}

impl Restore {
    /// Makes a backup, and stops all servers.
    async fn of(trio: &mut Trio) -> anyhow::Result<Self> {
        let file = trio.at(0)?.home().join("backup");
        let named = file.to_str().context("no text")?.to_owned();
        let (done, said) = trio.at(0)?.banyan(&["state", "backup", &named]).await?;
        ensure!(done, "{said}");
        for server in &mut trio.servers {
            server.stop().await?;
        }
        let refused = trio.at(0)?.offline(&["state", "restore", &named]).output().await?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let word = said.split("--replace ").nth(1).and_then(|rest| rest.split('`').next());
        let replaces = word.with_context(|| said.clone())?.to_owned();
        Ok(Self { file, replaces })
    }

    fn command(&self, trio: &Trio) -> anyhow::Result<tokio::process::Command> {
        let file = self.file.to_str().context("no text")?;
        let words = ["state", "restore", file, "--replace", &self.replaces];
        Ok(trio.at(0)?.offline(&words))
    }

    /// Kills it after so many writes.
    async fn killed_after(&self, trio: &Trio, writes: u64) -> anyhow::Result<()> {
        let from = revision(trio)?;
        let mut command = self.command(trio)?;
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let since = Instant::now();
        while revision(trio)? < from + writes {
            let ended = running.try_wait()?;
            ensure!(ended.is_none(), "it was over before {writes} writes: {ended:?}");
            ensure!(since.elapsed() < SOON, "it writes nothing");
            tokio::time::sleep(LOOK).await;
        }
        Ok(running.kill().await?)
    }

    /// Runs it to its end; answers with what it says.
    async fn whole(&self, trio: &Trio) -> anyhow::Result<String> {
        let output = tokio::time::timeout(SOON, self.command(trio)?.output()).await??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }
}

/// Counted up by each write.
fn revision(trio: &Trio) -> anyhow::Result<u64> {
    Ok(trio.etcd.number("/v3/kv/range", "{\"key\":\"AA==\"}", "revision")?.parse()?)
}

/// All are started at once and come up, none of them twice, and what was lost is counted once.
async fn recovered_by_all(trio: &mut Trio) -> anyhow::Result<()> {
    for server in &mut trio.servers {
        server.start()?;
    }
    for server in &mut trio.servers {
        server.ready().await?;
    }
    recovered_once(trio).await
}

async fn recovered_once(trio: &Trio) -> anyhow::Result<()> {
    let record = trio.at(0)?.verified().await?;
    let lost = record.segments.keys().filter(|id| id.as_str().starts_with("lost-g"));
    let lost: Vec<_> = lost.collect();
    ensure!(lost.len() == 1, "{lost:?}");
    Ok(())
}

async fn told_to_probes(trio: &Trio) -> anyhow::Result<()> {
    for server in &trio.servers {
        let told = || async {
            let said = server.probed().await.unwrap_or_default();
            said.starts_with("HTTP/1.1 503") && said.contains(WAITS)
        };
        eventually("a probe is told what is waited for", told).await?;
    }
    Ok(())
}

async fn rotates(trio: &Trio) -> anyhow::Result<()> {
    let since = Instant::now();
    trio.rotate(1, "after-a-restore").await?;
    trio.over("after-a-restore", since, ROTATION_MAX + LEASE).await
}
