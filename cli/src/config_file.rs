//! Which configuration file is meant when none is named.

use std::path::{Path, PathBuf};

use console::exit::Failure;

/// Where packages put configuration files.
const SYSTEM: &str = "/etc/banyan";

/// The file of a server.
pub const SERVER: &str = "banyan.toml";
/// The file of an agent.
pub const AGENT: &str = "agent.toml";
/// The file of what runs beside a server for a cluster.
pub const KUBERNETES: &str = "kubernetes.toml";

/// The file that was named; else the one of this name in the present directory, else the one in `/etc/banyan`.
///
/// # Errors
/// [`Failure::Configuration`] when there is none, with both places.
pub fn find(given: Option<&Path>, name: &str) -> Result<PathBuf, Failure> {
    look(given, name, Path::new(SYSTEM)).ok_or_else(|| {
        Failure::Configuration(format!(
            "there is no {name} in this directory and no {SYSTEM}/{name}: write one, or name it with --config FILE"
        ))
    })
}

/// As [`find`], `None` when there is none.
#[must_use]
pub fn found(name: &str) -> Option<PathBuf> {
    look(None, name, Path::new(SYSTEM))
}

fn look(given: Option<&Path>, name: &str, system: &Path) -> Option<PathBuf> {
    if let Some(given) = given {
        return Some(given.to_owned());
    }
    [PathBuf::from(name), system.join(name)].into_iter().find(|file| file.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_goes_first_and_the_file_of_the_system_last() {
        let system = tempfile::tempdir().unwrap();
        let name = "no-such-file-beside-the-tests.toml";
        assert_eq!(look(None, name, system.path()), None);
        std::fs::write(system.path().join(name), "").unwrap();
        assert_eq!(look(None, name, system.path()), Some(system.path().join(name)));
        // Tests run in the folder of their crate.
        assert_eq!(look(None, "Cargo.toml", system.path()), Some(PathBuf::from("Cargo.toml")));
        let given = Path::new("/srv/named.toml");
        assert_eq!(look(Some(given), "Cargo.toml", system.path()), Some(given.to_owned()));
        let error = find(None, name).unwrap_err();
        assert!(error.code() == 5 && error.to_string().contains("/etc/banyan/"), "{error}");
    }
}
