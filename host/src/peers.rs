//! Where the programs of other projects are that demos and tests run against (Envoy, for one).
//!
//! `cargo xtask peers NAME` installs one below the cache directory; this module only knows the place.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directory that peers are installed in.
#[derive(Clone, Debug)]
pub struct PeerCache {
    root: PathBuf,
}

/// A program that is not there.
#[derive(Debug, thiserror::Error)]
pub enum PeerMissing {
    /// The peer is not installed.
    #[error("{binary} is not at {}: install it with `cargo xtask peers {name}`", path.display())]
    NotInstalled {
        /// The peer's name.
        name: String,
        /// The program's name.
        binary: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is no cache directory.
    #[error("no cache directory: set BANYAN_CACHE, or HOME, then run `cargo xtask peers {name}`")]
    NoCache {
        /// The peer's name.
        name: String,
    },
}

/// Finds a peer's program in the cache that the environment names.
///
/// # Errors
/// Says which command installs it.
pub fn binary(name: &str, binary: &str) -> Result<PathBuf, PeerMissing> {
    let cache = PeerCache::from_environment()
        .ok_or_else(|| PeerMissing::NoCache { name: name.to_owned() })?;
    cache.binary(name, binary)
}

impl PeerCache {
    /// The cache that the environment names: `$BANYAN_CACHE`, else `$XDG_CACHE_HOME/banyan`, else
    /// `$HOME/.cache/banyan`. `None` when none of them is set.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        Self::resolve(|name| env::var_os(name))
    }

    /// A cache at a given directory.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory that a peer is installed in: `<cache>/peers/<name>`.
    #[must_use]
    pub fn directory(&self, name: &str) -> PathBuf {
        self.root.join("peers").join(name)
    }

    /// Finds a peer's program: `<cache>/peers/<name>/bin/<binary>`.
    ///
    /// # Errors
    /// Says which command installs it.
    pub fn binary(&self, name: &str, binary: &str) -> Result<PathBuf, PeerMissing> {
        let path = self.directory(name).join("bin").join(binary);
        if path.is_file() {
            return Ok(path);
        }
        Err(PeerMissing::NotInstalled { name: name.to_owned(), binary: binary.to_owned(), path })
    }

    fn resolve(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("BANYAN_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("banyan")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/banyan")))?;
        Some(Self { root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(variables: &[(&str, &str)]) -> Option<PathBuf> {
        let find = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        };
        PeerCache::resolve(find).map(|cache| cache.directory("envoy"))
    }

    #[test]
    fn the_most_specific_variable_wins_and_an_empty_one_counts_as_unset() {
        let (banyan, xdg, home) =
            (("BANYAN_CACHE", "/b"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h"));
        assert_eq!(resolved(&[banyan, xdg, home]), Some("/b/peers/envoy".into()));
        assert_eq!(resolved(&[xdg, home]), Some("/x/banyan/peers/envoy".into()));
        assert_eq!(
            resolved(&[("BANYAN_CACHE", ""), home]),
            Some("/h/.cache/banyan/peers/envoy".into())
        );
        assert_eq!(resolved(&[]), None);
    }

    #[test]
    fn a_missing_peer_says_how_it_is_installed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = PeerCache::at(dir.path());
        let said = cache.binary("envoy", "envoy").unwrap_err().to_string();
        assert!(said.contains("cargo xtask peers envoy"), "{said}");
        let bin = dir.path().join("peers/envoy/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("envoy"), b"").unwrap();
        assert_eq!(cache.binary("envoy", "envoy").unwrap(), bin.join("envoy"));
    }
}
