//! A place where servers run, one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use ca_server::{BootError, Config, Embedding, HostDeps, Running, Server};
use host::{Disk, OsRandomness, RealDisk, SystemClock};
use stores::marked::unmark;
use stores::spaces::AUTHORITY_BOOKS;
use trust::Clock;

use super::common::{SOON, TRUST_DOMAIN, write_private};
use super::fault_plan::FaultPlan;
use super::proof;
use super::window::{Seen, Window};

const CONFIG: &str = "ca.toml";

/// A data directory, a passphrase and a configuration, removed when dropped. Then the journal that servers left in it must lead
/// to their record.
#[derive(Debug)]
pub struct CaDir {
    directory: tempfile::TempDir,
    window: Window,
    tampered: AtomicBool,
}

/// What the directory of a CA is made of. Sockets are free ports of this machine, and the name of the server is `localhost`.
#[derive(Clone, Debug, Default)]
pub struct CaDirPlan {
    /// The trust domain, if it is another than that of most tests.
    pub trust_domain: Option<String>,
    /// Where private keys are.
    pub keys: Keys,
    /// Further keys of the section `[listen]`.
    pub listen: String,
    /// Further sections of the configuration.
    pub sections: String,
    /// Files beside the configuration: their names, and what is in them.
    pub files: Vec<(String, String)>,
}

/// Where private keys are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// In encrypted files; with an [`FaultPlan`] their passphrase is stretched least.
    #[default]
    Files,
    /// In the key backend `memory`.
    Memory,
}

impl CaDir {
    /// Makes the directory of a CA; `extra` goes to the end of the configuration.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn new(extra: &str) -> anyhow::Result<Self> {
        Self::of(&CaDirPlan { sections: extra.to_owned(), ..CaDirPlan::default() })
    }

    /// Makes what was planned.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn of(plan: &CaDirPlan) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let keys = match plan.keys {
            Keys::Files => "passphrase_file = \"passphrase\"",
            Keys::Memory => "backend = \"memory\"\ndangerously_keep_keys_in_memory = true",
        };
        let CaDirPlan { listen, sections, .. } = plan;
        let trust_domain = plan.trust_domain.as_deref().unwrap_or(TRUST_DOMAIN);
        let config = format!(
            "trust_domain = \"{trust_domain}\"\ndata_dir = \"data\"\n[keys]\n{keys}\n\
             [listen]\ngrpc = \"127.0.0.1:0\"\nplain = \"127.0.0.1:0\"\ndns_names = [\"localhost\"]\n{listen}\n{sections}"
        );
        write_private(&directory.path().join("passphrase"), "correct horse battery staple")?;
        for (name, contents) in &plan.files {
            write_private(&directory.path().join(name), contents)?;
        }
        std::fs::write(directory.path().join(CONFIG), config)?;
        Ok(Self { directory, window: Window::default(), tampered: AtomicBool::new(false) })
    }

    /// What is in the data directory was altered by the test, so that its journal proves nothing.
    pub fn is_tampered_with(&self) {
        self.tampered.store(true, Ordering::Relaxed);
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join(CONFIG)
    }

    /// The directory that everything lies in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A directory beside the data directory, for backups.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The configuration.
    ///
    /// # Errors
    /// When `extra` was no good.
    pub fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.config_path())?)
    }

    /// Starts a server without faults. A former server of this process may still be letting go of its files: the start
    /// is tried again while the directory or a file of it is in use.
    ///
    /// # Errors
    /// When the server does not start.
    pub async fn start(&self) -> anyhow::Result<Running> {
        let tries = async {
            loop {
                match self.start_once().await? {
                    Err(error) if error.to_string().contains("in use by") => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    started => return anyhow::Ok(started?),
                }
            }
        };
        tokio::time::timeout(SOON, tries).await.context("no start in time")?
    }

    /// Starts a server without faults, once.
    ///
    /// # Errors
    /// Outside when the configuration is no good, inside as the server says.
    pub async fn start_once(&self) -> anyhow::Result<Result<Running, BootError>> {
        let fault_plan = FaultPlan { window: self.window.clone(), ..FaultPlan::default() };
        self.start_with(Arc::new(RealDisk), Arc::new(SystemClock), &fault_plan).await
    }

    /// A look into the shared state of the server that was started last.
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// How many roots the authority has ever made.
    ///
    /// # Errors
    /// When its book cannot be read.
    pub async fn roots_made(&self) -> anyhow::Result<usize> {
        let books = self.window.all(&self.data(), AUTHORITY_BOOKS).await?;
        let book = books.iter().find(|entry| entry.id == "main/self-signed").context("no book")?;
        let book = unmark(&AUTHORITY_BOOKS.key(&*book.id)?, &book.value)?;
        let book: serde_json::Value = serde_json::from_slice(book)?;
        book.get("roots")
            .and_then(serde_json::Value::as_array)
            .map(Vec::len)
            .context("a book without roots")
    }

    /// Starts a server in this process.
    ///
    /// # Errors
    /// Outside when the configuration is no good, inside as the server says.
    pub async fn start_with(
        &self,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        fault_plan: &FaultPlan,
    ) -> anyhow::Result<Result<Running, BootError>> {
        let deps = HostDeps { clock, randomness: Arc::new(OsRandomness::new()), disk };
        self.start_embedded(deps, fault_plan).await
    }

    /// Starts a server in this process, embedded in something.
    ///
    /// # Errors
    /// Outside when the configuration is no good, inside as the server says.
    pub async fn start_embedded(
        &self,
        deps: HostDeps,
        embedding: &dyn Embedding,
    ) -> anyhow::Result<Result<Running, BootError>> {
        let seen = Seen { window: &self.window, embedding };
        Ok(Box::pin(Server::start_with(self.config()?, deps, &seen)).await)
    }

    /// Stops a server in order.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(running: Running) -> anyhow::Result<()> {
        let stopped = tokio::time::timeout(SOON, running.shutdown(Duration::from_secs(2))).await;
        stopped.context("the server did not stop in time")
    }

    /// Copies a directory.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
        std::fs::create_dir(to)?;
        std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
            if kind.is_dir() {
                Self::copy(&entry.path(), &target)?;
            } else if kind.is_file() {
                std::fs::copy(entry.path(), target)?;
            }
        }
        Ok(())
    }
}

impl Drop for CaDir {
    fn drop(&mut self) {
        if std::thread::panicking() || self.tampered.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = proof::of(&self.data(), self.window.store()) {
            panic!("{error:#}");
        }
    }
}
