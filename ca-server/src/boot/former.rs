//! A data directory of a release that kept each part of the state in a place of its own: it is taken over once.
//!
//! All parts are copied to `state.redb.unfinished`, which becomes `state.redb` when it is whole; then the parts are moved to
//! `former/`, the record first, so that no older program goes on from them. A start that finds `record.redb` in its place
//! finds a take-over that is not over: nothing has used `state.redb` yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use control::paths::{DIR_MODE, Paths};
use rotation_driver::{FormerError, RecordStore as _, SharedRecord};
use stores::SharedStore;
use stores_redb::{RedbStore, Unfinished};

use super::blocking::blocking;
use super::given::Given;
use super::{BootError, layout};

/// The parts, in the order in which they are moved away.
const PARTS: [&str; 1] = ["record.redb"];
/// Where they go.
const FORMER: &str = "former";

/// The record of a former release.
pub(super) fn record(paths: &Paths) -> PathBuf {
    paths.directory().join("record.redb")
}

/// Takes over what a former release left, if it left anything; what was begun before is ended.
pub(super) async fn take_over(given: Given<'_>) -> Result<(), BootError> {
    let Given { layout, deps, .. } = given;
    let (paths, disk) = (&layout.paths, &deps.disk);
    if layout::exists(&record(paths))? {
        match layout::exists(&paths.state())? {
            false => copy(given).await?,
            true => are_the_same(given).await?,
        }
    } else if !layout::exists(&paths.state())? {
        return Ok(());
    }
    let (paths, disk) = (paths.clone(), Arc::clone(disk));
    blocking(move || put_away(&paths, disk.as_ref())).await?
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
    fill(given, unfinished.store()).await?;
    blocking(move || unfinished.finish()).await??;
    Ok(())
}

/// Copies every part.
async fn fill(given: Given<'_>, store: &dyn SharedStore) -> Result<(), BootError> {
    let Given { config, layout, deps, .. } = given;
    let claimed = ca_state::claim(store, config.trust_domain(), deps.randomness.as_ref()).await;
    claimed.map_err(|error| BootError::State {
        place: layout.paths.state().display().to_string(),
        error,
    })?;
    rotation_driver::take_over(&record(&layout.paths), store).await?;
    Ok(())
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

/// Moves the parts away that are still in their places.
fn put_away(paths: &Paths, disk: &dyn host::Disk) -> Result<(), BootError> {
    let directory = paths.directory();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BootError::DataDir { path, source }
    };
    let away = directory.join(FORMER);
    for part in PARTS {
        let (from, to) = (directory.join(part), away.join(part));
        if !layout::exists(&from)? {
            continue;
        }
        if layout::exists(&to)? {
            return Err(BootError::FormerTwice { found: from, away: to });
        }
        disk.create_dir_all(&away, DIR_MODE).map_err(failed(&away))?;
        disk.rename(&from, &to).map_err(failed(&from))?;
        tracing::info!(from = %from.display(), to = %to.display(), "moved away what is taken over");
    }
    Ok(())
}
