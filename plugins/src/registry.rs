//! Where authorities and key backends are listed by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use trust::{Clock, Randomness, TrustDomain};

use crate::authority::RootAuthority;
use crate::config::ConfigProblem;
use crate::keys::KeyBackend;
use crate::state::AuthorityState;

/// A kind of root authority that a configuration can name.
pub trait AuthorityPlugin: Send + Sync {
    /// The name in `plugin = "..."`.
    fn name(&self) -> &'static str;

    /// Reads the settings without opening anything.
    ///
    /// # Errors
    /// Every problem at once; unknown fields are problems.
    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>>;

    /// Whether nobody else issues under the roots of an instance with these settings, as its description will say. Called
    /// with settings that [`validate`](Self::validate) takes. Default what `exclusive` says, and true without it.
    fn is_exclusive(&self, settings: &toml::Table) -> bool {
        says_exclusive(settings).unwrap_or(true)
    }

    /// Looks at what the settings name on this machine (files, folders, modules), without opening or changing anything;
    /// for `banyan config check`. Called with settings that [`validate`](Self::validate) takes; `base` is the directory
    /// that relative paths are relative to. Files under keys that end in `_file` are looked at by the caller.
    fn preflight(&self, _settings: &toml::Table, _base: &Path) -> Vec<ConfigProblem> {
        Vec::new()
    }

    /// Reads the settings and opens an instance. Calls nobody: whether the authority answers is for
    /// [`RootAuthority::check`] to say.
    ///
    /// # Errors
    /// As [`validate`](Self::validate), and what only opening shows.
    fn open(
        &self,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, Vec<ConfigProblem>>;
}

/// What the setting `exclusive` says, if it is there.
pub fn says_exclusive(settings: &toml::Table) -> Option<bool> {
    settings.get("exclusive").and_then(toml::Value::as_bool)
}

/// A kind of key backend that a configuration can name.
///
/// What it needs of the machine (directories, files) is in the value itself: whoever registers it, put it there.
pub trait KeyBackendPlugin: Send + Sync {
    /// The name in `backend = "..."`.
    fn name(&self) -> &'static str;

    /// Reads the settings without opening anything.
    ///
    /// # Errors
    /// Every problem at once; unknown fields are problems.
    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>>;

    /// As [`AuthorityPlugin::preflight`].
    fn preflight(&self, _settings: &toml::Table) -> Vec<ConfigProblem> {
        Vec::new()
    }

    /// Reads the settings and opens the backend. May take seconds (a passphrase is stretched), so call it where
    /// blocking is allowed.
    ///
    /// # Errors
    /// As [`validate`](Self::validate), and what only opening shows, such as a wrong passphrase.
    fn open(&self, settings: &toml::Table) -> Result<Arc<dyn KeyBackend>, Vec<ConfigProblem>>;
}

/// What an authority is given to work with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthorityDeps {
    /// The instance's name in the configuration.
    pub name: String,
    /// Where its keys are.
    pub keys: Arc<dyn KeyBackend>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes (serial numbers).
    pub randomness: Arc<dyn Randomness>,
    /// What survives a restart; its own, shared with no other instance.
    pub state: Arc<dyn AuthorityState>,
    /// The trust domain that issuers are asked for.
    pub trust_domain: TrustDomain,
    /// Relative paths among the settings are relative to this directory.
    pub base: PathBuf,
}

impl AuthorityDeps {
    /// What an authority called `main` is given: keys and state of its own, of this machine's clock and randomness.
    /// Relative paths are relative to the working directory.
    pub fn new(
        trust_domain: TrustDomain,
        keys: Arc<dyn KeyBackend>,
        state: Arc<dyn AuthorityState>,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
    ) -> Self {
        Self {
            name: "main".to_owned(),
            keys,
            clock,
            randomness,
            state,
            trust_domain,
            base: PathBuf::new(),
        }
    }

    /// The same for an instance of this name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The same, with relative paths below this directory.
    #[must_use]
    pub fn at(self, base: impl Into<PathBuf>) -> Self {
        Self { base: base.into(), ..self }
    }
}

/// The plugins that this program knows, by name.
#[derive(Default)]
pub struct Registry {
    authorities: BTreeMap<&'static str, Box<dyn AuthorityPlugin>>,
    key_backends: BTreeMap<&'static str, Box<dyn KeyBackendPlugin>>,
}

/// Why a plugin could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// No plugin of that name.
    #[error("there is no {kind} named `{name}`; write one of: {known}")]
    Unknown {
        /// `root authority` or `key backend`.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The settings are wrong; each problem on a line of its own.
    #[error("{}", list(.0))]
    Config(Vec<ConfigProblem>),
}

impl Registry {
    /// No plugins.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lists a root authority. The later of two with one name wins.
    pub fn add_authority(&mut self, plugin: impl AuthorityPlugin + 'static) {
        self.authorities.insert(plugin.name(), Box::new(plugin));
    }

    /// Lists a key backend. The later of two with one name wins.
    pub fn add_key_backend(&mut self, plugin: impl KeyBackendPlugin + 'static) {
        self.key_backends.insert(plugin.name(), Box::new(plugin));
    }

    /// The root authority of a name.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], which lists the names there are.
    pub fn authority(&self, name: &str) -> Result<&dyn AuthorityPlugin, RegistryError> {
        let unknown = || unknown("root authority", name, self.authorities.keys());
        self.authorities.get(name).map(AsRef::as_ref).ok_or_else(unknown)
    }

    /// The key backend of a name.
    ///
    /// # Errors
    /// [`RegistryError::Unknown`], which lists the names there are.
    pub fn key_backend(&self, name: &str) -> Result<&dyn KeyBackendPlugin, RegistryError> {
        let unknown = || unknown("key backend", name, self.key_backends.keys());
        self.key_backends.get(name).map(AsRef::as_ref).ok_or_else(unknown)
    }

    /// Opens a root authority by name.
    ///
    /// # Errors
    /// [`RegistryError`], with every problem of the settings.
    pub fn open_authority(
        &self,
        name: &str,
        settings: &toml::Table,
        deps: AuthorityDeps,
    ) -> Result<Arc<dyn RootAuthority>, RegistryError> {
        self.authority(name)?.open(settings, deps).map_err(RegistryError::Config)
    }

    /// Opens a key backend by name.
    ///
    /// # Errors
    /// [`RegistryError`], with every problem of the settings.
    pub fn open_key_backend(
        &self,
        name: &str,
        settings: &toml::Table,
    ) -> Result<Arc<dyn KeyBackend>, RegistryError> {
        self.key_backend(name)?.open(settings).map_err(RegistryError::Config)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("authorities", &self.authorities.keys())
            .field("key_backends", &self.key_backends.keys())
            .finish()
    }
}

fn unknown<'a>(
    kind: &'static str,
    name: &str,
    known: impl Iterator<Item = &'a &'static str>,
) -> RegistryError {
    let known: Vec<_> = known.copied().collect();
    RegistryError::Unknown { kind, name: name.to_owned(), known: known.join(", ") }
}

fn list(problems: &[ConfigProblem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryKeysPlugin;

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let mut registry = Registry::new();
        registry.add_key_backend(MemoryKeysPlugin);
        let error = registry.open_key_backend("hsm", &toml::Table::new()).expect_err("unknown");
        assert_eq!(error.to_string(), "there is no key backend named `hsm`; write one of: memory");
        assert!(matches!(registry.authority("x"), Err(RegistryError::Unknown { .. })));
    }

    #[test]
    fn a_backend_is_opened_by_name_and_refuses_unknown_fields() {
        let mut registry = Registry::new();
        registry.add_key_backend(MemoryKeysPlugin);
        let opened = registry.open_key_backend("memory", &toml::Table::new()).expect("opens");
        assert_eq!(opened.describe().plugin, "memory");
        let settings: toml::Table = "sise = 3".parse().expect("toml");
        assert!(matches!(
            registry.open_key_backend("memory", &settings),
            Err(RegistryError::Config(problems)) if problems.len() == 1
        ));
    }
}
