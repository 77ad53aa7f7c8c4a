//! Attacks without a credential on a server in a process of its own: what offends ends, memory stays bounded, and good
//! clients, health and operators are answered all the time.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use integration_tests::attacks::{Assault, Attack, Files, Victim};
use integration_tests::mesh::eventually;
use integration_tests::untrusted::SOON;
use tokio::time::Instant;

use crate::good_pace;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ca_under_test");
const MIB: u64 = 1024 * 1024;
const GROWTH_MAX: u64 = 128 * MIB;
/// Deadlines at which nobody has to wait for long.
const SHORT: &str = "[limits]\nhandshake_timeout = \"2s\"\nfirst_request_timeout = \"2s\"\nanswer_timeout = \"1s\"\n";
/// Longest time in which an attack ends, on a slow and busy machine.
const ATTACK: Duration = Duration::from_secs(90);

/// When the good have seen enough.
enum Until {
    /// The server has ended so many of its connections.
    Ended(usize),
    /// The server has ended one for this reason.
    CutFor(&'static str),
    /// A while is over.
    Over(Duration),
    /// A caller that is known was granted something, and refused more.
    Refused,
}

/// Serves good clients, old and new, beside an attack. It goes on until its answer is dropped.
async fn withstood(
    victim: &Victim,
    attack: Attack,
    connections: usize,
    until: Until,
) -> anyhow::Result<Assault> {
    let good = victim.good_client().await?;
    let before = victim.memory()?;
    let assault = attack.begin(victim, connections, false)?;
    let began = Instant::now();
    let mut pace = good_pace();
    loop {
        pace.tick().await;
        good.ask().await?;
        somebody_new(victim).await?;
        victim.healthz().await?;
        victim.status().await?;
        let grown = victim.memory()?.saturating_sub(before);
        ensure!(grown < GROWTH_MAX, "{} MiB more after {:?}", grown / MIB, began.elapsed());
        let done = match until {
            Until::Ended(all) => assault.ended() >= all,
            Until::CutFor(reason) => victim.cut_for(reason).await? > 0,
            Until::Over(time) => began.elapsed() > time,
            Until::Refused => matches!(assault.answers(), (1.., 1..)),
        };
        if done {
            return Ok(assault);
        }
        let ended = assault.ended();
        ensure!(
            began.elapsed() < ATTACK,
            "{ended} of {connections} connections were ended in time"
        );
    }
}

/// Somebody new is served. Until it has shown its credential nobody can tell it from those that sit idle, so among many
/// that come at once it may have to connect again, as clients of gRPC do by themselves.
async fn somebody_new(victim: &Victim) -> anyhow::Result<()> {
    let mut last = None;
    let served = async {
        while let Err(error) = victim.good_client().await {
            last = Some(error);
        }
    };
    let served = tokio::time::timeout(SOON, served).await;
    served.map_err(|_| anyhow::anyhow!("nobody new is served: {last:?}"))
}

async fn all_are_ended(attack: Attack, connections: usize) -> anyhow::Result<()> {
    let victim = Victim::start(Path::new(PROGRAM), Files::AsHere, SHORT).await?;
    withstood(&victim, attack, connections, Until::Ended(connections)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_taken_end_their_connections_and_are_not_kept() -> anyhow::Result<()> {
    all_are_ended(Attack::ZeroWindow, 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_not_taken_are_bounded_by_one_budget_before_any_deadline()
-> anyhow::Result<()> {
    // So few that what all of them can open before the first is cut is within what the server may grow by.
    const BUDGET: u64 = 2 * MIB;
    let limits = format!("[limits]\nunsent_bytes = {BUDGET}\nanswer_timeout = \"5m\"\n");
    let victim = Victim::start(Path::new(PROGRAM), Files::AsHere, &limits).await?;
    let all = 30;
    let assault = withstood(&victim, Attack::ZeroWindow, all, Until::CutFor("budget")).await?;
    let within = async || victim.unsent_bytes().await.is_ok_and(|now| (1..=BUDGET).contains(&now));
    eventually("what waits is within the budget", within).await?;
    let only_they = async || victim.cut_for("budget").await.is_ok_and(|cut| cut <= assault.ended());
    eventually("nobody else was cut", only_they).await?;
    ensure!(assault.ended() < all, "no more of them than must be");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_take_no_place_from_whoever_comes() -> anyhow::Result<()> {
    let limits = "[limits]\nconnections = 64\nfirst_request_timeout = \"1h\"\n";
    let victim = Victim::start(Path::new(PROGRAM), Files::AsHere, limits).await?;
    withstood(&victim, Attack::Idle, 200, Until::Ended(136)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_end_by_themselves() -> anyhow::Result<()> {
    all_are_ended(Attack::Idle, 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_1024_files_idle_connections_block_neither_health_nor_operators() -> anyhow::Result<()>
{
    let patient = "[limits]\nfirst_request_timeout = \"1h\"\n";
    let victim = Victim::start(Path::new(PROGRAM), Files::Hard(1_024), patient).await?;
    let conditions = victim.status().await?.conditions;
    ensure!(
        conditions.iter().any(|told| told.contains("raise the limit to 10384")),
        "{conditions:?}"
    );
    withstood(&victim, Attack::Idle, 1_000, Until::Ended(340)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_limit_of_1024_files_is_raised() -> anyhow::Result<()> {
    let limits = "[limits]\nfirst_request_timeout = \"1h\"\nconnections = 1200\n";
    let victim = Victim::start(Path::new(PROGRAM), Files::Soft(1_024), limits).await?;
    let status = victim.status().await?;
    ensure!(status.healthy, "{:?}", status.conditions);
    let (before, mut crowd) = (victim.memory()?, Vec::new());
    for _ in 0..1_100 {
        crowd.push(tokio::time::timeout(SOON, victim.door()()).await??);
    }
    ensure!(victim.files()? > 1_100, "{} files are open", victim.files()?);
    victim.good_client().await?;
    victim.status().await?;
    let grown = victim.memory()?.saturating_sub(before);
    ensure!(grown < GROWTH_MAX, "{} MiB more", grown / MIB);
    victim.healthz().await
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_handshakes_hold_up_nobody_and_end() -> anyhow::Result<()> {
    all_are_ended(Attack::HalfOpen, 1_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_control_frames_end_their_connections() -> anyhow::Result<()> {
    for attack in [Attack::Pings, Attack::Settings, Attack::WindowUpdates] {
        all_are_ended(attack, 10).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn large_headers_without_a_credential_are_read_at_a_bounded_rate() -> anyhow::Result<()> {
    let victim = Victim::start(Path::new(PROGRAM), Files::AsHere, SHORT).await?;
    let began = Instant::now();
    let assault =
        withstood(&victim, Attack::LargeHeaders, 4, Until::Over(Duration::from_secs(3))).await?;
    let bytes = assault.bytes();
    // A burst of 1 MiB and 256 KiB a second, and what the kernel's buffers on both sides take.
    let taken = MIB + 256 * 1024 * (began.elapsed().as_secs() + 1) + 8 * MIB;
    ensure!(bytes < 4 * taken, "{} MiB were taken from four connections", bytes / MIB);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_at_full_speed_is_refused_registrations_and_leaves_and_nobody_else_is()
-> anyhow::Result<()> {
    let victim =
        Victim::start(Path::new(PROGRAM), Files::AsHere, "[limits]\nleaves_per_second = 20\n")
            .await?;
    for attack in [Attack::Registrations, Attack::Rows] {
        withstood(&victim, attack, 4, Until::Refused).await?.stop().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_says_what_would_be_logged_at_full_speed_holds_up_nobody()
-> anyhow::Result<()> {
    let victim = Victim::start(Path::new(PROGRAM), Files::AsHere, "").await?;
    let assault =
        withstood(&victim, Attack::LogStorm, 4, Until::Over(Duration::from_secs(3))).await?;
    eventually("much was said", async || assault.bytes() > 1_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_to_the_plain_port_block_neither_health_nor_metrics()
-> anyhow::Result<()> {
    let victim = Victim::start(Path::new(PROGRAM), Files::AsHere, "").await?;
    withstood(&victim, Attack::PlainIdle, 300, Until::Ended(300)).await?;
    victim.get("/metrics").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_log_that_stalls_does_not_stop_the_server() -> anyhow::Result<()> {
    // Nobody reads the child's standard error: a pipe takes 64 KiB, and at this level every request writes some.
    let victim =
        Victim::start(Path::new(PROGRAM), Files::AsHere, "[log]\nfilter = \"debug\"\n").await?;
    let good = victim.good_client().await?;
    let served = async {
        for _ in 0..300 {
            good.ask().await?;
        }
        victim.healthz().await
    };
    tokio::time::timeout(SOON * 3, served).await?
}
