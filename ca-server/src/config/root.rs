//! Sections `[root]`, `[authority.*]` and `[keys]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use plugins::{ConfigProblem, KeySpec};
use rotation::AuthorityName;
use trust::RootId;
use trust::plain::span;

use super::issuer_lives::{issuer_min, renew_every};
use super::leaf::LeafConfig;
use super::reader::Section;

/// Section `[root]` with the authority it names.
#[derive(Debug, Clone)]
pub struct RootConfig {
    authority: String,
    authorities: BTreeMap<String, AuthorityConfig>,
    lifetime: Duration,
    issuer_lifetime: Duration,
    issuer_lifetime_min: Duration,
    issuer_renew_every: Option<Duration>,
    key: KeySpec,
    issuer_key: KeySpec,
    destroy_retired_keys: bool,
    standby: Option<StandbyConfig>,
}

/// Section `[root.standby]`.
#[derive(Debug, Clone)]
struct StandbyConfig {
    authority: AuthorityName,
    renew_before: Duration,
}

impl RootConfig {
    /// Name of the authority that makes roots, unless a rotation names another. Default `main`; without any section
    /// `[authority.*]` that is a self-signed root.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Every section `[authority.*]`, by name.
    pub const fn authorities(&self) -> &BTreeMap<String, AuthorityConfig> {
        &self.authorities
    }

    /// Life of a root that the CA asks for. Default `3650d`, `1h` to `36500d`.
    pub const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Life of an issuer. Default `365d`, at least `30m`; at least four times `leaf.ttl_max`, at most half of
    /// `lifetime`.
    pub const fn issuer_lifetime(&self) -> Duration {
        self.issuer_lifetime
    }

    /// Shortest life of an issuer that is worth asking for. Where what stands above an issuer ends before
    /// `issuer_lifetime`, the issuer is asked for with what is left, down to this. Default twice `leaf.ttl_max`; at least
    /// `leaf.ttl_max`, at most `issuer_lifetime`.
    pub const fn issuer_lifetime_min(&self) -> Duration {
        self.issuer_lifetime_min
    }

    /// Age at which the issuer that signs is replaced under the same root, so that no key signs for longer. Default none, which leaves it at
    /// half of its life; at least four times `leaf.ttl_max`, at most half of `issuer_lifetime`.
    pub const fn issuer_renew_every(&self) -> Option<Duration> {
        self.issuer_renew_every
    }

    /// Kind of the root's key: `p256` (default), `p384` or `ed25519`.
    pub const fn key(&self) -> KeySpec {
        self.key
    }

    /// Kind of the issuers' keys: `p256` (default) or `p384`.
    pub const fn issuer_key(&self) -> KeySpec {
        self.issuer_key
    }

    /// Whether the key of a root is destroyed at its authority, if nobody else issues under it, once the rotation away
    /// from it is over. Default false: it stays until somebody removes it.
    pub const fn destroy_retired_keys(&self) -> bool {
        self.destroy_retired_keys
    }

    /// Section `[root.standby]`: the authority (`authority`, required) whose root stands by, and how long before its end the next
    /// one is prepared (`renew_before`; default `90d`, at most half of `lifetime`, and a quarter of it where that is less).
    /// Default none: standby roots are prepared by operators alone.
    pub fn standby(&self) -> Option<(&AuthorityName, Duration)> {
        self.standby.as_ref().map(|standby| (&standby.authority, standby.renew_before))
    }
}

/// One section `[authority.NAME]`.
#[derive(Debug, Clone)]
pub struct AuthorityConfig {
    name: String,
    plugin: String,
    settings: toml::Table,
    keys: Option<KeyBackendConfig>,
    foreign_leaf_max: Option<Duration>,
    trust_again: BTreeSet<RootId>,
}

/// A key backend: `backend`, and its own settings.
#[derive(Debug, Clone)]
pub struct KeyBackendConfig {
    backend: String,
    settings: toml::Table,
}

impl KeyBackendConfig {
    /// The plugin's name, such as `pkcs11`.
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// All other keys; the plugin checks them.
    pub const fn settings(&self) -> &toml::Table {
        &self.settings
    }
}

impl AuthorityConfig {
    pub(super) fn plain(name: &str, plugin: String, settings: toml::Table) -> Self {
        Self {
            name: name.to_owned(),
            plugin,
            settings,
            keys: None,
            foreign_leaf_max: None,
            trust_again: BTreeSet::new(),
        }
    }

    /// The instance's name: the last part of the section's title.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The plugin's name, such as `self-signed`. Required.
    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// All other keys; the plugin checks them.
    pub const fn settings(&self) -> &toml::Table {
        &self.settings
    }

    /// Section `[authority.NAME.keys]`: where this authority's own keys are. Default the backend of `[keys]`.
    pub const fn keys(&self) -> Option<&KeyBackendConfig> {
        self.keys.as_ref()
    }

    /// `foreign_leaf_max`: the longest life of a leaf that others issue under this authority's roots, if it is not
    /// exclusive. Default none, and then no leaf gate of such a root opens; `1s` to `3650d`.
    pub const fn foreign_leaf_max(&self) -> Option<Duration> {
        self.foreign_leaf_max
    }

    /// `trust_again`: fingerprints (SHA-256 in hexadecimal) of roots that may be trusted again as further roots of this authority
    /// although they were withdrawn. Default none.
    pub const fn trust_again(&self) -> &BTreeSet<RootId> {
        &self.trust_again
    }
}

/// Section `[keys]`.
#[derive(Debug, Clone)]
pub enum KeysConfig {
    /// `backend = "file"` (default): encrypted files below the data directory.
    File {
        /// What opens them. Required.
        passphrase: Passphrase,
    },
    /// `backend = "memory"`: keys die with the process, and the root with them. Needs
    /// `dangerously_keep_keys_in_memory = true`.
    Memory,
    /// Any other `backend`, such as `pkcs11`, with all other keys of the section; the plugin checks them.
    Plugin(KeyBackendConfig),
}

/// Where the passphrase of the key files is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passphrase {
    /// `passphrase_file`: the first line of a file with mode 0600.
    File(PathBuf),
    /// `passphrase_env`: an environment variable.
    Env(String),
}

pub(super) fn root(
    table: &toml::Table,
    authorities: &toml::Table,
    leaf: Option<&LeafConfig>,
    problems: &mut Vec<ConfigProblem>,
) -> Option<RootConfig> {
    let mut section = Section::open("root", table, problems);
    let name = section.optional("authority", "the NAME of a section [authority.NAME]");
    let name: String = name.unwrap_or_else(|| "main".to_owned());
    let lifetime = section.duration("lifetime", "3650d", ["1h", "36500d"]);
    let issuer_lifetime = section.duration("issuer_lifetime", "365d", ["30m", "36500d"]);
    let curves = [("p256", KeySpec::P256), ("p384", KeySpec::P384), ("ed25519", KeySpec::Ed25519)];
    let key = section.choice("key_type", KeySpec::P256, &curves);
    let issuer_key =
        section.choice("issuer_key_type", KeySpec::P256, curves.get(..2).unwrap_or_default());
    if let (Some(root), Some(issuer)) = (lifetime, issuer_lifetime)
        && issuer * 2 > root
    {
        let most = span(root / 2);
        section.problem(
            "issuer_lifetime",
            format_args!("is longer than half of root.lifetime; write at most {most}"),
        );
    }
    if let (Some(issuer), Some(leaf)) = (issuer_lifetime, leaf)
        && issuer < leaf.ttl_max() * 4
    {
        let least = span(leaf.ttl_max() * 4);
        section.problem(
            "issuer_lifetime",
            format_args!("is shorter than four times leaf.ttl_max; write at least {least}"),
        );
    }
    let issuer_lifetime_min = issuer_min(&mut section, table, issuer_lifetime, leaf);
    let issuer_renew_every = renew_every(&mut section, table, issuer_lifetime, leaf);
    let destroy_retired_keys =
        section.optional("destroy_retired_keys", "true or false").unwrap_or(false);
    let standby = match table.contains_key("standby") {
        true => Some(section.table("standby")),
        false => {
            // Known, though absent.
            let _: Option<toml::Table> = section.optional("standby", "a table [root.standby]");
            None
        }
    };
    let known = authorities.contains_key(&name) || (authorities.is_empty() && name == "main");
    if !known {
        section.problem(
            "authority",
            format_args!("there is no section [authority.{name}]; write one"),
        );
    }
    section.close();
    let standby = match standby {
        Some(table) => Some(standby_of(&table, authorities, lifetime, problems)?),
        None => None,
    };
    let mut all: BTreeMap<_, _> = authorities
        .iter()
        .filter_map(|(other, table)| Some((other.clone(), authority(other, table, problems)?)))
        .collect();
    if authorities.is_empty() {
        let (plugin, settings) = ("self-signed".to_owned(), toml::Table::new());
        all.insert(name.clone(), AuthorityConfig::plain(&name, plugin, settings));
    }
    Some(RootConfig {
        authority: name,
        authorities: all,
        lifetime: lifetime?,
        issuer_lifetime: issuer_lifetime?,
        issuer_lifetime_min: issuer_lifetime_min?,
        issuer_renew_every: issuer_renew_every?,
        key: key?,
        issuer_key: issuer_key?,
        destroy_retired_keys,
        standby,
    })
}

fn standby_of(
    table: &toml::Table,
    authorities: &toml::Table,
    root_lifetime: Option<Duration>,
    problems: &mut Vec<ConfigProblem>,
) -> Option<StandbyConfig> {
    let mut section = Section::open("root.standby", table, problems);
    let write = "the NAME of a section [authority.NAME], best one whose keys lie elsewhere";
    let authority = section.parsed("authority", write, AuthorityName::parse);
    let given = table.contains_key("renew_before");
    let renew_before = section.duration("renew_before", "90d", ["1m", "36500d"]);
    if let Some(name) = authority.as_ref().filter(|name| !authorities.contains_key(name.as_str())) {
        section.problem(
            "authority",
            format_args!("there is no section [authority.{name}]; write one"),
        );
    }
    let renew_before = match (renew_before, root_lifetime) {
        (Some(renew), Some(life)) if given && renew * 2 > life => {
            let most = span(life / 2);
            section.problem(
                "renew_before",
                format_args!("is longer than half of root.lifetime; write at most {most}"),
            );
            Some(renew)
        }
        (Some(renew), Some(life)) if !given => Some(renew.min(life / 4)),
        (renew, _) => renew,
    };
    section.close();
    Some(StandbyConfig { authority: authority?, renew_before: renew_before? })
}

fn authority(
    name: &str,
    value: &toml::Value,
    problems: &mut Vec<ConfigProblem>,
) -> Option<AuthorityConfig> {
    let field = format!("authority.{name}");
    let Some(table) = value.as_table() else {
        problems.push(ConfigProblem::new(&field, format!("is not a table; write [{field}]")));
        return None;
    };
    if let Err(error) = AuthorityName::parse(name) {
        problems.push(ConfigProblem::new(&field, error.to_string()));
        return None;
    }
    let mut settings = table.clone();
    let keys = match settings.remove("keys") {
        None => None,
        Some(keys) => Some(key_backend(&format!("{field}.keys"), &keys, problems)?),
    };
    let foreign_leaf_max = match settings.remove("foreign_leaf_max") {
        None => None,
        Some(life) => {
            let one = toml::Table::from_iter([("foreign_leaf_max".to_owned(), life)]);
            let mut section = Section::open(&field, &one, problems);
            Some(section.duration("foreign_leaf_max", "2160h", ["1s", "3650d"])?)
        }
    };
    let trust_again = match settings.remove("trust_again") {
        None => BTreeSet::new(),
        Some(named) => trust_again(&field, &named, problems)?,
    };
    match settings.remove("plugin") {
        Some(toml::Value::String(plugin)) => {
            let plain = AuthorityConfig::plain(name, plugin, settings);
            Some(AuthorityConfig { keys, foreign_leaf_max, trust_again, ..plain })
        }
        _ => {
            let problem = "is missing; write the name of a plugin, such as \"self-signed\"";
            problems.push(ConfigProblem::new(format!("{field}.plugin"), problem));
            None
        }
    }
}

fn trust_again(
    field: &str,
    named: &toml::Value,
    problems: &mut Vec<ConfigProblem>,
) -> Option<BTreeSet<RootId>> {
    let texts = named.as_array().map(Vec::as_slice).unwrap_or_default();
    let ids: Option<BTreeSet<_>> = texts.iter().map(|text| text.as_str()?.parse().ok()).collect();
    let ids = ids.filter(|ids| !ids.is_empty());
    if ids.is_none() {
        let problem = "is no list of fingerprints of roots; write [\"SHA-256 as 64 hexadecimal digits\"], as `banyan root list \
                       --json` prints them";
        problems.push(ConfigProblem::new(format!("{field}.trust_again"), problem));
    }
    ids
}

fn key_backend(
    field: &str,
    value: &toml::Value,
    problems: &mut Vec<ConfigProblem>,
) -> Option<KeyBackendConfig> {
    let mut settings = value.as_table().cloned().unwrap_or_default();
    match settings.remove("backend") {
        Some(toml::Value::String(backend)) => Some(KeyBackendConfig { backend, settings }),
        _ => {
            let problem = "is missing; write the name of a key backend, such as \"pkcs11\"";
            problems.push(ConfigProblem::new(format!("{field}.backend"), problem));
            None
        }
    }
}

pub(super) fn keys(
    table: &toml::Table,
    directory: &Path,
    problems: &mut Vec<ConfigProblem>,
) -> Option<KeysConfig> {
    if table
        .get("backend")
        .and_then(toml::Value::as_str)
        .is_some_and(|name| !["file", "memory"].contains(&name))
    {
        return key_backend("keys", &table.clone().into(), problems).map(KeysConfig::Plugin);
    }
    let mut section = Section::open("keys", table, problems);
    let memory = section.choice("backend", false, &[("file", false), ("memory", true)]);
    let danger: bool =
        section.optional("dangerously_keep_keys_in_memory", "true or false").unwrap_or(false);
    let file: Option<PathBuf> =
        section.optional("passphrase_file", "the path of a file with mode 0600");
    let env: Option<String> =
        section.optional("passphrase_env", "the name of an environment variable");
    let keys = match (memory?, file, env) {
        (true, None, None) if danger => Some(KeysConfig::Memory),
        (true, None, None) => {
            let problem = "must be true for backend = \"memory\": every restart loses the root, and with it the mesh";
            section.problem("dangerously_keep_keys_in_memory", problem);
            None
        }
        (true, ..) => {
            section.problem(
                "backend",
                "keys in memory need no passphrase; remove it, or write \"file\"",
            );
            None
        }
        (false, ..) if danger => {
            section.problem(
                "dangerously_keep_keys_in_memory",
                "belongs to backend = \"memory\"; remove it",
            );
            None
        }
        (false, Some(path), None) => {
            Some(KeysConfig::File { passphrase: Passphrase::File(directory.join(path)) })
        }
        (false, None, Some(name)) => Some(KeysConfig::File { passphrase: Passphrase::Env(name) }),
        (false, None, None) => {
            let problem = "is missing: the key files need a passphrase; write the path of a file with mode 0600, \
                           or passphrase_env = \"NAME\" of an environment variable";
            section.problem("passphrase_file", problem);
            None
        }
        (false, Some(_), Some(_)) => {
            section.problem("passphrase_env", "stands beside passphrase_file; write one of them");
            None
        }
    };
    section.close();
    keys
}
