//! Third-party parts for tests and checks: `cargo xtask peers NAME...`.
//!
//! Parts come from package registries at pinned versions and are kept outside the checkout (see [`crate::cache`]). A
//! part is made in a folder beside its place and renamed when it is whole; one process at a time makes a part, and a
//! part whose recipe has not changed is left alone. A program that runs while its part is replaced keeps running.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::cache::Cache;
use crate::{debian, process};
use recipe::Recipe;
use table::{PEERS, Peer};

mod recipe;
pub(crate) mod table;

/// Written into a part's folder when it is whole; says what it was made by.
const RECIPE_FILE: &str = "recipe";

/// Installs the named parts and gives the paths of their programs.
///
/// # Errors
/// If a name is unknown, a registry or a tool is missing, or a part does not bring its program. What was installed
/// before stays.
pub(crate) fn install(cache: &Cache, names: &[impl AsRef<str>]) -> anyhow::Result<Vec<PathBuf>> {
    let wanted: Vec<&Peer> =
        names.iter().map(|name| find(name.as_ref())).collect::<Result<_, _>>()?;
    wanted.into_iter().map(|peer| install_one(cache, peer)).collect()
}

fn find(name: &str) -> anyhow::Result<&'static Peer> {
    PEERS.iter().find(|peer| peer.name == name).with_context(|| {
        let known: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        format!("no part is called {name:?}; known are {}", known.join(", "))
    })
}

fn install_one(cache: &Cache, peer: &Peer) -> anyhow::Result<PathBuf> {
    let _held = lock(cache, peer.name)?;
    let make = |folder: &Path| {
        debian::ensure(peer.needs)?;
        peer.recipe.make(peer.program, folder)
    };
    let place = match peer.recipe {
        Recipe::Cargo { package, version } => {
            let tools = cache.tools();
            let program = tools.join("bin").join(peer.program);
            let printed = process::output(Command::new(&program).arg("--version"));
            if printed != Some(format!("{package} {version}")) {
                make(&tools)?;
            }
            tools
        }
        Recipe::Python { .. }
        | Recipe::PythonArchive { .. }
        | Recipe::Go { .. }
        | Recipe::GoModule { .. } => {
            let place = cache.peer(peer.name);
            keep_current(&place, &peer.recipe.fingerprint()?, peer.program, make)?;
            place
        }
    };
    Ok(place.join("bin").join(peer.program))
}

/// Waits until no other process installs this part; the lock goes with the returned file.
fn lock(cache: &Cache, name: &str) -> anyhow::Result<File> {
    let locks = cache.locks();
    fs::create_dir_all(&locks).with_context(|| format!("create {}", locks.display()))?;
    let path = locks.join(name);
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    file.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// Makes the part anew unless a whole one by this recipe is there. The caller holds the part's lock.
fn keep_current(
    place: &Path,
    recipe: &str,
    program: &str,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // Following links: an interpreter that the system has replaced leaves a dangling one.
    let whole = |folder: &Path| folder.join("bin").join(program).is_file();
    if whole(place)
        && fs::read_to_string(place.join(RECIPE_FILE)).is_ok_and(|made_by| made_by == recipe)
    {
        return Ok(());
    }
    let fresh = place.with_extension("new");
    let former = place.with_extension("old");
    for leftover in [&fresh, &former] {
        remove(leftover)?;
    }
    fs::create_dir_all(&fresh).with_context(|| format!("create {}", fresh.display()))?;
    make(&fresh)?;
    ensure!(
        whole(&fresh),
        "the part in {} has no program bin/{program}: correct its row",
        fresh.display()
    );
    fs::write(fresh.join(RECIPE_FILE), recipe)
        .with_context(|| format!("write into {}", fresh.display()))?;
    if place.exists() {
        fs::rename(place, &former).with_context(|| format!("move {} away", place.display()))?;
    }
    fs::rename(&fresh, place).with_context(|| format!("move {} into place", fresh.display()))?;
    remove(&former)
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use anyhow::bail;

    use super::*;

    /// Makes a part whose program holds the given text.
    fn making(text: &str) -> impl FnOnce(&Path) -> anyhow::Result<()> {
        move |folder| {
            fs::create_dir(folder.join("bin"))?;
            Ok(fs::write(folder.join("bin/part"), text)?)
        }
    }

    fn text(place: &Path) -> String {
        fs::read_to_string(place.join("bin/part")).unwrap()
    }

    #[test]
    fn a_part_is_made_once_and_again_only_when_its_recipe_changes() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("part");
        keep_current(&place, "recipe 1", "part", making("first")).unwrap();
        keep_current(&place, "recipe 1", "part", |_| bail!("made twice")).unwrap();
        assert_eq!(text(&place), "first");
        keep_current(&place, "recipe 2", "part", making("second")).unwrap();
        assert_eq!(text(&place), "second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_failed_making_leaves_the_former_part_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("part");
        keep_current(&place, "recipe 1", "part", making("first")).unwrap();
        assert!(keep_current(&place, "recipe 2", "part", |_| bail!("no network")).is_err());
        assert!(
            keep_current(&place, "recipe 2", "part", |_| Ok(())).is_err(),
            "no program was made"
        );
        assert_eq!(text(&place), "first");
        keep_current(&place, "recipe 2", "part", making("second")).unwrap();
        assert_eq!(text(&place), "second");
    }

    #[test]
    fn a_half_made_part_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("part");
        keep_current(&place, "recipe 1", "part", making("first")).unwrap();
        fs::remove_file(place.join("bin/part")).unwrap();
        keep_current(&place, "recipe 1", "part", making("again")).unwrap();
        assert_eq!(text(&place), "again");
    }

    #[test]
    fn one_at_a_time_installs_a_part() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let (inside, made) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _held = lock(&cache, "part").unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold the lock");
                    let make = |folder: &Path| {
                        made.fetch_add(1, Ordering::SeqCst);
                        making("once")(folder)
                    };
                    keep_current(&cache.peer("part"), "recipe 1", "part", make).unwrap();
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_unknown_part_is_refused_with_the_known_ones() {
        let folder = tempfile::tempdir().unwrap();
        let error = install(&Cache::at(folder.path()), &["envoi"]).unwrap_err().to_string();
        assert!(error.contains("envoi") && error.contains("grpcurl"), "{error}");
    }
}
