//! `banyan version`, `banyan completions` and `banyan man`: about this program itself.

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use console::exit::Failure;
use console::output;
use serde_json::json;

use crate::args::{Arguments, CompletedShell, CompletionsOptions, ManOptions, VersionOptions};

/// The commit that this program was built from; `unknown` when it was built outside of a checkout and none was named.
pub const COMMIT: &str = match option_env!("BANYAN_BUILT_FROM") {
    Some(commit) => commit,
    None => "unknown",
};

/// `banyan version`.
///
/// # Errors
/// [`Failure::Failed`] if standard output is closed.
pub fn version(options: &VersionOptions) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    match options.json {
        true => output::json(&json!({ "version": version, "commit": COMMIT })),
        false => output::line(&format!("banyan {version}, commit {COMMIT}")),
    }
}

/// `banyan completions`.
///
/// # Errors
/// [`Failure::Failed`] if standard output is closed.
pub fn completions(options: &CompletionsOptions) -> Result<(), Failure> {
    let shell = match options.shell {
        CompletedShell::Bash => Shell::Bash,
        CompletedShell::Zsh => Shell::Zsh,
        CompletedShell::Fish => Shell::Fish,
    };
    // First into memory: the generator gives up with a panic when nobody reads on.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "banyan", &mut script);
    output::write(&String::from_utf8(script).context("the script is no text")?)
}

/// `banyan man`.
///
/// # Errors
/// [`Failure::Failed`] if a page cannot be written.
pub fn man(options: &ManOptions) -> Result<(), Failure> {
    let out = &options.out;
    std::fs::create_dir_all(out)
        .with_context(|| format!("cannot make the directory {}", out.display()))?;
    clap_mangen::generate_to(Arguments::command(), out)
        .with_context(|| format!("cannot write the pages to {}", out.display()))?;
    let out = out.display();
    output::line(&format!(
        "one page for each verb written to {out}; read the first with `man -l {out}/banyan.1`"
    ))
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    #[test]
    fn every_verb_has_a_page_and_is_completed_in_each_shell() {
        let mut command = Arguments::command();
        command.build();
        let dir = tempfile::tempdir().unwrap();
        man(&ManOptions { out: dir.path().join("man1") }).unwrap();
        let page =
            |name: &str| std::fs::read_to_string(dir.path().join("man1").join(name)).unwrap();
        assert!(
            page("banyan.1").contains("rotate")
                && page("banyan-leaf-forget.1").contains("dry\\-run")
        );
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "banyan", &mut script);
            let script = String::from_utf8(script).unwrap();
            for verb in command.get_subcommands().map(Command::get_name) {
                assert!(script.contains(verb), "{verb} is missing for {shell}");
            }
        }
    }

    #[test]
    fn a_build_from_a_checkout_knows_its_commit() {
        let is_commit = COMMIT.len() >= 40 && COMMIT.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(
            is_commit || COMMIT == "unknown" || std::env::var("BANYAN_COMMIT").is_ok(),
            "{COMMIT}"
        );
    }
}
