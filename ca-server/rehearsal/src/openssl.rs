//! The path validation of OpenSSL, by its command. It sees certificates alone: no key leaves this process.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use trust::PeerRole;

use crate::verifier::{Presented, Verdict, Verifier};

/// Characters of what the command says that are passed on.
const SAID_MAX: usize = 300;
/// The first version whose options are these.
const MAJOR_LEAST: u32 = 3;

/// The command of OpenSSL 3 or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSsl {
    program: PathBuf,
    version: String,
}

/// Where the command is: the one that is named, or the first `openssl` of the search path.
///
/// # Errors
/// What to do when there is none.
pub fn program(named: Option<&Path>, search_path: Option<&OsStr>) -> Result<PathBuf, String> {
    if let Some(named) = named {
        return match named.is_file() {
            true => Ok(named.to_owned()),
            false => Err(format!(
                "there is no file {} (rotation.openssl): correct the setting, or install OpenSSL {MAJOR_LEAST} there",
                named.display()
            )),
        };
    }
    let places = search_path.map(std::env::split_paths);
    let mut found = places.into_iter().flatten().map(|place| place.join("openssl"));
    found.find(|program| program.is_absolute() && program.is_file()).ok_or_else(|| {
        format!(
            "this host has no program openssl: install OpenSSL {MAJOR_LEAST} or later, or name it with rotation.openssl"
        )
    })
}

impl OpenSsl {
    /// Asks the command for its version.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn at(program: PathBuf) -> Result<Self, String> {
        let place = program.display().to_string();
        let answered = Command::new(&program).arg("version").env_clear().output();
        let output =
            answered.map_err(|error| format!("{place} does not run ({error}): install it anew"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = said.split_whitespace();
        let (name, number) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let major = number.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if name != "OpenSSL" || major.is_none_or(|major| major < MAJOR_LEAST) {
            return Err(format!(
                "{place} says that it is {:?}: OpenSSL {MAJOR_LEAST} or later is needed",
                shown(&said)
            ));
        }
        Ok(Self { version: format!("{name} {number}"), program })
    }

    fn run(&self, presented: &Presented<'_>) -> io::Result<Output> {
        let place = TempDir::with_prefix("banyan-rehearsal-")?;
        let (leaf, untrusted) = presented.chain.split_at(presented.chain.len().min(1));
        let written = |name: &str, ders: &[Vec<u8>]| {
            let pem: String = ders.iter().map(|der| pem_of(der)).collect();
            let path = place.path().join(name);
            fs::write(&path, pem).map(|()| path)
        };
        let anchors = written("anchors.pem", presented.anchors)?;
        let leaf = written("leaf.pem", leaf)?;
        let purpose = match presented.role {
            PeerRole::Client => "sslclient",
            PeerRole::Server => "sslserver",
        };
        let mut command = Command::new(&self.program);
        // Nothing but this bundle is trusted, whatever the host trusts.
        command.env_clear().args(["verify", "-no-CApath", "-no-CAstore", "-purpose", purpose]);
        command.arg("-attime").arg(presented.now.as_secs().to_string());
        command.arg("-CAfile").arg(anchors);
        if !untrusted.is_empty() {
            command.arg("-untrusted").arg(written("untrusted.pem", untrusted)?);
        }
        command.arg(leaf).output()
    }
}

impl Verifier for OpenSsl {
    fn name(&self) -> String {
        self.version.clone()
    }

    fn verify(&self, presented: &Presented<'_>) -> Result<(), Verdict> {
        let output = self.run(presented).map_err(|error| {
            Verdict::CouldNotJudge(format!("{} could not be run: {error}", self.program.display()))
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // "error 10 at 1 depth lookup: certificate has expired", where it judged; anything else is about the command itself.
        let judged = said.lines().find(|line| line.contains(" depth lookup"));
        Err(match judged {
            Some(line) => Verdict::Refused(shown(line)),
            None => Verdict::CouldNotJudge(format!(
                "{} ended with {}: {}",
                self.program.display(),
                output.status,
                shown(&said)
            )),
        })
    }
}

fn pem_of(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}

fn shown(said: &str) -> String {
    said.trim().chars().filter(|char| !char.is_control()).take(SAID_MAX).collect()
}
