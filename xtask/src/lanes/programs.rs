//! The programs of tests that cargo builds, and how each is run.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use cargo_metadata::Message;

use crate::process;

/// One program of tests.
#[derive(Debug)]
pub(crate) struct Program {
    /// Name of the target: a library's, a binary's, or that of a folder or file in `tests`.
    pub(crate) name: String,
    /// The package that it belongs to, by its folder in the checkout.
    package: String,
    /// That folder.
    folder: PathBuf,
    /// The program.
    file: PathBuf,
}

impl Program {
    /// It, as `cargo test` would run it.
    pub(crate) fn command(&self, root: &Path) -> Command {
        let mut command = process::cargo_tool(root, &self.file);
        command.current_dir(&self.folder);
        command.env("CARGO_MANIFEST_DIR", &self.folder).env("CARGO_PKG_NAME", &self.package);
        command
    }

    /// One that is nowhere.
    #[cfg(test)]
    pub(crate) fn called(name: &str) -> Self {
        let [folder, file] = [PathBuf::new(), PathBuf::new()];
        Self { name: name.to_owned(), package: String::new(), folder, file }
    }

    /// A name for a file of its own.
    pub(crate) fn file_name(&self) -> String {
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Target and package.
    pub(crate) fn title(&self) -> String {
        format!("{} of {}", self.name, self.package)
    }
}

/// Builds every program of tests of the workspace.
pub(crate) fn build(root: &Path) -> anyhow::Result<Vec<Program>> {
    let mut cargo = process::cargo(root);
    cargo.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]);
    let mut building = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = building.stdout.take().context("cargo has no output")?;
    let mut programs = Vec::new();
    for message in Message::parse_stream(BufReader::new(output)) {
        let Message::CompilerArtifact(artifact) = message? else { continue };
        let (true, Some(file)) = (artifact.profile.test, artifact.executable) else { continue };
        let folder = artifact.manifest_path.parent().context("a manifest without a folder")?;
        let package = folder.as_std_path().strip_prefix(root).unwrap_or(folder.as_std_path());
        programs.push(Program {
            name: artifact.target.name,
            package: package.display().to_string(),
            folder: folder.into(),
            file: file.into(),
        });
    }
    let status = building.wait()?;
    if !status.success() {
        bail!("the tests do not build ({status})");
    }
    Ok(programs)
}
