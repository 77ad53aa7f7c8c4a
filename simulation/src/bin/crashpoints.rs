//! Fails each durable operation of a rotation once, in each way: `crashpoints [--servers N] [--every K] [--trace AT FAILURE]`, as
//! `cargo xtask crashpoints` does.
//!
//! A run without a fault tells how many operations there are, on the disks of the servers and in their store, from the first start
//! of a CA to the end of its first rotation. Then there is a run for each of them and each way to fail: everything must come to rest by
//! itself, another rotation must run through, and every rule of the observer must hold.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use simulation::{Failure, Options, Outcome, Point, Quiet, run};

/// Who stands beside the servers, and how long things take, is the same in all runs.
const SEED: u64 = 1;

/// What is asked for.
struct Asked {
    servers: usize,
    every: usize,
    trace: Option<Point>,
}

fn asked(arguments: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { servers: 1, every: 1, trace: None };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<usize, String> {
            let number = arguments.next().and_then(|number| number.parse().ok());
            number.filter(|number| *number > 0).ok_or(format!("{argument} takes a number above 0"))
        };
        match argument.as_str() {
            "--servers" => asked.servers = number()?,
            "--every" => asked.every = number()?,
            "--trace" => {
                let at = arguments.next().and_then(|at| at.parse().ok());
                let name = arguments.next().unwrap_or_default();
                let failure = Failure::ALL.into_iter().find(|failure| failure.name() == name);
                asked.trace = at.zip(failure).map(|(at, failure)| Point { at, failure });
                if asked.trace.is_none() {
                    let names: Vec<_> = Failure::ALL.into_iter().map(Failure::name).collect();
                    return Err(format!(
                        "--trace takes the number of an operation and one of {}",
                        names.join(", ")
                    ));
                }
            }
            other => return Err(format!("there is no option {other}")),
        }
    }
    Ok(asked)
}

fn quiet(servers: usize, point: Option<Point>, trace: bool) -> Result<Outcome, String> {
    let options = Options { quiet: Some(Quiet { servers, point }), trace, ..Options::default() };
    run(SEED, options).map_err(|error| format!("the runtime cannot be made: {error}"))
}

fn main() -> ExitCode {
    match asked(std::env::args().skip(1)).and_then(|asked| all(&asked)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs what is asked for; whether all ended as they must.
fn all(asked: &Asked) -> Result<bool, String> {
    if let Some(point) = asked.trace {
        let outcome = quiet(asked.servers, Some(point), true)?;
        return Ok(outcome.violation.is_none());
    }
    let without = quiet(asked.servers, None, false)?;
    if let Some(violation) = without.violation {
        return Err(format!("without any fault: {violation}"));
    }
    let points: Vec<_> = (0..without.operations)
        .step_by(asked.every)
        .flat_map(|at| Failure::ALL.map(|failure| Point { at, failure }))
        .collect();
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let failed: Vec<_> = thread::scope(|scope| {
        let work = || work(asked.servers, &points, &next);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Result<Vec<_>, _>>()
    })
    // It was printed when it happened.
    .map_err(|_| "a thread broke off".to_owned())?
    .concat();
    figure(asked, without.operations, &points, &failed);
    Ok(failed.is_empty())
}

/// Runs one point after the other until there is none; those that did not end as they must.
fn work(servers: usize, points: &[Point], next: &AtomicUsize) -> Vec<Point> {
    let mut failed = Vec::new();
    while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
        let violation = match quiet(servers, Some(*point), false) {
            Ok(outcome) => outcome.violation,
            Err(error) => Some(error),
        };
        if let Some(violation) = violation {
            let (at, failure) = (point.at, point.failure.name());
            println!(
                "operation {at}, {failure}: {violation}\n  replay: cargo xtask crashpoints --servers {servers} --trace {at} {failure}"
            );
            failed.push(*point);
        }
    }
    failed
}

fn figure(asked: &Asked, operations: u64, points: &[Point], failed: &[Point]) {
    let Asked { servers, every, .. } = asked;
    for failure in Failure::ALL {
        let of = |points: &[Point]| points.iter().filter(|point| point.failure == failure).count();
        println!("{:<14}{}/{}", failure.name(), of(points) - of(failed), of(points));
    }
    println!(
        "crashpoints: {}/{}, {servers} server{}, {operations} durable operations, every {every}. one, {} failures each",
        points.len() - failed.len(),
        points.len(),
        if *servers == 1 { "" } else { "s" },
        Failure::ALL.len()
    );
}
