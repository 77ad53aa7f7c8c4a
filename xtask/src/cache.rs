//! Where third-party parts are kept: a folder outside the checkout, shared by all checkouts of a user.
//!
//! ```text
//! <cache>/peers/<name>/bin/<program>   a part that tests talk to; a test may rely on this path
//! <cache>/tools/bin/<program>          a program that checks use
//! <cache>/locks/<name>                 held while a part is being installed
//! ```
//!
//! `<cache>` is `$BANYAN_CACHE`, else `$XDG_CACHE_HOME/banyan`, else `$HOME/.cache/banyan`.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::ensure;

/// The cache folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cache(PathBuf);

impl Cache {
    /// The folder that the environment names.
    pub(crate) fn from_environment() -> anyhow::Result<Self> {
        Self::choose(&|name| env::var_os(name))
    }

    /// A cache in a given folder.
    #[cfg(test)]
    pub(crate) fn at(folder: &std::path::Path) -> Self {
        Self(folder.to_path_buf())
    }

    /// Folder of one peer.
    pub(crate) fn peer(&self, name: &str) -> PathBuf {
        self.0.join("peers").join(name)
    }

    /// Folder above `bin` for programs that checks use.
    pub(crate) fn tools(&self) -> PathBuf {
        self.0.join("tools")
    }

    /// Folder of a former release.
    pub(crate) fn former(&self, commit: &str) -> PathBuf {
        self.0.join("former").join(commit)
    }

    /// Folder of lock files.
    pub(crate) fn locks(&self) -> PathBuf {
        self.0.join("locks")
    }

    fn choose(variable: &dyn Fn(&str) -> Option<OsString>) -> anyhow::Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("BANYAN_CACHE")
            .or_else(|| Some(set("XDG_CACHE_HOME")?.join("banyan")))
            .or_else(|| Some(set("HOME")?.join(".cache").join("banyan")));
        let folder = folder.unwrap_or_default();
        ensure!(
            folder.is_absolute(),
            "no absolute cache folder ({}): set BANYAN_CACHE to an absolute path",
            folder.display()
        );
        Ok(Self(folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(set: &[(&str, &str)]) -> Option<PathBuf> {
        let lookup = |name: &str| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        };
        Cache::choose(&lookup).ok().map(|cache| cache.0)
    }

    #[test]
    fn the_nearest_variable_chooses_the_cache() {
        let home = ("HOME", "/home/a");
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(chosen(&[home]), Some("/home/a/.cache/banyan".into()));
        assert_eq!(chosen(&[home, xdg]), Some("/x/banyan".into()));
        assert_eq!(chosen(&[home, xdg, ("BANYAN_CACHE", "/b")]), Some("/b".into()));
        assert_eq!(chosen(&[home, ("BANYAN_CACHE", "")]), Some("/home/a/.cache/banyan".into()));
    }

    #[test]
    fn a_relative_or_missing_cache_is_refused() {
        assert_eq!(chosen(&[("BANYAN_CACHE", "here")]), None);
        assert_eq!(chosen(&[]), None);
    }
}
