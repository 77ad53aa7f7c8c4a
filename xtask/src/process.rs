//! Running other programs: what is run is shown, what fails says so.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Runs a program to its end. Its output goes to this program's standard error, which leaves standard output to results.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    run_with(command.stdout(io::stderr()))
}

/// Runs a program to its end. Its output goes where this program's goes.
pub(crate) fn run_shown(command: &mut Command) -> anyhow::Result<()> {
    run_with(command)
}

fn run_with(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    eprintln!("+ {shown}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("start `{shown}`: is the program installed?"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Whether a program is there and ends well; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|status| status.success())
}

/// What a program prints, if it is there and ends well.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `cargo` at work on this repository, as if it had been called from a shell.
///
/// `cargo run` tells its program about xtask's own package in variables that some build scripts watch: passed on, they
/// would make every second call rebuild the cryptography.
pub(crate) fn cargo(root: &Path) -> Command {
    cargo_tool(root, Path::new(&env::var_os("CARGO").unwrap_or_else(|| "cargo".into())))
}

/// Where cargo keeps what it builds of the workspace.
pub(crate) fn target(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into)
}

/// A program that calls `cargo` itself, in the same surroundings.
pub(crate) fn cargo_tool(root: &Path, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root);
    for (name, _) in env::vars_os() {
        let about_xtask = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                || name == "CARGO_BIN_NAME"
        });
        if about_xtask {
            command.env_remove(name);
        }
    }
    command
}

/// The same at the lowest priority: whatever waits for a clock beside it goes first.
pub(crate) fn yielding(command: &Command) -> Command {
    let mut yielding = Command::new("nice");
    yielding.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => yielding.env(name, value),
            None => yielding.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        yielding.current_dir(folder);
    }
    yielding
}

/// A command in words.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_an_error_that_names_it() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c exit 3") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_missing_program_is_an_error_that_asks_for_it() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err().to_string();
        assert!(error.contains("is the program installed"), "{error}");
    }

    #[test]
    fn what_yields_is_the_same_command() {
        let mut command = Command::new("sh");
        command.args(["-c", "test \"$A\" = b && test -z \"$HOME\" && test \"$PWD\" = /"]);
        command.env("A", "b").env_remove("HOME").current_dir("/");
        assert!(succeeds(&mut yielding(&command)));
        assert!(!succeeds(yielding(&command).env("A", "c")));
    }

    #[test]
    fn nested_cargo_hears_nothing_of_this_package() {
        // `cargo test` sets CARGO_PKG_NAME for this test too, so there is something to remove.
        assert!(env::var_os("CARGO_PKG_NAME").is_some());
        let command = cargo(Path::new("."));
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).collect();
        assert!(removed.iter().any(|(name, _)| *name == "CARGO_PKG_NAME"), "{removed:?}");
    }
}
