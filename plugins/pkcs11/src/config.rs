//! The settings of the backend, and its place in a registry.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plugins::{ConfigProblem, ConfigTable, KeyBackend, KeyBackendPlugin};
use trust::Clock;

use crate::backend::{OpenError, Pkcs11Keys, Pkcs11Options};
use crate::module::Module;
use crate::pin::PinSource;
use crate::token::TokenName;

const THREADS: u32 = 4;
const THREADS_MAX: u32 = 64;
const QUEUE: u32 = 256;
const QUEUE_MAX: u32 = 65_536;
const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Lists [`Pkcs11Keys`] in a registry under the name `pkcs11`.
///
/// Settings: `module`; one of `token`, `serial` and `slot`; one of `pin_file` and `pin_env`; `threads`, `queue` and
/// `timeout`.
#[derive(Clone, Debug)]
pub struct Pkcs11Plugin {
    /// Relative paths among the settings are relative to this directory.
    pub base: PathBuf,
    /// For how long a token that is away is left alone.
    pub clock: Arc<dyn Clock>,
}

impl Pkcs11Plugin {
    /// Reads the settings and opens the backend.
    ///
    /// # Errors
    /// As [`KeyBackendPlugin::open`].
    pub fn open_keys(&self, settings: &toml::Table) -> Result<Pkcs11Keys, Vec<ConfigProblem>> {
        let options = self.read(settings)?;
        let pin_field = options.pin.field();
        Pkcs11Keys::open(options).map_err(|error| {
            let field = match &error {
                OpenError::Module { .. } => "module",
                OpenError::Pin(_) | OpenError::PinRefused(_) => pin_field,
                OpenError::Token(_) => "token",
                OpenError::Threads(_) => "threads",
            };
            vec![ConfigProblem::new(field, error.to_string())]
        })
    }

    fn read(&self, settings: &toml::Table) -> Result<Pkcs11Options, Vec<ConfigProblem>> {
        let mut fields = ConfigTable::new(settings);
        let module: Option<PathBuf> = fields.required("module");
        let token = token(&mut fields);
        let pin = pin(&mut fields, &self.base);
        let threads = count(&mut fields, "threads", THREADS, THREADS_MAX);
        let queue = count(&mut fields, "queue", QUEUE, QUEUE_MAX);
        let timeout = timeout(&mut fields);
        let options = module.zip(token).zip(pin).map(|((module, token), pin)| Pkcs11Options {
            module: self.base.join(module),
            token,
            pin,
            threads,
            queue,
            timeout,
            clock: Arc::clone(&self.clock),
        });
        fields.finish(options)
    }
}

impl KeyBackendPlugin for Pkcs11Plugin {
    fn name(&self) -> &'static str {
        "pkcs11"
    }

    fn validate(&self, settings: &toml::Table) -> Result<(), Vec<ConfigProblem>> {
        self.read(settings).map(|_| ())
    }

    fn preflight(&self, settings: &toml::Table) -> Vec<ConfigProblem> {
        let Ok(options) = self.read(settings) else { return Vec::new() };
        let loads = Module::load(&options.module);
        loads
            .err()
            .map(|said| ConfigProblem::new("module", module_unusable(&options.module, &said)))
            .into_iter()
            .collect()
    }

    fn open(&self, settings: &toml::Table) -> Result<Arc<dyn KeyBackend>, Vec<ConfigProblem>> {
        Ok(Arc::new(self.open_keys(settings)?))
    }
}

fn module_unusable(path: &Path, said: &str) -> String {
    match path.try_exists() {
        Ok(false) => {
            format!(
                "{} is missing: install the token's module, or correct the path",
                path.display()
            )
        }
        _ => format!(
            "{} cannot be loaded ({said}): name the vendor's PKCS#11 module for this machine",
            path.display()
        ),
    }
}

fn token(fields: &mut ConfigTable<'_>) -> Option<TokenName> {
    let label: Option<String> = fields.optional("token");
    let serial: Option<String> = fields.optional("serial");
    let slot: Option<u64> = fields.optional("slot");
    let named =
        [label.map(TokenName::Label), serial.map(TokenName::Serial), slot.map(TokenName::Slot)];
    let mut named = named.into_iter().flatten();
    match (named.next(), named.next()) {
        (Some(name), None) => Some(name),
        (None, _) => {
            fields.problem(
                "token",
                "is missing; write the token's label, or its serial, or the number of its slot",
            );
            None
        }
        (Some(_), Some(_)) => {
            fields.problem("token", "stands beside serial or slot; keep one of the three");
            None
        }
    }
}

fn pin(fields: &mut ConfigTable<'_>, base: &Path) -> Option<PinSource> {
    let file: Option<PathBuf> = fields.optional("pin_file");
    let variable: Option<String> = fields.optional("pin_env");
    match (file, variable) {
        (Some(file), None) => Some(PinSource::File(base.join(file))),
        (None, Some(variable)) => Some(PinSource::Environment(variable)),
        (Some(_), Some(_)) => {
            fields.problem("pin_env", "stands beside pin_file; keep one of them");
            None
        }
        (None, None) => {
            fields.problem(
                "pin_file",
                "is missing; write the path of a file with mode 0600 that holds the user's PIN, or pin_env = \"NAME\" \
                 of an environment variable",
            );
            None
        }
    }
}

fn count(fields: &mut ConfigTable<'_>, field: &'static str, default: u32, most: u32) -> usize {
    let value = fields.optional(field).unwrap_or(default);
    if !(1..=most).contains(&value) {
        fields.problem(field, format!("{value} is out of bounds; write a number from 1 to {most}"));
    }
    usize::try_from(value).unwrap_or(1)
}

fn timeout(fields: &mut ConfigTable<'_>) -> Duration {
    let Some(text) = fields.optional::<String>("timeout") else { return TIMEOUT };
    match humantime::parse_duration(&text) {
        Ok(timeout) if (TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) => timeout,
        _ => {
            fields.problem(
                "timeout",
                format!("{text:?} is not right; write a duration from \"100ms\" to \"60s\""),
            );
            TIMEOUT
        }
    }
}

#[cfg(test)]
mod tests {
    use trust::{ManualClock, Timestamp};

    use super::*;

    fn plugin() -> Pkcs11Plugin {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        Pkcs11Plugin { base: PathBuf::from("/etc/banyan"), clock }
    }

    fn read(text: &str) -> Result<Pkcs11Options, Vec<ConfigProblem>> {
        plugin().read(&text.parse().expect("toml"))
    }

    fn problems(text: &str) -> Vec<String> {
        read(text).expect_err("problems").into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn a_short_table_gets_defaults_and_paths_beside_the_configuration() {
        let options =
            read("module = '/lib/hsm.so'\ntoken = 'mesh'\npin_file = 'pin'").expect("good");
        assert_eq!(options.module, Path::new("/lib/hsm.so"));
        assert_eq!(options.token, TokenName::Label("mesh".to_owned()));
        assert_eq!(options.pin, PinSource::File(PathBuf::from("/etc/banyan/pin")));
        assert_eq!((options.threads, options.queue), (4, 256));
        assert_eq!(options.timeout, Duration::from_secs(5));
    }

    #[test]
    fn every_problem_is_told_at_once_and_a_pin_in_the_file_is_one() {
        assert_eq!(problems(""), ["module", "token", "pin_file"]);
        let text = "module = 'a'\ntoken = 'b'\nslot = 1\npin_file = 'c'\npin_env = 'D'\nthreads = 0\nqueue = 70000\n\
                    timeout = '2m'\npin = '1234'";
        assert_eq!(problems(text), ["token", "pin_env", "threads", "queue", "timeout", "pin"]);
    }

    #[test]
    fn a_module_that_is_missing_or_no_module_is_told_before_a_start() {
        let dir = tempfile::tempdir().expect("dir");
        let look = |module: &Path| {
            let text = format!("module = '{}'\ntoken = 'mesh'\npin_env = 'P'", module.display());
            plugin().preflight(&text.parse().expect("toml"))
        };
        let path = dir.path().join("hsm.so");
        assert!(look(&path)[0].problem.contains("is missing"));
        std::fs::write(&path, "text").expect("written");
        let told = look(&path);
        assert!(
            told[0].field == "module" && told[0].problem.contains("cannot be loaded"),
            "{told:?}"
        );
    }

    #[test]
    fn a_token_is_named_by_its_serial_or_slot_too() {
        let name =
            |text: &str| read(&format!("module = 'a'\npin_env = 'D'\n{text}")).expect("good").token;
        assert_eq!(name("serial = '0a1b'"), TokenName::Serial("0a1b".to_owned()));
        assert_eq!(name("slot = 7"), TokenName::Slot(7));
    }
}
