//! Sections `[listen]`, `[limits]` and `[log]`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use plugins::ConfigProblem;
use rustls_pki_types::DnsName;
use transport::Limits;

use super::reader::Section;

/// Section `[listen]`.
#[derive(Debug, Clone)]
pub struct ListenConfig {
    grpc: SocketAddr,
    plain: SocketAddr,
    admin_socket: PathBuf,
    dns_names: Vec<String>,
    ip_addresses: Vec<IpAddr>,
    reflection: bool,
}

impl ListenConfig {
    /// Address of gRPC over TLS. Default `127.0.0.1:15012`; port 0 takes a free one.
    pub const fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Address of health and metrics without TLS; nothing secret is served there. Default `127.0.0.1:15014`.
    pub const fn plain(&self) -> SocketAddr {
        self.plain
    }

    /// Unix socket of the admin API, mode 0600. Default `<data_dir>/admin.sock`; at most 107 bytes.
    pub fn admin_socket(&self) -> &Path {
        &self.admin_socket
    }

    /// DNS names in the server's own certificate, for clients that check names (Istio's do). Default none, at most 16.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// IP addresses in the server's own certificate. Default none, at most 16.
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.ip_addresses
    }

    /// Whether gRPC reflection is served on the TLS port. Default `false`.
    pub const fn reflection(&self) -> bool {
        self.reflection
    }
}

/// Section `[limits]`.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    transport: Limits,
    connections: usize,
    requests_in_flight: usize,
    rows_per_identity: u64,
    rows_per_agent: u64,
    leaves_per_second: u64,
    request_timeout: Duration,
}

impl LimitsConfig {
    /// What clients may take. Defaults and bounds: `connections_per_address` 4096, 1 to 1000000; `handshakes`
    /// 256, 1 to 10000; `streams_per_connection` 256, 1 to 10000; `streams_without_credential` 64, 1 to
    /// 10000; `unsent_bytes` 67108864, 1048576 to 68719476736; `connection_age` `1h`, `10s` to `24h`;
    /// `handshake_timeout` `5s`, `100ms` to `60s`; `first_request_timeout` `20s`, `100ms` to `1h`;
    /// `idle_timeout` `15m`, `1s` to `24h`; `answer_timeout` `20s`, `1s` to `5m`.
    pub const fn transport(&self) -> &Limits {
        &self.transport
    }

    /// Open TLS connections. When all are taken, those end that have shown no credential and are idle; without any the
    /// next waits in the kernel's queue. Default 10000, 1 to 1000000.
    pub const fn connections(&self) -> usize {
        self.connections
    }

    /// Unary requests at a time on all connections; more are refused with `RESOURCE_EXHAUSTED`. Default 2048, 1 to
    /// 100000.
    pub const fn requests_in_flight(&self) -> usize {
        self.requests_in_flight
    }

    /// Live leaves that one identity may have. Default 10000, 1 to 10000000.
    pub const fn rows_per_identity(&self) -> u64 {
        self.rows_per_identity
    }

    /// Live leaves that one agent may have, of all its identities and its own. Default 20000, 1 to 10000000.
    pub const fn rows_per_agent(&self) -> u64 {
        self.rows_per_agent
    }

    /// Leaves a second for each identity; 20 times as many at once. Default 100, 1 to 1000000.
    pub const fn leaves_per_second(&self) -> u64 {
        self.leaves_per_second
    }

    /// Time for a unary request, from its header to the answer. Default `10s`, `100ms` to `5m`.
    pub const fn request_timeout(&self) -> Duration {
        self.request_timeout
    }
}

/// Levels by module, if none are configured. `cryptoki` tells every mechanism that it does not know as an error; what the
/// others warn of, any client can cause at will.
pub const DEFAULT_FILTER: &str = "info,cryptoki=off,h2=off,hyper=off,rustls=off";

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object on each line.
    Json,
}

/// Section `[log]`.
#[derive(Debug, Clone)]
pub struct LogConfig {
    format: LogFormat,
    filter: String,
}

impl LogConfig {
    /// `"text"` (default) or `"json"`.
    pub const fn format(&self) -> LogFormat {
        self.format
    }

    /// Levels by module, in the notation of `tracing`'s environment filter. Default [`DEFAULT_FILTER`].
    pub fn filter(&self) -> &str {
        &self.filter
    }
}

const NAMES_MAX: usize = 16;
/// Longest path that fits a Unix socket address on Linux (unix(7): 108 bytes with the final zero).
const SOCKET_PATH_MAX: usize = 107;

pub(super) fn listen(
    table: &toml::Table,
    data_dir: Option<&Path>,
    directory: &Path,
    problems: &mut Vec<ConfigProblem>,
) -> Option<ListenConfig> {
    let mut section = Section::open("listen", table, problems);
    let address = |text: &str| text.parse::<SocketAddr>();
    let grpc = section.parsed_or("grpc", "127.0.0.1:15012", "an address and port", address);
    let plain = section.parsed_or("plain", "127.0.0.1:15014", "an address and port", address);
    let socket: Option<PathBuf> = section.optional("admin_socket", "the path of a socket");
    let socket = socket
        .map(|path| directory.join(path))
        .or_else(|| data_dir.map(|dir| dir.join("admin.sock")));
    if socket.as_ref().is_some_and(|path| path.as_os_str().len() > SOCKET_PATH_MAX) {
        section.problem("admin_socket", "is longer than 107 bytes; write a shorter path");
    }
    let dns_names = dns_names(&mut section);
    let ip_addresses: Vec<IpAddr> =
        section.optional("ip_addresses", "a list such as [\"192.0.2.1\"]").unwrap_or_default();
    if ip_addresses.len() > NAMES_MAX {
        section.problem("ip_addresses", "has more than 16 addresses; write fewer");
    }
    let reflection = section.optional("reflection", "true or false").unwrap_or(false);
    section.close();
    Some(ListenConfig {
        grpc: grpc?,
        plain: plain?,
        admin_socket: socket?,
        dns_names,
        ip_addresses,
        reflection,
    })
}

fn dns_names(section: &mut Section<'_>) -> Vec<String> {
    let names: Vec<String> =
        section.optional("dns_names", "a list such as [\"ca.example.org\"]").unwrap_or_default();
    if names.len() > NAMES_MAX {
        section.problem("dns_names", "has more than 16 names; write fewer");
    }
    for name in &names {
        if DnsName::try_from(name.as_str()).is_err() {
            section.problem(
                "dns_names",
                format_args!("{name:?} is no DNS name; write \"ca.example.org\""),
            );
        }
    }
    names
}

pub(super) fn limits(
    table: &toml::Table,
    problems: &mut Vec<ConfigProblem>,
) -> Option<LimitsConfig> {
    let mut section = Section::open("limits", table, problems);
    let connections = section.count("connections", 10_000, 1..=1_000_000);
    let per_address = section.count("connections_per_address", 4_096, 1..=1_000_000);
    let handshakes = section.count("handshakes", 256, 1..=10_000);
    let streams = section.count("streams_per_connection", 256, 1..=10_000);
    let untrusted = section.count("streams_without_credential", 64, 1..=10_000);
    let unsent_bytes = section.count("unsent_bytes", 64 << 20, 1 << 20..=64 << 30);
    let requests = section.count("requests_in_flight", 2_048, 1..=100_000);
    let rows_per_identity = section.count("rows_per_identity", 10_000, 1..=10_000_000);
    let rows_per_agent = section.count("rows_per_agent", 20_000, 1..=10_000_000);
    let leaves_per_second = section.count("leaves_per_second", 100, 1..=1_000_000);
    let connection_age = section.duration("connection_age", "1h", ["10s", "24h"]);
    let handshake_timeout = section.duration("handshake_timeout", "5s", ["100ms", "60s"]);
    let first_request_timeout = section.duration("first_request_timeout", "20s", ["100ms", "1h"]);
    let idle_timeout = section.duration("idle_timeout", "15m", ["1s", "24h"]);
    let answer_timeout = section.duration("answer_timeout", "20s", ["1s", "5m"]);
    let request_timeout = section.duration("request_timeout", "10s", ["100ms", "5m"]);
    section.close();
    let transport = Limits {
        connections_per_address: usize::try_from(per_address?).ok()?,
        handshakes: usize::try_from(handshakes?).ok()?,
        streams_per_connection: u32::try_from(streams?).ok()?,
        streams_without_credential: u32::try_from(untrusted?).ok()?,
        unsent_bytes: unsent_bytes?,
        connection_age: connection_age?,
        handshake_timeout: handshake_timeout?,
        first_request_timeout: first_request_timeout?,
        idle_timeout: idle_timeout?,
        answer_timeout: answer_timeout?,
    };
    Some(LimitsConfig {
        transport,
        connections: usize::try_from(connections?).ok()?,
        requests_in_flight: usize::try_from(requests?).ok()?,
        rows_per_identity: rows_per_identity?,
        rows_per_agent: rows_per_agent?,
        leaves_per_second: leaves_per_second?,
        request_timeout: request_timeout?,
    })
}

pub(super) fn log(table: &toml::Table, problems: &mut Vec<ConfigProblem>) -> Option<LogConfig> {
    let mut section = Section::open("log", table, problems);
    let words = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = section.choice("format", LogFormat::Text, &words);
    let filter = section.optional("filter", "levels such as \"info,ca_server=debug\"");
    section.close();
    Some(LogConfig { format: format?, filter: filter.unwrap_or_else(|| DEFAULT_FILTER.to_owned()) })
}
