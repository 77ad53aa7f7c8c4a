//! Every test of the workspace, several of its programs at a time: most of them wait for clocks, disks and other programs, and one
//! after another they leave a machine of two cores idle for half of the time.
//!
//! ```text
//! cargo test --no-run -> 1. those with API servers, one by one       what each printed, whole, when it has ended
//!                        2. the others, two at a time
//!                        3. those that measure, each alone
//!                        beside 1 and 2: further commands, at the     what they print, at once
//!                        lowest priority
//! ```

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::process;

mod programs;

use programs::Program;

/// They start API servers, which keep the machine busy: nothing runs beside one of these programs.
const WITH_API_SERVERS: [&str; 4] = ["chart", "kubernetes", "clusters", "cert_manager"];

/// How many of the others run at a time.
const LANES: usize = 2;

/// Those of the others that take longest, the longest first: one that began last would run alone at the end.
const LONGEST: [&str; 9] =
    ["replicas", "chain", "tiers", "rotation", "state", "xtask", "faults", "envoy", "remote"];

/// They measure time, or use the ports that are written in `README.md`.
const ALONE: [&str; 4] = ["throughput", "limits", "quiet", "tour"];

/// How something went.
struct Ran {
    what: String,
    took: Duration,
    failure: Option<String>,
}

/// What ran so far.
#[derive(Default)]
struct Account(Mutex<Vec<Ran>>);

/// Runs every program of tests, and further commands beside them, one after another.
///
/// # Errors
/// If the tests do not build, or if something failed: all of it is named, and the rest ran nevertheless.
pub(crate) fn run(root: &Path, further: Vec<Command>) -> anyhow::Result<()> {
    let outputs = process::target(root).join("test-output");
    fs::create_dir_all(&outputs).with_context(|| format!("create {}", outputs.display()))?;
    let (alone, together) = apart(programs::build(root)?, &ALONE);
    let (servers, others) = apart(together, &WITH_API_SERVERS);
    let (longest, others) = apart(others, &LONGEST);
    let others = Mutex::new(longest.into_iter().chain(others).collect::<VecDeque<_>>());
    let next = || others.lock().ok().and_then(|mut others| others.pop_front());

    let account = Account::default();
    let judge = |program: Program| {
        account.take(&program.title(), || carry_out(root, &program, &outputs));
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for command in further {
                let mut command = process::yielding(&command);
                account.take(&process::shown(&command), || process::run_shown(&mut command));
            }
        });
        servers.into_iter().for_each(judge);
        for _ in 0..LANES {
            scope.spawn(|| std::iter::from_fn(next).for_each(judge));
        }
    });
    alone.into_iter().for_each(judge);
    account.close()
}

/// Those with one of these names, in their order, and the rest as it was.
fn apart(programs: Vec<Program>, names: &[&str]) -> (Vec<Program>, Vec<Program>) {
    let place = |program: &Program| names.iter().position(|name| *name == program.name);
    let (mut named, rest): (Vec<_>, Vec<_>) =
        programs.into_iter().partition(|program| place(program).is_some());
    named.sort_by_key(place);
    (named, rest)
}

/// Runs one program, and prints what it printed when it has ended.
fn carry_out(root: &Path, program: &Program, outputs: &Path) -> anyhow::Result<()> {
    // A file and no pipe: a server that a failed test left behind holds its output open.
    let path = outputs.join(program.file_name()).with_extension("txt");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let mut command = program.command(root);
    command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file);
    let status = command.status().with_context(|| format!("start {}", program.title()))?;
    let printed = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let mut shown = io::stdout().lock();
    writeln!(shown, "     Running {}", program.title())?;
    shown.write_all(&printed)?;
    drop(shown);
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}

impl Account {
    /// Does something, and notes how it went.
    #[expect(clippy::disallowed_methods, reason = "how long it took is told, and decides nothing")]
    fn take(&self, what: &str, work: impl FnOnce() -> anyhow::Result<()>) {
        let began = Instant::now();
        let failure = work().err().map(|error| format!("{error:#}"));
        let ran = Ran { what: what.to_owned(), took: began.elapsed(), failure };
        if let Ok(mut all) = self.0.lock() {
            all.push(ran);
        }
    }

    /// Says how long each took, the longest first, and names what failed.
    fn close(self) -> anyhow::Result<()> {
        let mut all =
            self.0.into_inner().map_err(|_| anyhow::anyhow!("a lane of tests panicked"))?;
        all.sort_by_key(|ran| std::cmp::Reverse(ran.took));
        for ran in &all {
            let outcome = if ran.failure.is_some() { "FAILED" } else { "ok" };
            println!("{:>6} s  {outcome:<6}  {}", ran.took.as_secs(), ran.what);
        }
        let failed: Vec<_> = all
            .iter()
            .filter_map(|ran| Some(format!("{}: {}", ran.what, ran.failure.as_ref()?)))
            .collect();
        if !failed.is_empty() {
            bail!("not all tests passed:\n  {}", failed.join("\n  "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_come_in_the_order_of_their_names_and_the_rest_as_it_was() {
        let all = ["b", "x", "a", "y", "b"].map(Program::called).into();
        let (named, rest) = apart(all, &["a", "b"]);
        let names =
            |of: &[Program]| of.iter().map(|p| p.name.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!((names(&named), names(&rest)), ("a b b".to_owned(), "x y".to_owned()));
    }

    #[test]
    fn what_failed_is_named_and_the_rest_ran() {
        let account = Account::default();
        account.take("the first", || bail!("exit status: 101"));
        let mut ran = false;
        account.take("the second", || {
            ran = true;
            Ok(())
        });
        assert!(ran);
        let said = account.close().unwrap_err().to_string();
        assert!(said.contains("the first: exit status: 101") && !said.contains("second"), "{said}");
    }

    #[test]
    fn nothing_failed_is_well() {
        let account = Account::default();
        account.take("it", || Ok(()));
        assert!(account.close().is_ok());
    }
}
