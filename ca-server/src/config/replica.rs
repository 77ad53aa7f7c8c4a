//! Section `[replica]`: which of the CA's servers this is.

use std::time::Duration;

use plugins::ConfigProblem;
use trust::{SpiffeId, TrustDomain};

use super::reader::Section;

/// Section `[replica]`. A file of a former release has `replica = "NAME"` in its place.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    name: String,
    address: Option<String>,
    lease: Duration,
}

impl ReplicaConfig {
    /// Name of this server among those of the CA: one path segment of its SPIFFE id. Default `ca-1`; no two servers have the
    /// same. `name_env` names an environment variable that holds it instead.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the other servers reach this one, `host:port` of its gRPC port; `{name}` in it is the server's name. Default none:
    /// the others cannot ask it about its leaves.
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// How long this server serves without having reached the store, and how long the others wait before they take it for dead.
    /// The same on all servers. Default `30s`, `5s` to `10m`.
    pub const fn lease(&self) -> Duration {
        self.lease
    }
}

pub(super) fn replica(
    table: &toml::Table,
    problems: &mut Vec<ConfigProblem>,
) -> Option<ReplicaConfig> {
    let mut section = Section::open("replica", table, problems);
    let variable: Option<String> = section.optional("name_env", NAME_ENV);
    let name = match &variable {
        None => section.parsed_or("name", "ca-1", NAME, check_name),
        Some(variable) => name_of(variable, table, &mut section),
    };
    let address: Option<String> = section.optional("address", ADDRESS);
    let address = address.map(|address| match &name {
        Some(name) => address.replace(PLACE_OF_NAME, name),
        None => address,
    });
    if address.as_deref().is_some_and(|address| !is_address(address)) {
        section.problem("address", format_args!("is no `host:port`; write {ADDRESS}"));
    }
    let lease = section.duration("lease", "30s", ["5s", "10m"]);
    section.close();
    Some(ReplicaConfig { name: name?, address, lease: lease? })
}

/// The name that an environment variable holds, so that several servers can share one file.
fn name_of(variable: &str, table: &toml::Table, section: &mut Section<'_>) -> Option<String> {
    if table.contains_key("name") {
        section.problem("name_env", "stands beside name; write one of them");
        return None;
    }
    let value = std::env::var(variable).unwrap_or_default();
    match check_name(&value) {
        Ok(name) => Some(name),
        Err(error) => {
            section.problem(
                "name_env",
                format_args!("{variable} holds {value:?} ({error}); set this variable to {NAME}"),
            );
            None
        }
    }
}

/// Stands in an address for the server's name.
const PLACE_OF_NAME: &str = "{name}";
const NAME_ENV: &str = "the name of an environment variable that holds this server's name";
const NAME: &str = "a name of a-z, 0-9, '.', '_', '-'";
const ADDRESS: &str = "where other servers reach this one, such as \"ca-1.example.org:15012\"";

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// A replica's name ends up in a SPIFFE id and in names of segments.
fn check_name(text: &str) -> Result<String, &'static str> {
    let domain = TrustDomain::parse("check").map_err(|_| "internal name")?;
    let one_segment = !text.contains('/') && SpiffeId::ca(&domain, text).is_ok();
    let short = text.len() <= 63 && text.starts_with(|first: char| first.is_ascii_alphanumeric());
    if one_segment && short {
        return Ok(text.to_owned());
    }
    Err(
        "a replica's name is 1 to 63 letters, digits, '.', '_' or '-', and starts with a letter or digit",
    )
}
