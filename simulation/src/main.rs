//! Runs seeds: `simulation A..B [--trace] [--for SECONDS]`, as `cargo xtask simulate` does.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use host::SystemClock;
use simulation::{Counts, Options, run};
use trust::Clock as _;

/// What is asked for.
struct Asked {
    from: u64,
    until: u64,
    trace: bool,
    /// No seed is begun after this time.
    within: Option<Duration>,
}

fn asked(arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { from: 0, until: 0, trace: false, within: None };
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--trace" => asked.trace = true,
            "--for" => {
                let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());
                let seconds = seconds.ok_or("--for takes a number of seconds")?;
                asked.within = Some(Duration::from_secs(seconds));
            }
            range => {
                let ends = range.split_once("..");
                let ends = ends.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                (asked.from, asked.until) = ends
                    .ok_or_else(|| format!("\"{range}\" is no range of seeds such as 0..1000"))?;
            }
        }
    }
    match asked.from < asked.until {
        true => Ok(asked),
        false => Err("name a range of seeds, such as 0..1000".to_owned()),
    }
}

fn main() -> ExitCode {
    let asked = match asked(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let threads = match asked.trace {
        true => 1,
        false => thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let next = AtomicU64::new(asked.from);
    let runs = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&asked, &next))).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Result<Vec<_>, _>>()
    });
    match runs {
        Ok(runs) => figure(runs),
        // It was printed when it happened.
        Err(_) => ExitCode::FAILURE,
    }
}

/// What one thread ran.
#[derive(Default)]
struct Ran {
    seeds: u64,
    failed: u64,
    counts: Counts,
}

/// Runs one seed after the other, until there is none or the time is over.
fn work(asked: &Asked, next: &AtomicU64) -> Ran {
    let (mut ran, began) = (Ran::default(), SystemClock.uptime());
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let late = asked.within.is_some_and(|within| SystemClock.uptime() - began > within);
        if seed >= asked.until || late {
            return ran;
        }
        ran.seeds += 1;
        let violation = match run(seed, Options { trace: asked.trace, ..Options::default() }) {
            Ok(outcome) => {
                ran.counts.add(outcome.counts);
                outcome.violation
            }
            Err(error) => Some(format!("the runtime cannot be made: {error}")),
        };
        if let Some(violation) = violation {
            ran.failed += 1;
            let (next, command) = (seed + 1, "cargo xtask simulate --seeds");
            println!("seed {seed}: {violation}\n  replay: {command} {seed}..{next} --trace");
        }
    }
}

/// Prints what came of all, and says whether all held.
fn figure(runs: Vec<Ran>) -> ExitCode {
    let mut total = Ran::default();
    for ran in runs {
        total.seeds += ran.seeds;
        total.failed += ran.failed;
        total.counts.add(ran.counts);
    }
    let Ran { seeds, failed, counts } = total;
    let Counts { steps, crashes, partitions, rotations, handshakes, leaves } = counts;
    println!(
        "simulate: {seeds} seeds, {failed} failed, {steps} steps, {crashes} crashes, {partitions} partitions, {rotations} \
         rotations ended, {leaves} leaves, {handshakes} handshakes"
    );
    match failed == 0 && seeds > 0 {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
