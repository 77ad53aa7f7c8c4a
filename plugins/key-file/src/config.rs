//! The settings of the backend, and its place in a registry.

use std::path::PathBuf;
use std::sync::Arc;

use host::Disk;
use plugins::{ConfigProblem, ConfigTable, KeyBackend, KeyBackendPlugin};
use trust::Randomness;

use crate::files::{Directory, Files};
use crate::open_error::OpenError;
use crate::passphrase::PassphraseSource;
use crate::sealed::KdfCost;
use crate::store::{FileKeys, Opening};

/// Lists [`FileKeys`] in a registry under the name `file`.
///
/// Settings: one of `passphrase_file` (a path) and `passphrase_env` (the name of an environment variable).
#[derive(Clone, Debug)]
pub struct FileKeysPlugin {
    /// The directory of the store, such as `<data directory>/keys`.
    pub directory: PathBuf,
    /// What a guess of the passphrase shall cost in a new store.
    pub cost: KdfCost,
    /// Where the files are.
    pub disk: Arc<dyn Disk>,
    /// Salt and nonces.
    pub randomness: Arc<dyn Randomness>,
}

impl FileKeysPlugin {
    /// Opens keys that are in these files instead of the directory.
    ///
    /// # Errors
    /// Every problem of the settings, or why the files cannot be used.
    pub fn open_in(
        &self,
        files: Arc<dyn Files>,
        settings: &toml::Table,
    ) -> Result<Arc<dyn KeyBackend>, Vec<ConfigProblem>> {
        let source = read(settings)?;
        let problem = |error: &OpenError| {
            let field = match error {
                OpenError::Passphrase(_)
                | OpenError::WrongPassphrase { .. }
                | OpenError::Moving { .. } => source.field(),
                _ => "backend",
            };
            vec![ConfigProblem::new(field, error.to_string())]
        };
        let (cost, randomness) = (self.cost, Arc::clone(&self.randomness));
        let opened =
            source.read(self.disk.as_ref()).map_err(OpenError::from).and_then(|passphrase| {
                FileKeys::open_in(Opening { files, passphrase, cost, randomness })
            });
        Ok(Arc::new(opened.map_err(|error| problem(&error))?))
    }
}

impl KeyBackendPlugin for FileKeysPlugin {
    fn name(&self) -> &'static str {
        "file"
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        read(settings).map(|_| ())
    }

    fn open(&self, settings: &toml::Table) -> Result<Arc<dyn KeyBackend>, Vec<ConfigProblem>> {
        let (path, disk) = (self.directory.clone(), Arc::clone(&self.disk));
        self.open_in(Arc::new(Directory { path, disk }), settings)
    }
}

fn read(settings: &toml::Table) -> Result<PassphraseSource, Vec<ConfigProblem>> {
    let mut fields = ConfigTable::new(settings);
    let file = fields.optional::<PathBuf>("passphrase_file");
    let variable = fields.optional::<String>("passphrase_env");
    let source = match (file, variable) {
        (Some(file), None) => Some(PassphraseSource::File(file)),
        (None, Some(variable)) => Some(PassphraseSource::Environment(variable)),
        (Some(_), Some(_)) => {
            fields.problem("passphrase_env", "stands beside passphrase_file; keep one of them");
            None
        }
        (None, None) => {
            fields.problem(
                "passphrase_file",
                "is missing: keys on disk need a passphrase. Make one (`openssl rand -base64 24 > FILE; chmod 0600 \
                 FILE`) and name it here, or name an environment variable in passphrase_env",
            );
            None
        }
    };
    fields.finish(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let settings: toml::Table = text.parse().expect("toml");
        read(&settings).expect_err("problems").into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn exactly_one_passphrase_is_named() {
        assert_eq!(problems(""), ["passphrase_file"]);
        assert_eq!(problems("passphrase_file = 'a'\npassphrase_env = 'B'"), ["passphrase_env"]);
        let settings: toml::Table = "passphrase_env = 'B'".parse().expect("toml");
        assert_eq!(read(&settings), Ok(PassphraseSource::Environment("B".to_owned())));
    }

    #[test]
    fn unknown_fields_and_missing_ones_are_told_together() {
        assert_eq!(
            problems("passphrase = 'x'\ncost = 1"),
            ["passphrase_file", "cost", "passphrase"]
        );
    }
}
