//! The program where nobody sits at a terminal: its exit code, and what it says.

use std::path::Path;
use std::process::Stdio;

use ca_server::Running;
use serde_json::Value;

use super::BANYAN;

/// Exit code, and what was said where.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// What the program says where nobody sits at a terminal.
pub(crate) async fn banyan(directory: &Path, words: &[&str]) -> anyhow::Result<Said> {
    let mut command = tokio::process::Command::new(BANYAN);
    command.args(words).current_dir(directory).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await?;
    let [out, err] = [output.stdout, output.stderr].map(String::from_utf8);
    Ok(Said { code: output.status.code(), out: out?, err: err? })
}

impl Said {
    /// The last line, which is a JSON object.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        let last = self.out.lines().last().unwrap_or_default();
        serde_json::from_str(last)
            .map_err(|error| anyhow::anyhow!("{error}: {} {}", self.out, self.err))
    }
}

/// The same, asking a server.
pub(crate) async fn banyan_at(running: &Running, words: &[&str]) -> anyhow::Result<Said> {
    let socket = running.admin_socket.display().to_string();
    let words: Vec<_> = words.iter().copied().chain(["--socket", &socket]).collect();
    banyan(Path::new("."), &words).await
}
