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
    /// same.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the other servers reach this one, `host:port` of its gRPC port. Default none: the others cannot ask it about its leaves.
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
    let name = section.parsed_or("name", "ca-1", NAME, check_name);
    let address: Option<String> = section.optional("address", ADDRESS);
    if address.as_deref().is_some_and(|address| !is_address(address)) {
        section.problem("address", format_args!("is no `host:port`; write {ADDRESS}"));
    }
    let lease = section.duration("lease", "30s", ["5s", "10m"]);
    section.close();
    Some(ReplicaConfig { name: name?, address, lease: lease? })
}

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
