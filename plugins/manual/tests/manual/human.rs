//! A person at the offline machine, who does what the ceremony says with the real openssl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The offline machine: a directory that the server never looks at.
#[derive(Debug)]
pub(crate) struct Vault {
    directory: tempfile::TempDir,
}

impl Vault {
    pub(crate) fn new() -> Self {
        let vault = Self { directory: tempfile::tempdir().unwrap() };
        vault.run("openssl version");
        vault
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs commands as a shell does, with the passphrase that the ceremony tells to set.
    pub(crate) fn run(&self, commands: &str) {
        let shell = Command::new("sh")
            .args(["-euc", commands])
            .current_dir(self.directory.path())
            .env("ROOT_PASS", "correct horse")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&shell.stderr).into_owned();
        assert!(
            shell.status.success(),
            "{commands}\n{said}\ninstall the operating system's package `openssl` (3.0 or later)"
        );
    }

    /// Takes a ceremony's text home and follows it; answers with the PEM that came of it.
    pub(crate) fn follow(&self, request: &Path) -> String {
        let (name, text) = (stem(request), fs::read_to_string(request).unwrap());
        fs::write(self.path(&format!("{name}.txt")), &text).unwrap();
        self.run(&commands(&text));
        self.read(&format!("{name}.pem"))
    }
}

/// The commands as they stand in the text.
pub(crate) fn commands(text: &str) -> String {
    let (_, after) = text.split_once("\nCommands:\n\n").unwrap();
    let lines = after.lines().take_while(|line| line.starts_with("    "));
    lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
}

pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

/// Puts a file into a folder's inbox as people should: whole, by a rename.
pub(crate) fn bring(folder: &Path, name: &str, contents: &str) -> PathBuf {
    let inbox = folder.join("inbox");
    let path = inbox.join(format!("{name}.pem"));
    fs::write(inbox.join("arriving"), contents).unwrap();
    fs::rename(inbox.join("arriving"), &path).unwrap();
    path
}

/// The requests that lie in the outbox.
pub(crate) fn requests(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join("outbox")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect()
}

/// Somebody who sits beside the outbox and does at once what comes.
pub(crate) struct Human {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Human {
    pub(crate) fn beside(folder: &Path) -> Self {
        let (stop, folder) = (Arc::new(AtomicBool::new(false)), folder.to_owned());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (vault, mut done) = (Vault::new(), Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                for request in requests(&folder) {
                    let name = stem(&request);
                    if !done.contains(&name) {
                        let answer = vault.follow(&request);
                        bring(&folder, &name, &answer);
                        done.push(name);
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            done.len()
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends the work; how many ceremonies were followed.
    pub(crate) fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}
