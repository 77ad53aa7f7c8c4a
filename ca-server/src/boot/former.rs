//! A data directory of a release that kept each part of the state in a place of its own: it is taken over once.
//!
//! All parts are copied to `state.redb.unfinished`, which becomes `state.redb` when it is whole; then the parts are moved to
//! `former/`, the record first, so that no older program goes on from them. A start that finds `record.redb` in its place
//! finds a take-over that is not over: nothing has used `state.redb` yet.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use control::former::{take_over_bundles, take_over_requests};
use control::paths::{DIR_MODE, Paths};
use plugin_key_file::{HEADER, public_half};
use plugins::{AuthorityState as _, StateName};
use rotation::State;
use rotation_driver::{FormerError, RecordStore as _, SharedRecord};
use stores::marked::mark;
use stores::settle::{self, Created};
use stores::{SharedStore, WriteError};
use stores_redb::{RedbStore, Unfinished};
use trust::Certificate;

use super::authority_state::SharedBooks;
use super::blocking::blocking;
use super::given::Given;
use super::shared_files::{COMMON, place, scope_of};
use super::{BootError, layout};

/// The parts, in the order in which they are moved away. Every such directory has the last one.
const PARTS: [&str; 5] = ["record.redb", "registry.redb", "bundles", "requests", "authority"];
/// Where they go.
const FORMER: &str = "former";
/// Key files of a directory.
const KEYS: &str = "keys";

/// The record of a former release.
pub(super) fn record(paths: &Paths) -> PathBuf {
    paths.directory().join("record.redb")
}

/// Takes over what a former release left, if it left anything; what was begun before is ended.
pub(super) async fn take_over(given: Given<'_>) -> Result<(), BootError> {
    let Given { layout, deps, .. } = given;
    let (paths, disk) = (&layout.paths, &deps.disk);
    let whole = layout::exists(&paths.state())?;
    match (layout::exists(&record(paths))?, whole) {
        (true, false) => copy(given).await?,
        (true, true) => are_the_same(given).await?,
        (false, false) => return Ok(()),
        (false, true) => {}
    }
    let mut parts = Vec::new();
    for part in PARTS {
        if layout::exists(&paths.directory().join(part))? {
            parts.push(PathBuf::from(part));
        }
    }
    if parts.is_empty() {
        return Ok(());
    }
    // Behind the record, and before the part that shows that something is left to be moved.
    let at = parts.iter().take_while(|part| part.ends_with("record.redb")).count();
    let names = root_keys(given).await?;
    parts.splice(at..at, names.into_iter().map(|name| Path::new(KEYS).join(name)));
    let (paths, disk) = (paths.clone(), Arc::clone(disk));
    blocking(move || put_away(&paths, disk.as_ref(), &parts)).await?
}

async fn copy(given: Given<'_>) -> Result<(), BootError> {
    let Given { layout, deps, .. } = given;
    let paths = &layout.paths;
    tracing::info!(
        from = %paths.directory().display(), to = %paths.state().display(),
        "taking over the state that a former release left in this directory"
    );
    let (disk, path) = (Arc::clone(&deps.disk), paths.state());
    let unfinished = blocking(move || Unfinished::begin(disk, &path)).await??;
    fill(given, Arc::new(unfinished.store().clone())).await?;
    blocking(move || unfinished.finish()).await??;
    Ok(())
}

/// Copies every part.
async fn fill(given: Given<'_>, store: Arc<dyn SharedStore>) -> Result<(), BootError> {
    let Given { config, layout, deps, .. } = given;
    let directory = layout.paths.directory();
    let claimed =
        ca_state::claim(store.as_ref(), config.trust_domain(), deps.randomness.as_ref()).await;
    claimed.map_err(|error| BootError::State {
        place: layout.paths.state().display().to_string(),
        error,
    })?;
    rotation_driver::take_over(&record(&layout.paths), store.as_ref()).await?;
    let domain = config.trust_domain();
    take_over_bundles(&directory.join("bundles"), domain, store.as_ref()).await?;
    take_over_requests(&directory.join("requests"), store.as_ref()).await?;
    let state = state_in(store.clone()).await?;
    // It was made before anybody was asked for a root.
    let asked = state.as_ref().is_some_and(|state| !state.phase.is_uninitialised());
    let registry = directory.join("registry.redb");
    if asked || layout::exists(&registry)? {
        registry::take_over(&registry, store.as_ref()).await?;
    }
    // Keys of issuers stay each server's own.
    let issuers: BTreeSet<String> = state
        .iter()
        .flat_map(|state| state.roots.values())
        .flat_map(|root| root.issuers.values())
        .map(|issuer| format!("{}.key", issuer.key))
        .collect();
    let is_shared = |name: &str| !issuers.contains(name);
    take_over_keys(&directory.join(KEYS), COMMON, store.as_ref(), is_shared).await?;
    for authority in entries(&directory.join("authority"))? {
        take_over_authority(&authority, &store).await?;
    }
    Ok(())
}

/// The books of an authority, and the key files that are its own.
async fn take_over_authority(
    directory: &Path,
    store: &Arc<dyn SharedStore>,
) -> Result<(), BootError> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let books = SharedBooks::open(Arc::clone(store), &name, false).await?;
    for path in entries(directory)? {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if let Ok(book) = StateName::parse(&file)
            && path.is_file()
        {
            books.put(&book, &read(&path)?).await?;
        }
    }
    // One that was lost before stays lost.
    let listed = match std::fs::read_to_string(directory.join(".names")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(unusable(directory)(error)),
    };
    books.expect(listed.lines()).await?;
    take_over_keys(&directory.join(KEYS), &scope_of(&name), store.as_ref(), |_| true).await
}

/// Key files as they are, with the header that opens them.
async fn take_over_keys(
    directory: &Path,
    scope: &str,
    store: &dyn SharedStore,
    is_shared: impl Fn(&str) -> bool,
) -> Result<(), BootError> {
    for path in entries(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_key = path.extension().is_some_and(|suffix| suffix == "key") && is_shared(&name);
        if is_key || name == HEADER {
            let key = place(scope, &name).map_err(BootError::NotRead)?;
            let written = settle::create(store, &key, &mark(&key, &read(&path)?)).await;
            let not_taken = |error: WriteError| BootError::Former(error.into());
            if let Created::There(there) = written.map_err(not_taken)? {
                return Err(not_taken(WriteError::conflict(&key, Some(there.version))));
            }
        }
    }
    Ok(())
}

/// The names of key files that are copied and belong to roots: nobody reads them here any more.
async fn root_keys(given: Given<'_>) -> Result<Vec<String>, BootError> {
    let Given { layout, deps, .. } = given;
    let (disk, path) = (Arc::clone(&deps.disk), layout.paths.state());
    let store = Arc::new(blocking(move || RedbStore::open(disk, &path)).await??);
    let state = state_in(store).await?;
    let roots: BTreeSet<Vec<u8>> = state
        .iter()
        .flat_map(|state| state.roots.values())
        .filter_map(|root| Certificate::parse(root.der.as_bytes()).ok())
        .map(|root| root.spki_der().to_vec())
        .collect();
    let mut names = Vec::new();
    for path in entries(&layout.paths.keys())? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".key")
            && public_half(&read(&path)?).is_ok_and(|key| roots.contains(&key))
        {
            names.push(name);
        }
    }
    Ok(names)
}

async fn state_in(store: Arc<dyn SharedStore>) -> Result<Option<State>, BootError> {
    let stored = SharedRecord::new(store).load().await.map_err(FormerError::from)?;
    // A record that cannot be read is the driver's to tell.
    Ok(stored.and_then(|stored| rotation::record::decode(&stored.record).ok()))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, BootError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unusable(directory)(error)),
    };
    let paths: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(unusable(directory))
}

fn read(path: &Path) -> Result<Vec<u8>, BootError> {
    std::fs::read(path).map_err(unusable(path))
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> BootError {
    let path = path.to_owned();
    move |source| BootError::DataDir { path, source }
}

/// That nothing came into either since one was copied to the other.
async fn are_the_same(given: Given<'_>) -> Result<(), BootError> {
    let Given { layout, deps, .. } = given;
    let (former, state) = (record(&layout.paths), layout.paths.state());
    let before = rotation_driver::former_record(&former).await?;
    let (disk, path) = (Arc::clone(&deps.disk), state.clone());
    let opened = blocking(move || RedbStore::open(disk, &path)).await??;
    let now = SharedRecord::new(Arc::new(opened)).load().await.map_err(FormerError::from)?;
    match before == now {
        true => Ok(()),
        false => Err(BootError::TwoStates { former, state }),
    }
}

/// Moves parts away.
fn put_away(paths: &Paths, disk: &dyn host::Disk, parts: &[PathBuf]) -> Result<(), BootError> {
    let directory = paths.directory();
    let away = directory.join(FORMER);
    for part in parts {
        let (from, to) = (directory.join(part), away.join(part));
        if layout::exists(&to)? {
            return Err(BootError::FormerTwice { found: from, away: to });
        }
        let above = to.parent().unwrap_or(&away);
        disk.create_dir_all(above, DIR_MODE).map_err(unusable(above))?;
        disk.rename(&from, &to).map_err(unusable(&from))?;
        tracing::info!(from = %from.display(), to = %to.display(), "moved away what is taken over");
    }
    Ok(())
}
