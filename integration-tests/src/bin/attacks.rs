//! Measures what a good client notices of each attack: `attacks [NAME]...`. Three times each: quiet, under the attack,
//! and under a pure burn of as much CPU as the attack cost on this machine. Prints a table, and the figures as one line of
//! JSON at the end. Started by `cargo xtask attacks`, which builds it and the programs that it attacks beside it.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use integration_tests::attacks::victim::cpu_of;
use integration_tests::attacks::{
    AgentVictim, Assault, Attack, Files, GoodClient, Intruders, SocketAttack, Victim,
};
use serde::Serialize;
use tokio::time::Instant;

/// How long each figure is counted.
const COUNTED: Duration = Duration::from_secs(3);
/// Pause between requests of the good client, so that it is not the load itself.
const PAUSE: Duration = Duration::from_millis(2);
/// A thread that burns a part of a CPU does so in pieces of this length.
const PIECE: Duration = Duration::from_millis(10);
/// How many times the 99th percentile under the burn that under the attack may be.
const AIM: f64 = 3.0;
/// A server that logs as usual; `ca_under_test` logs only where the filter is not the default one.
const LOG: &str = "[log]\nfilter = \"info,h2=off,hyper=off,rustls=off\"\n";
/// Agents that one caller may have, and its leaves at once and for each second: the defaults.
const AGENTS_MAX: u64 = 16;
const LEAVES_AT_ONCE: u64 = 2_000;
const LEAVES_PER_SECOND: u64 = 100;
/// Bytes of log that a storm may cause in each second.
const LOG_PER_SECOND_MAX: u64 = 64 * 1024;

/// What is attacked, and what a good client of it sees.
enum Target {
    Ca(Box<Victim>, Option<Box<GoodClient>>),
    Agent(Box<AgentVictim>),
}

/// One attack.
#[derive(Clone, Copy)]
enum Case {
    Ca(Attack),
    Socket(SocketAttack),
}

/// What a good client saw, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Seen {
    p50_us: u64,
    p99_us: u64,
    requests: usize,
}

/// One attack, measured.
#[derive(Debug, Serialize)]
struct Row {
    attack: &'static str,
    connections: usize,
    quiet: Seen,
    burn: Seen,
    attacked: Seen,
    cores: f64,
    memory_mib: u64,
    files: usize,
    ended: usize,
    granted: u64,
    refused: u64,
    log_bytes_per_second: u64,
    within_aim: bool,
    /// A bound that did not hold.
    broken: Option<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let all = Attack::ALL.map(Case::Ca).into_iter().chain(SocketAttack::ALL.map(Case::Socket));
    let is_wanted = |case: &Case| {
        wanted.is_empty() || wanted.iter().any(|part| case.name().contains(part.as_str()))
    };
    let (cases, others): (Vec<_>, Vec<_>) = all.partition(is_wanted);
    let names: Vec<_> = others.iter().map(|case| case.name()).collect();
    ensure!(!cases.is_empty(), "no attack is named like {wanted:?}; there are: {names:?}");
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    println!(
        "{:<38}{:>20}{:>20}{:>20}{:>6}{:>6}{:>6}{:>7}{:>9}{:>9}{:>10}",
        "attack",
        "quiet p50/p99 ms",
        "burn p50/p99 ms",
        "attack p50/p99 ms",
        "cores",
        "MiB",
        "files",
        "ended",
        "granted",
        "refused",
        "log B/s"
    );
    for case in cases {
        match measure(case).await {
            Ok(row) => {
                print(&row);
                failed
                    .extend(row.broken.as_ref().map(|broken| format!("{}: {broken}", row.attack)));
                rows.push(row);
            }
            Err(error) => {
                println!("{:<38}{error:#}", case.name());
                failed.push(format!("{}: {error:#}", case.name()));
            }
        }
    }
    let within = rows.iter().filter(|row| row.within_aim).count();
    let figures = serde_json::json!({ "attacks": rows, "aim": AIM, "within": within, "of": rows.len(), "failed": failed });
    println!("{}", serde_json::to_string(&figures)?);
    ensure!(failed.is_empty(), "{} attacks were not withstood", failed.len());
    Ok(())
}

fn print(row: &Row) {
    let ms = |seen: Seen| {
        let [p50, p99] =
            [seen.p50_us, seen.p99_us].map(|us| Duration::from_micros(us).as_secs_f64() * 1e3);
        format!("{p50:.1} / {p99:.1}")
    };
    println!(
        "{:<38}{:>20}{:>20}{:>20}{:>6.1}{:>6}{:>6}{:>7}{:>9}{:>9}{:>10}",
        row.attack,
        ms(row.quiet),
        ms(row.burn),
        ms(row.attacked),
        row.cores,
        row.memory_mib,
        row.files,
        row.ended,
        row.granted,
        row.refused,
        row.log_bytes_per_second
    );
}

async fn measure(case: Case) -> anyhow::Result<Row> {
    let mut target = case.target().await?;
    let quiet_cpu = (target.cpu()?, cpu_of("self")?);
    let quiet = target.served().await?;
    let quiet_cpu = target.cpu()? - quiet_cpu.0 + cpu_of("self")? - quiet_cpu.1;

    let (log, before) = (target.log_bytes(), (target.cpu()?, cpu_of("self")?, Instant::now()));
    let under = case.begin(&target).await?;
    let attacked = target.served().await?;
    let (memory, files, took) = (target.memory()?, target.files()?, before.2.elapsed());
    let (ended, (granted, refused)) = under.counted();
    let broken = target.broken(case, granted, took).await?;
    let cpu = target.cpu()? - before.0 + cpu_of("self")? - before.1;
    let log = target.log_bytes() - log;
    under.stop().await;

    let cores = cpu.saturating_sub(quiet_cpu).as_secs_f64() / took.as_secs_f64();
    let fire = Fire::light(cores);
    let burn = target.served().await?;
    drop(fire);
    Ok(Row {
        attack: case.name(),
        connections: case.connections(),
        quiet,
        burn,
        attacked,
        cores,
        memory_mib: memory / (1024 * 1024),
        files,
        ended,
        granted,
        refused,
        log_bytes_per_second: log / took.as_secs().max(1),
        within_aim: micros(attacked.p99_us) <= AIM * micros(burn.p99_us),
        broken,
    })
}

fn micros(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

/// An attack under way.
enum Under {
    Ca(Assault),
    Agent(Box<Intruders>),
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Ca(attack) => attack.name(),
            Self::Socket(attack) => attack.name(),
        }
    }

    fn connections(self) -> usize {
        match self {
            Self::Ca(attack) => attack.connections(),
            Self::Socket(attack) => attack.connections(),
        }
    }

    async fn target(self) -> anyhow::Result<Target> {
        Ok(match self {
            Self::Ca(_) => {
                let victim = Victim::start(&built("ca_under_test")?, Files::AsHere, LOG).await?;
                Target::Ca(Box::new(victim.with_log_read()?), None)
            }
            Self::Socket(_) => {
                let (server, banyan) = (built("ca_under_test")?, built("banyan_under_test")?);
                Target::Agent(Box::new(AgentVictim::start(&server, &banyan).await?))
            }
        })
    }

    async fn begin(self, target: &Target) -> anyhow::Result<Under> {
        match (self, target) {
            (Self::Ca(attack), Target::Ca(victim, _)) => {
                Ok(Under::Ca(attack.begin(victim, attack.connections(), true)?))
            }
            (Self::Socket(attack), Target::Agent(victim)) => {
                Ok(Under::Agent(Box::new(attack.begin(victim).await?)))
            }
            _ => anyhow::bail!("{} is not for this target", self.name()),
        }
    }
}

impl Under {
    /// Connections that were ended, and requests that were granted and refused.
    fn counted(&self) -> (usize, (u64, u64)) {
        match self {
            Self::Ca(assault) => (assault.ended(), assault.answers()),
            Self::Agent(_) => (0, (0, 0)),
        }
    }

    async fn stop(self) {
        match self {
            Self::Ca(assault) => assault.stop().await,
            // They end when they are dropped.
            Self::Agent(intruders) => drop(intruders),
        }
    }
}

impl Target {
    /// What a good client sees, for a while: on one connection of a CA, on a new one each time at an agent's socket.
    async fn served(&mut self) -> anyhow::Result<Seen> {
        if let Self::Ca(victim, good) = self {
            *good = Some(Box::new(victim.good_client().await?));
        }
        let (mut times, began) = (Vec::new(), Instant::now());
        while began.elapsed() < COUNTED {
            times.push(u64::try_from(self.ask().await?.as_micros())?);
            tokio::time::sleep(PAUSE).await;
        }
        times.sort_unstable();
        let at = |part: usize| {
            times.get((times.len() * part / 100).min(times.len() - 1)).copied().unwrap_or(0)
        };
        Ok(Seen { p50_us: at(50), p99_us: at(99), requests: times.len() })
    }

    async fn ask(&self) -> anyhow::Result<Duration> {
        match self {
            Self::Ca(_, good) => good.as_ref().context("no good client")?.ask().await,
            Self::Agent(victim) => victim.ask().await,
        }
    }

    /// The bound that an attack broke, if one.
    async fn broken(
        &self,
        case: Case,
        granted: u64,
        took: Duration,
    ) -> anyhow::Result<Option<String>> {
        let Self::Ca(victim, _) = self else { return Ok(None) };
        let status = victim.status().await?;
        let leaves = LEAVES_AT_ONCE + LEAVES_PER_SECOND * (took.as_secs() + 1);
        let log = LOG_PER_SECOND_MAX * (took.as_secs() + 1);
        Ok(match case {
            Case::Ca(Attack::Registrations) if status.agents_total > AGENTS_MAX => {
                Some(format!("{} agents of one caller are registered", status.agents_total))
            }
            Case::Ca(Attack::Rows) if granted > leaves => {
                Some(format!("one caller got {granted} leaves in {took:?}"))
            }
            Case::Ca(Attack::LogStorm) if victim.log_bytes() > log => {
                Some(format!("{} bytes of log in {took:?}", victim.log_bytes()))
            }
            _ => None,
        })
    }

    fn log_bytes(&self) -> u64 {
        match self {
            Self::Ca(victim, _) => victim.log_bytes(),
            Self::Agent(_) => 0,
        }
    }

    fn memory(&self) -> anyhow::Result<u64> {
        match self {
            Self::Ca(victim, _) => victim.memory(),
            Self::Agent(victim) => victim.memory(),
        }
    }

    fn files(&self) -> anyhow::Result<usize> {
        match self {
            Self::Ca(victim, _) => victim.files(),
            Self::Agent(victim) => victim.files(),
        }
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        match self {
            Self::Ca(victim, _) => victim.cpu(),
            Self::Agent(victim) => victim.cpu(),
        }
    }
}

/// A program beside this one.
fn built(name: &str) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name);
    ensure!(
        program.is_file(),
        "{} is not built: start this by `cargo xtask attacks`",
        program.display()
    );
    Ok(program)
}

/// Threads that use so much of the machine's CPUs.
struct Fire(Arc<AtomicBool>);

impl Fire {
    fn light(cores: f64) -> Self {
        let out = Arc::new(AtomicBool::new(false));
        let mut left = cores;
        while left > 0.01 {
            let (out, share) = (Arc::clone(&out), left.min(1.0));
            left -= share;
            std::thread::spawn(move || {
                while !out.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    while began.elapsed() < PIECE.mul_f64(share) {
                        std::hint::spin_loop();
                    }
                    std::thread::sleep(PIECE.mul_f64(1.0 - share));
                }
            });
        }
        Self(out)
    }
}

impl Drop for Fire {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
