//! The plugins of this program, and the instances that the configuration asks for.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use host::SystemClock;
use plugin_banyan::BanyanPlugin;
use plugin_cert_manager::CertManagerPlugin;
use plugin_file::FilePlugin;
use plugin_key_file::FileKeysPlugin;
use plugin_manual::ManualPlugin;
use plugin_pkcs11::Pkcs11Plugin;
use plugin_remote::RemotePlugin;
use plugin_self_signed::SelfSignedPlugin;
use plugin_spire::SpirePlugin;
use plugin_step_ca::StepCaPlugin;
use plugin_vault::VaultPlugin;
use plugins::memory::MemoryKeysPlugin;
use plugins::{
    AuthorityDeps, AuthorityState, ConfigProblem, KeyBackend, Registry, RegistryError,
    RootAuthority,
};
use rotation::AuthorityName;
use stores::SharedStore;
use trust::Clock;

use super::authority_state::SharedBooks;
use super::blocking::blocking;
use super::layout::Layout;
use super::shared_files::{self, SharedFiles};
use super::{BootError, Embedding, HostDeps};
use crate::config::{
    AuthorityConfig, Config, KeyBackendConfig, KeysConfig, NeighborConfig, Passphrase,
};
use control::metered::{Authorities, AuthorityCalls, Metered};

/// The key backend that needs to know where the data directory is.
const FILE_KEYS: &str = "file";

/// The plugins of this program.
pub(super) fn registry(
    config: &Config,
    layout: &Layout,
    deps: &HostDeps,
    embedding: &dyn Embedding,
) -> Registry {
    let mut registry = Registry::new();
    built_in(&mut registry, config, Arc::clone(&deps.clock));
    registry.add_key_backend(file_keys(layout.paths.keys(), deps, embedding));
    embedding.plugins(&mut registry);
    registry
}

/// Encrypted key files in this directory.
fn file_keys(directory: PathBuf, deps: &HostDeps, embedding: &dyn Embedding) -> FileKeysPlugin {
    FileKeysPlugin {
        directory,
        cost: embedding.key_cost(),
        disk: Arc::clone(&deps.disk),
        randomness: Arc::clone(&deps.randomness),
    }
}

/// The plugins that need nothing of the data directory.
fn built_in(registry: &mut Registry, config: &Config, clock: Arc<dyn Clock>) {
    registry.add_authority(SelfSignedPlugin);
    registry.add_authority(FilePlugin);
    registry.add_authority(RemotePlugin);
    registry.add_authority(VaultPlugin);
    registry.add_authority(ManualPlugin);
    registry.add_authority(StepCaPlugin);
    registry.add_authority(CertManagerPlugin);
    registry.add_authority(SpirePlugin);
    registry.add_authority(BanyanPlugin);
    registry.add_key_backend(MemoryKeysPlugin);
    registry.add_key_backend(Pkcs11Plugin { base: config.directory().to_owned(), clock });
}

/// Opens the key backend; stretching a passphrase takes a moment.
pub(super) async fn keys(
    config: &Config,
    registry: Arc<Registry>,
) -> Result<Arc<dyn KeyBackend>, BootError> {
    let mut settings = toml::Table::new();
    let backend = match config.keys() {
        KeysConfig::Memory => "memory".to_owned(),
        KeysConfig::Plugin(own) => {
            settings = own.settings().clone();
            own.backend().to_owned()
        }
        KeysConfig::File { passphrase } => {
            settings = passphrase_settings(passphrase);
            FILE_KEYS.to_owned()
        }
    };
    let opened = blocking(move || registry.open_key_backend(&backend, &settings)).await?;
    opened.map_err(|error| plugin_problem("keys", error))
}

fn passphrase_settings(passphrase: &Passphrase) -> toml::Table {
    let (field, value) = match passphrase {
        Passphrase::File(path) => ("passphrase_file", path.to_string_lossy().into_owned()),
        Passphrase::Env(name) => ("passphrase_env", name.clone()),
    };
    toml::Table::from_iter([(field.to_owned(), value.into())])
}

/// What opens authorities.
pub(super) struct Opener<'c> {
    pub(super) config: &'c Config,
    pub(super) registry: &'c Arc<Registry>,
    pub(super) store: &'c Arc<dyn SharedStore>,
    pub(super) embedding: &'c dyn Embedding,
    pub(super) deps: &'c HostDeps,
    pub(super) keys: &'c Arc<dyn KeyBackend>,
    pub(super) calls: &'c AuthorityCalls,
    /// Authorities that roots of the record come from.
    pub(super) in_use: &'c BTreeSet<String>,
}

impl Opener<'_> {
    /// Opens every authority of the configuration.
    pub(super) async fn all(&self) -> Result<Authorities, BootError> {
        let mut opened = Authorities::new();
        let common = self.common_keys().await?;
        for (name, authority) in self.config.root().authorities() {
            opened.insert(name.clone(), self.open(authority, &common).await?);
        }
        Ok(opened)
    }

    /// Opens what neighbors are asked with, by their names.
    pub(super) async fn neighbors(&self) -> Result<Authorities, BootError> {
        let mut opened = Authorities::new();
        for (name, neighbor) in self.config.neighbors() {
            // It makes no keys.
            opened.insert(name.clone(), self.open(neighbor.asked(), self.keys).await?);
        }
        Ok(opened)
    }

    async fn open(
        &self,
        authority: &AuthorityConfig,
        common: &Arc<dyn KeyBackend>,
    ) -> Result<Arc<dyn RootAuthority>, BootError> {
        let name = authority.name();
        let in_use = self.in_use.contains(name);
        let state = SharedBooks::open(Arc::clone(self.store), name, in_use).await?;
        let keys = match authority.keys() {
            None => Arc::clone(common),
            Some(own) => {
                let opened = self.own_keys(name, own).await?;
                opened.map_err(|error| plugin_problem(&format!("authority.{name}.keys"), error))?
            }
        };
        let (clock, randomness) = (Arc::clone(&self.deps.clock), Arc::clone(&self.deps.randomness));
        let state: Arc<dyn AuthorityState> = Arc::new(state);
        let book = Arc::clone(&state);
        let trust_domain = self.config.trust_domain().clone();
        let deps = AuthorityDeps::new(trust_domain, keys, state, clock, randomness)
            .named(name)
            .at(self.config.directory());
        let opened = self.registry.open_authority(authority.plugin(), authority.settings(), deps);
        let opened = opened.map_err(|error| plugin_problem(&section(name), error))?;
        let metered = Metered::new(name, opened, self.calls.clone(), Arc::clone(&self.deps.clock));
        Ok(Arc::new(metered.over(book)))
    }
}

impl Opener<'_> {
    /// Where authorities without a key backend of their own make their keys. Key files are shared: every server of the CA
    /// signs with the same roots. The keys of issuers are each server's own.
    async fn common_keys(&self) -> Result<Arc<dyn KeyBackend>, BootError> {
        let KeysConfig::File { passphrase } = self.config.keys() else {
            return Ok(Arc::clone(self.keys));
        };
        let settings = passphrase_settings(passphrase);
        let opened = self.shared_keys(shared_files::COMMON.to_owned(), settings).await?;
        opened.map_err(|error| plugin_problem("keys", error))
    }

    async fn shared_keys(
        &self,
        scope: String,
        settings: toml::Table,
    ) -> Result<Result<Arc<dyn KeyBackend>, RegistryError>, BootError> {
        let files = Arc::new(SharedFiles::new(Arc::clone(self.store), scope));
        // They are in no directory.
        let plugin = file_keys(PathBuf::new(), self.deps, self.embedding);
        blocking(move || plugin.open_in(files, &settings).map_err(RegistryError::Config)).await
    }

    /// The key backend of one authority. Key files are its own, apart from those of `[keys]`, and shared as well.
    async fn own_keys(
        &self,
        name: &str,
        own: &KeyBackendConfig,
    ) -> Result<Result<Arc<dyn KeyBackend>, RegistryError>, BootError> {
        let mut settings = own.settings().clone();
        if own.backend() != FILE_KEYS {
            let (registry, backend) = (Arc::clone(self.registry), own.backend().to_owned());
            return blocking(move || registry.open_key_backend(&backend, &settings)).await;
        }
        if let Some(toml::Value::String(path)) = settings.get_mut("passphrase_file") {
            *path = self.config.directory().join(&*path).to_string_lossy().into_owned();
        }
        self.shared_keys(shared_files::scope_of(name), settings).await
    }
}

/// The plugins of this program, to be asked whether settings are in order, and not to be opened.
pub(super) fn known(config: &Config, embedding: &dyn Embedding) -> Registry {
    let mut registry = Registry::new();
    built_in(&mut registry, config, Arc::new(SystemClock));
    // Nothing is opened, so the directory does not matter.
    registry.add_key_backend(file_keys(PathBuf::new(), &HostDeps::system(), embedding));
    embedding.plugins(&mut registry);
    registry
}

/// What an operator should know of settings that are in order, one sentence each.
pub(super) fn plugin_notes(config: &Config, embedding: &dyn Embedding) -> Vec<String> {
    let registry = known(config, embedding);
    let endless = |authority: &&AuthorityConfig| {
        let plugin = registry.authority(authority.plugin());
        authority.foreign_leaf_max().is_none()
            && plugin.is_ok_and(|plugin| !plugin.is_exclusive(authority.settings()))
    };
    let said = |authority: &AuthorityConfig| {
        format!(
            "[authority.{}] is not exclusive and has no foreign_leaf_max, so no rotation away from its roots can end: write the \
             longest life of the leaves that others issue under them",
            authority.name()
        )
    };
    config.root().authorities().values().filter(endless).map(said).collect()
}

/// Checks the settings of plugins without opening them.
pub(super) fn plugin_problems(config: &Config, embedding: &dyn Embedding) -> Vec<ConfigProblem> {
    let registry = known(config, embedding);
    let keys = match config.keys() {
        KeysConfig::Plugin(own) => told("keys", "backend", checked_keys(own, &registry)),
        KeysConfig::File { .. } | KeysConfig::Memory => Vec::new(),
    };
    let neighbors = config.neighbors().values().map(NeighborConfig::asked);
    let authorities = config.root().authorities().values().chain(neighbors);
    authorities.flat_map(|authority| problems_of(authority, &registry)).chain(keys).collect()
}

fn checked_keys(keys: &KeyBackendConfig, registry: &Registry) -> Result<(), RegistryError> {
    registry.key_backend(keys.backend())?.validate(keys.settings()).map_err(RegistryError::Config)
}

fn problems_of(authority: &AuthorityConfig, registry: &Registry) -> Vec<ConfigProblem> {
    let section = section(authority.name());
    let checked = registry
        .authority(authority.plugin())
        .and_then(|plugin| plugin.validate(authority.settings()).map_err(RegistryError::Config));
    let keys = authority.keys().map_or(Ok(()), |keys| checked_keys(keys, registry));
    let told = told(&section, "plugin", checked);
    told.into_iter().chain(self::told(&format!("{section}.keys"), "backend", keys)).collect()
}

/// The title of an authority's section; a neighbor's name is its own.
fn section(name: &str) -> String {
    match name.starts_with(AuthorityName::NEIGHBOR) {
        true => name.to_owned(),
        false => format!("authority.{name}"),
    }
}

fn told(section: &str, kind: &str, checked: Result<(), RegistryError>) -> Vec<ConfigProblem> {
    match checked {
        Ok(()) => Vec::new(),
        Err(RegistryError::Config(problems)) => {
            let prefixed = |problem: ConfigProblem| {
                ConfigProblem::new(format!("{section}.{}", problem.field), problem.problem)
            };
            problems.into_iter().map(prefixed).collect()
        }
        Err(error) => vec![ConfigProblem::new(format!("{section}.{kind}"), error.to_string())],
    }
}

fn plugin_problem(section: &str, error: RegistryError) -> BootError {
    BootError::Plugin { section: section.to_owned(), error }
}
