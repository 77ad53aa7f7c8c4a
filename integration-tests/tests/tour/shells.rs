//! Three shells, as a reader opens them, on a network of their own: the tour's ports are fixed.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use host::SystemClock;
use rustix::process::{Pid, Signal, kill_process_group};
use trust::Clock as _;

use crate::page::is_shown;

/// How many shells there are.
pub(crate) const TERMINALS: usize = 3;
/// What is looked for is looked for so often.
const POLL: Duration = Duration::from_millis(100);
/// What the tour asks of cargo is answered with what is built and installed already: a fake, for a test must not build.
const CARGO: &str = "#!/bin/sh
case \"$*\" in
  'build --release') exit 0 ;;
  'xtask peers '*) shift 2 ;;
  *) echo \"the tour's test has no cargo $*\" >&2; exit 1 ;;
esac
for name in \"$@\"; do
  case $name in python) program=python3 ;; *) program=$name ;; esac
  file=\"PEERS/$name/bin/$program\"
  [ -x \"$file\" ] || { echo \"$file is missing: cargo xtask peers $name\" >&2; exit 1; }
  echo \"$file\"
done
";

/// The shells. Dropped, they and all that they started are killed.
pub(crate) struct Shells {
    directory: tempfile::TempDir,
    process: Child,
    inputs: Vec<Mutex<File>>,
}

impl Shells {
    /// Opens them in a directory that looks like a checkout that was built.
    ///
    /// # Errors
    /// When a program is missing, or this user may not make a network of its own.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let release = directory.path().join("target/release");
        fs::create_dir_all(&release)?;
        symlink(env!("CARGO_BIN_EXE_banyan_under_test"), release.join("banyan"))?;
        let cargo = release.join("cargo");
        let cache =
            host::peers::PeerCache::from_environment().context("set HOME or BANYAN_CACHE")?;
        let envoy = cache.directory("envoy");
        let peers = envoy.parent().context("no place of peers")?;
        fs::write(&cargo, CARGO.replace("PEERS", &peers.display().to_string()))?;
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755))?;
        let script = "ip link set lo up || exit; for number in 1 2 3; do \
                      bash --norc -e < in$number > out$number 2>&1 & done; wait";
        for number in 1..=TERMINALS {
            let made = Command::new("mkfifo")
                .arg(directory.path().join(format!("in{number}")))
                .status()?;
            ensure!(made.success(), "mkfifo: {made}");
        }
        let folders = std::env::var("PATH").unwrap_or_default();
        let process = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "bash", "-c", script])
            .current_dir(directory.path())
            .env("PATH", format!("{}:{folders}", release.display()))
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot run unshare: install the operating system's package `util-linux`")?;
        let mut shells = Self { directory, process, inputs: Vec::new() };
        for number in 1..=TERMINALS {
            let input = shells.open_input(number)?;
            shells.inputs.push(Mutex::new(input));
        }
        Ok(shells)
    }

    /// The writing end of a shell's input. Opening waits for the shell, so it is tried without waiting.
    fn open_input(&mut self, number: usize) -> anyhow::Result<File> {
        use rustix::fs::{Mode, OFlags};
        let (path, end) = (
            self.directory.path().join(format!("in{number}")),
            SystemClock.uptime() + Duration::from_secs(30),
        );
        loop {
            match rustix::fs::open(
                &path,
                OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
                Mode::empty(),
            ) {
                Ok(input) => return Ok(File::from(input)),
                Err(_) if SystemClock.uptime() < end => {}
                Err(error) => bail!("shell {number} does not open its input: {error}"),
            }
            if let Some(status) = self.process.try_wait()? {
                bail!(
                    "no network of its own for the tour ({status}): allow unprivileged user namespaces, and install iproute2"
                );
            }
            std::thread::sleep(POLL);
        }
    }

    /// Types a block, and waits until it has ended or, if it does not end by itself, until all is there that the page shows.
    pub(crate) fn type_in(
        &self,
        number: usize,
        typed: &str,
        shown: &[String],
        within: Duration,
    ) -> anyhow::Result<()> {
        let path = self.directory.path().join(format!("out{number}"));
        let before = said(&path).len();
        let mark = format!("block-{before}-ended");
        let input = self.inputs.get(number - 1).context("no such terminal")?;
        let mut input = input.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        input.write_all(format!("{typed}\necho {mark}\n").as_bytes())?;
        let end = SystemClock.uptime() + within;
        loop {
            let said = said(&path);
            let said = said.get(before..).unwrap_or_default();
            let missing =
                shown.iter().find(|shown| !said.lines().any(|line| is_shown(shown, line)));
            let ended = said.lines().any(|line| line == mark);
            match missing {
                None if ended || !shown.is_empty() && runs_on(typed) => return Ok(()),
                Some(line) if ended => {
                    bail!("terminal {number} never said\n{line}\nafter\n{typed}\nbut\n{said}")
                }
                _ => {}
            }
            ensure!(
                SystemClock.uptime() < end,
                "terminal {number} hangs, {missing:?} is missing, after\n{typed}\n{said}"
            );
            // An empty line changes nothing, and arrives only where a shell still reads.
            let reads = input.write_all(b"\n").is_ok();
            ensure!(reads, "terminal {number} ended: a command failed in\n{typed}\n{said}");
            std::thread::sleep(POLL);
        }
    }
}

/// Whether the last command of a block is a server in the foreground.
fn runs_on(typed: &str) -> bool {
    let last = typed.lines().last().unwrap_or_default();
    last == "banyan serve" || last.starts_with("banyan agent & $ENVOY")
}

fn said(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

impl Drop for Shells {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            // What has ended already is what is wanted.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.process.wait();
    }
}
