//! Starts a CA and stops it: every part opened in order, wired, and later closed in order.
//!
//! The order of [`Server::start`] is the order of what rests on what: the data directory and its lock, addresses, the shared state, keys
//! and authorities, the driver, the registry, a root that signs, the ledger and its segment, the horizon, the first snapshot, the
//! server's own leaf, the sockets. State that exists and cannot be read ends the start with what to do; it is never a
//! reason to make a new root.

mod answers;
mod assemble;
mod authority_state;
mod backup;
mod blocking;
mod ca;
mod clusters_look;
mod due_times;
mod embedding;
mod error;
mod federation;
mod former;
mod given;
mod host_deps;
mod instances;
mod joined;
mod layout;
mod moving;
mod neighbors;
mod open;
mod own_issuer;
mod patience;
mod preflight;
mod recovery;
mod rewrap;
mod rows;
mod running;
mod settings;
mod shared_files;
mod shared_look;
mod store;
mod unstarted;

use std::sync::Arc;

pub use backup::{OfflineBackup, SealedKeys, StateBackupError};
pub use control::clock::ClockUnreadable;
use control::clock::GuardedClock;
pub use control::own_leaf::OwnLeafError;
pub use control::snapshots::SnapshotError;
pub use embedding::Embedding;
pub use error::BootError;
pub use host_deps::HostDeps;
pub use moving::StateMoveError;
pub use open::{policy as machine_policy, policy_for as machine_policy_for};
pub use registry::RegistryUnreadable;
pub use rewrap::{RewrapFailure, RewrapOrders, RewrappedStore};
pub use running::{Ended, Running};

use api::Addresses;
use given::Given;
use layout::Layout;
use patience::Patience;

use crate::config::{Config, Problems};
use trust::Clock as _;

/// The CA server.
#[derive(Debug, Clone, Copy)]
pub struct Server;

impl Server {
    /// Checks what the configuration says to plugins, without opening anything.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn check(config: &Config) -> Result<(), Problems> {
        Problems::unless_empty(instances::plugin_problems(config, &()))
    }

    /// What an operator should know of a configuration that is in order, one sentence each.
    pub fn notes(config: &Config) -> Vec<String> {
        let mut notes = instances::plugin_notes(config, &());
        notes.extend(due_times::notes(config.rotation().schedule(), host::SystemClock.now()));
        notes
    }

    /// Looks at what a server of this configuration would find on this machine: files, folders, permissions, modules and
    /// ports. Makes and changes nothing.
    ///
    /// # Errors
    /// Every problem at once, those of [`check`](Self::check) too.
    pub fn inspect(config: &Config) -> Result<(), Problems> {
        let mut problems = instances::plugin_problems(config, &());
        problems.extend(preflight::problems(config, &instances::known(config, &())));
        problems.extend(federation::problems(config));
        Problems::unless_empty(problems)
    }

    /// Looks at the store that a server of this configuration would share with others: whether it answers, and whose state it has.
    /// Changes nothing, and takes some seconds at most.
    ///
    /// # Errors
    /// Every problem at once.
    pub async fn inspect_store(config: &Config) -> Result<(), Problems> {
        Problems::unless_empty(shared_look::problems(config).await)
    }

    /// Looks at the clusters whose tokens a server of this configuration would judge: whether they answer, and whether the server's
    /// account there has the rights that it needs. Changes nothing.
    ///
    /// # Errors
    /// Every problem at once.
    pub async fn inspect_clusters(config: &Config) -> Result<(), Problems> {
        Problems::unless_empty(clusters_look::problems(config).await)
    }

    /// Puts key files under a new passphrase, key by key: those of the data directory, which no server may use meanwhile, and those
    /// that the servers of the CA share. Broken off anywhere, every key opens with the former or with the new passphrase, and the
    /// same orders go on.
    ///
    /// # Errors
    /// [`RewrapFailure`] says what to do.
    pub async fn rewrap(
        config: &Config,
        deps: &HostDeps,
        orders: &RewrapOrders,
    ) -> Result<Vec<RewrappedStore>, RewrapFailure> {
        Box::pin(rewrap::run(config, deps, orders)).await
    }

    /// Moves the state of a CA whose servers are all stopped from the store of one configuration to that of another, which
    /// may differ in `[store]` alone.
    ///
    /// # Errors
    /// [`StateMoveError`] says what to do; what was begun goes on when it is run again.
    pub async fn move_state(
        config: &Config,
        target: &Config,
        deps: &HostDeps,
    ) -> Result<ca_state::Moved, StateMoveError> {
        moving::move_state(config, target, deps).await
    }

    /// Begins a backup of a state that no running server can be asked for: of a file whose server is stopped, or of a store that
    /// servers share.
    ///
    /// # Errors
    /// [`StateBackupError`].
    pub async fn backup(
        config: &Config,
        deps: &HostDeps,
        with_keys: bool,
    ) -> Result<OfflineBackup, StateBackupError> {
        backup::begin(config, deps, with_keys).await
    }

    /// Makes a backup the state of the configured place, on which no server may run. `replaces` names the state that may be
    /// thrown away for it.
    ///
    /// # Errors
    /// [`StateBackupError`] says what to do; what was begun goes on when it is run again.
    pub async fn restore(
        config: &Config,
        deps: &HostDeps,
        backup: &ca_state::backup::Backup,
        replaces: Option<&str>,
    ) -> Result<ca_state::Restored, StateBackupError> {
        backup::restore(config, deps, backup, replaces).await
    }

    /// Tries passphrases on the sealed keys of a backup: those of the configuration, or the one in this file.
    ///
    /// # Errors
    /// [`BootError`].
    pub async fn try_keys(
        backup: &ca_state::backup::Backup,
        config: Option<&Config>,
        passphrase: Option<&std::path::Path>,
    ) -> Result<Vec<SealedKeys>, BootError> {
        backup::try_keys(backup, config, passphrase).await
    }

    /// Starts a server; when it answers, requests are served.
    ///
    /// # Errors
    /// [`BootError`] says what to do. Nothing is served then, and what was stored so far is taken up by the next start.
    pub async fn start(config: Config, deps: HostDeps) -> Result<Running, BootError> {
        Self::start_with(config, deps, &()).await
    }

    /// As [`start`](Self::start), with what an embedding program adds.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(
        config: Config,
        deps: HostDeps,
        embedding: &dyn Embedding,
    ) -> Result<Running, BootError> {
        Problems::unless_empty(instances::plugin_problems(&config, embedding))?;
        let layout = Layout::claim(deps.disk.as_ref(), config.data_dir())?;
        // Before anything is made: what listens there already is often this server's own predecessor.
        let (listen, bundle) = (config.listen(), config.bundle_endpoint().listen());
        let addresses = Addresses::reserve(listen.grpc(), listen.plain(), bundle)?;
        let guard = Arc::new(GuardedClock::open(
            Arc::clone(&deps.clock),
            Arc::clone(&deps.disk),
            &layout.paths,
            config.leaf().skew(),
        )?);
        // Nothing in this server reads a clock that is not guarded.
        let deps = HostDeps { clock: guard.clock(), ..deps };
        let patience = Patience::new();
        let waits = patience.clone();
        let probes = addresses.tell_probes(move || waits.waits_for()).await?;
        let given =
            Given { config: &config, deps: &deps, layout: &layout, embedding, patience: &patience };
        let mut core = match Box::pin(open::core_services(given, guard)).await {
            Ok(core) => core,
            Err(error) => {
                probes.end().await;
                return Err(error);
            }
        };
        let assembled = async {
            recovery::counted(given, &core.store, &core.driver).await?;
            assemble::assemble(given, &mut core, addresses).await
        };
        let assembled = Box::pin(assembled).await;
        // What comes now is not to wait: the server says what is wrong with the store, or ends.
        patience.ends();
        probes.end().await;
        match assembled {
            Ok(assembled) => Ok(running::run(&config, assembled, core, layout.into_lock()).await),
            Err(error) => {
                // The record is let go before the directory is: the next start may come at once.
                core.task.stop().await;
                core.joined.leave().await;
                Err(error)
            }
        }
    }
}
