//! Measures what a good client notices of each attack: `attacks [NAME]...`. Three times each: quiet, under the attack,
//! and under a pure burn of as much CPU as the attack cost on this machine. Prints a table, and the figures as one line of
//! JSON at the end. Started by `cargo xtask attacks`, which builds it and the server beside it.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use integration_tests::attacks::victim::cpu_of;
use integration_tests::attacks::{Attack, Files, Victim};
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

/// What a good client saw, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Seen {
    p50_us: u64,
    p99_us: u64,
    requests: usize,
}

/// One attack.
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
    within_aim: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let attacks = Attack::ALL.into_iter().filter(|attack| {
        wanted.is_empty() || wanted.iter().any(|part| attack.name().contains(part.as_str()))
    });
    let attacks: Vec<_> = attacks.collect();
    ensure!(
        !attacks.is_empty(),
        "no attack is named like {wanted:?}; there are: {:?}",
        Attack::ALL.map(Attack::name)
    );
    let mut rows = Vec::new();
    println!(
        "{:<38}{:>22}{:>22}{:>22}{:>7}{:>8}{:>7}{:>7}",
        "attack",
        "quiet p50/p99 ms",
        "burn p50/p99 ms",
        "attack p50/p99 ms",
        "cores",
        "MiB",
        "files",
        "ended"
    );
    for attack in attacks {
        let row = measure(attack).await.with_context(|| format!("attack: {}", attack.name()))?;
        let ms = |seen: Seen| {
            let [p50, p99] =
                [seen.p50_us, seen.p99_us].map(|us| Duration::from_micros(us).as_secs_f64() * 1e3);
            format!("{p50:.1} / {p99:.1}")
        };
        println!(
            "{:<38}{:>22}{:>22}{:>22}{:>7.1}{:>8}{:>7}{:>7}",
            row.attack,
            ms(row.quiet),
            ms(row.burn),
            ms(row.attacked),
            row.cores,
            row.memory_mib,
            row.files,
            row.ended
        );
        rows.push(row);
    }
    println!("{}", serde_json::to_string(&serde_json::json!({ "attacks": rows, "aim": AIM }))?);
    Ok(())
}

async fn measure(attack: Attack) -> anyhow::Result<Row> {
    let victim = Victim::start(&server()?, Files::AsHere, "").await?;
    let quiet_cpu = (victim.cpu()?, cpu_of("self")?);
    let quiet = served(&victim).await?;
    let quiet_cpu = victim.cpu()? - quiet_cpu.0 + cpu_of("self")? - quiet_cpu.1;

    let connections = attack.connections();
    let before = (victim.cpu()?, cpu_of("self")?, Instant::now());
    let assault = attack.begin(&victim, connections, true);
    let attacked = served(&victim).await?;
    let (memory, files, ended) = (victim.memory()?, victim.files()?, assault.ended());
    let cpu = victim.cpu()? - before.0 + cpu_of("self")? - before.1;
    let took = before.2.elapsed();
    assault.stop().await;

    let cores = cpu.saturating_sub(quiet_cpu).as_secs_f64() / took.as_secs_f64();
    let fire = Fire::light(cores);
    let burn = served(&victim).await?;
    drop(fire);
    let within_aim = micros(attacked.p99_us) <= AIM * micros(burn.p99_us);
    let memory_mib = memory / (1024 * 1024);
    let attack = attack.name();
    Ok(Row { attack, connections, quiet, burn, attacked, cores, memory_mib, files, ended, within_aim })
}

fn micros(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

/// What a good client sees, on one connection, for a while.
async fn served(victim: &Victim) -> anyhow::Result<Seen> {
    let good = victim.good_client().await?;
    let (mut times, began) = (Vec::new(), Instant::now());
    while began.elapsed() < COUNTED {
        times.push(u64::try_from(good.ask().await?.as_micros())?);
        tokio::time::sleep(PAUSE).await;
    }
    times.sort_unstable();
    let at = |part: usize| times.get((times.len() * part / 100).min(times.len() - 1)).copied().unwrap_or(0);
    Ok(Seen { p50_us: at(50), p99_us: at(99), requests: times.len() })
}

fn server() -> anyhow::Result<PathBuf> {
    let server = std::env::current_exe()?.with_file_name("ca_under_test");
    ensure!(server.is_file(), "{} is not built: start this by `cargo xtask attacks`", server.display());
    Ok(server)
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
