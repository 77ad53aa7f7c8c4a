//! Envoy's own counters, read from its admin interface.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::http::http;

/// Counters whose names have `ssl` or tell of secrets, as `name: value` lines.
#[derive(Debug, Default)]
pub(super) struct Stats(Vec<(String, u64)>);

/// Endings of counters that tell of a failed handshake, at either side.
const TLS_FAILURES: [&str; 7] = [
    ".ssl.connection_error",
    ".ssl.fail_verify_error",
    ".ssl.fail_verify_no_cert",
    ".ssl.fail_verify_san",
    ".ssl.fail_verify_cert_hash",
    ".ssl.ocsp_staple_failed",
    ".upstream_cx_connect_fail",
];

impl Stats {
    /// Reads the counters of the Envoy with this admin address.
    pub(super) async fn read(admin: SocketAddr) -> anyhow::Result<Self> {
        let answer = http(admin, "GET", "/stats?usedonly").await?;
        Ok(Self(answer.lines().filter_map(parse).collect()))
    }

    /// Handshakes completed on connections that this Envoy opened.
    pub(super) fn client_handshakes(&self) -> u64 {
        self.sum(|name| name.starts_with("cluster.") && name.ends_with(".ssl.handshake"))
    }

    /// Handshakes that failed, on connections that it opened or accepted.
    pub(super) fn tls_failures(&self) -> u64 {
        self.sum(|name| TLS_FAILURES.iter().any(|ending| name.ends_with(ending)))
    }

    /// Handshakes that failed because a certificate did not verify.
    pub(super) fn verify_failures(&self) -> u64 {
        self.sum(|name| name.contains(".ssl.fail_verify_"))
    }

    /// Secrets that this Envoy was sent and did not take.
    pub(super) fn secrets_refused(&self) -> u64 {
        self.sum(|name| name.contains("sds.") && name.ends_with(".update_rejected"))
    }

    /// Connections that resumed a TLS session.
    pub(super) fn sessions_reused(&self) -> u64 {
        self.sum(|name| name.ends_with(".ssl.session_reused"))
    }

    /// How often the certificate of the inbound listener was replaced since the counters were set to zero.
    pub(super) fn certificate_updates(&self) -> u64 {
        self.sum(|name| {
            name.starts_with("listener.") && name.ends_with(".ssl_context_update_by_sds")
        })
    }

    fn sum(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        self.0.iter().filter(|(name, _)| wanted(name)).map(|(_, value)| value).sum()
    }
}

/// Serial numbers of the roots that an Envoy trusts now, in lower-case hexadecimal without leading zeros.
pub(super) async fn trusted_serials(admin: SocketAddr) -> anyhow::Result<BTreeSet<String>> {
    let answer = http(admin, "GET", "/certs").await?;
    let body = answer.find('{').and_then(|start| answer.get(start..)).unwrap_or_default();
    // The answer may come in chunks, whose lengths stand between its lines.
    let whole: String = body.lines().filter(|line| !is_chunk_length(line)).collect();
    let certs: serde_json::Value = serde_json::from_str(&whole)?;
    let of = |cert: &serde_json::Value| {
        let roots =
            cert.get("ca_cert").and_then(|roots| roots.as_array().cloned()).unwrap_or_default();
        let serial =
            |root: &serde_json::Value| root.get("serial_number")?.as_str().map(str::to_owned);
        roots.iter().filter_map(serial).collect::<Vec<_>>()
    };
    let all = certs.get("certificates").and_then(|all| all.as_array().cloned()).unwrap_or_default();
    let serials = all.iter().flat_map(of);
    Ok(serials
        .map(|serial| serial.to_ascii_lowercase().trim_start_matches('0').to_owned())
        .collect())
}

fn is_chunk_length(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && line.len() <= 8 && line.chars().all(|digit| digit.is_ascii_hexdigit())
}

/// Sets every counter of an Envoy to zero, so that failures before it was ready do not count.
pub(super) async fn reset(admin: SocketAddr) -> anyhow::Result<()> {
    http(admin, "POST", "/reset_counters").await.map(drop)
}

fn parse(line: &str) -> Option<(String, u64)> {
    let (name, value) = line.split_once(": ")?;
    Some((name.to_owned(), value.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Stats {
        let text = "cluster.to_a.ssl.handshake: 7\ncluster.to_b.ssl.handshake: 5\n\
                    listener.127.0.0.1_1.ssl.handshake: 100\ncluster.to_a.ssl.fail_verify_san: 1\n\
                    listener.127.0.0.1_1.ssl.connection_error: 2\ncluster.to_a.ssl.session_reused: 3\n\
                    listener.127.0.0.1_1.server_ssl_socket_factory.ssl_context_update_by_sds: 4\n\
                    cluster.to_a.upstream_cx_length_ms: P0(nan,1)";
        Stats(text.lines().filter_map(parse).collect())
    }

    #[test]
    fn handshakes_are_counted_once_at_the_side_that_opened_the_connection() {
        assert_eq!(stats().client_handshakes(), 12);
    }

    #[test]
    fn failures_of_both_sides_count() {
        assert_eq!(stats().tls_failures(), 3);
        assert_eq!(stats().sessions_reused(), 3);
        assert_eq!(stats().certificate_updates(), 4);
    }
}
