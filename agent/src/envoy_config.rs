//! A static bootstrap file for an Envoy that takes its secrets from this agent.
//!
//! One listener takes mutual TLS in and passes HTTP on to the local application; one cluster goes out with mutual TLS.
//! Every listener and cluster uses the secrets `default` and `ROOTCA` of the agent's socket. What bounds a trust that is
//! gone is in the file too: sessions are not resumed, and no connection lives longer than `connection_age_max`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use trust::SpiffeId;

/// What the file is about.
#[derive(Clone, Debug)]
pub struct EnvoyConfig {
    /// Name of this Envoy (`node.id`, `node.cluster`).
    pub node: String,
    /// The agent's socket.
    pub socket: PathBuf,
    /// Where Envoy's admin page listens; `None` for no page.
    pub admin: Option<SocketAddr>,
    /// Connections that come in.
    pub inbound: Option<Inbound>,
    /// Connections that go out.
    pub outbound: Vec<Outbound>,
    /// Longest life of a connection; a connection keeps the trust that it was opened with. Default of the command
    /// line: one hour.
    pub connection_age_max: Duration,
}

/// Mutual TLS in, HTTP on to the application.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// Where Envoy listens for peers.
    pub listen: SocketAddr,
    /// Where the local application listens; `None` lets Envoy answer by itself, with its own name.
    pub application: Option<SocketAddr>,
    /// Peers that are let in; empty lets in every identity under the roots.
    pub allowed_peers: Vec<SpiffeId>,
}

/// HTTP from the application, mutual TLS out.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Name of the cluster and of its listener.
    pub name: String,
    /// Where Envoy listens for the local application.
    pub listen: SocketAddr,
    /// The peer's Envoy.
    pub peer: SocketAddr,
    /// Identities that the peer may have; empty takes every identity under the roots.
    pub peer_identities: Vec<SpiffeId>,
    /// Open a new connection for each request.
    pub new_connection_per_request: bool,
}

const AGENT_CLUSTER: &str = "banyan_agent";

/// Writes the file as YAML.
pub fn render(config: &EnvoyConfig) -> String {
    let mut yaml = Yaml::default();
    yaml.line(
        0,
        &format!("node: {{ id: {}, cluster: {} }}", quoted(&config.node), quoted(&config.node)),
    );
    if let Some(admin) = config.admin {
        yaml.line(0, "admin:");
        yaml.line(1, &format!("address: {}", address(admin)));
    }
    yaml.line(0, "static_resources:");
    yaml.line(
        1,
        if config.inbound.is_some() || !config.outbound.is_empty() {
            "listeners:"
        } else {
            "listeners: []"
        },
    );
    if let Some(inbound) = &config.inbound {
        inbound_listener(&mut yaml, config, inbound);
    }
    config.outbound.iter().for_each(|outbound| outbound_listener(&mut yaml, config, outbound));
    yaml.line(1, "clusters:");
    agent_cluster(&mut yaml, config);
    if let Some(application) = config.inbound.as_ref().and_then(|inbound| inbound.application) {
        yaml.line(1, "- name: \"application\"");
        endpoint(&mut yaml, "application", application);
    }
    config.outbound.iter().for_each(|outbound| outbound_cluster(&mut yaml, config, outbound));
    yaml.0
}

#[derive(Default)]
struct Yaml(String);

impl Yaml {
    fn line(&mut self, depth: usize, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{:width$}{text}", "", width = depth * 2);
    }
}

fn inbound_listener(yaml: &mut Yaml, config: &EnvoyConfig, inbound: &Inbound) {
    yaml.line(1, "- name: \"inbound\"");
    yaml.line(2, &format!("address: {}", address(inbound.listen)));
    yaml.line(2, "filter_chains:");
    yaml.line(2, "- transport_socket:");
    yaml.line(4, "name: \"envoy.transport_sockets.tls\"");
    yaml.line(4, "typed_config:");
    yaml.line(
        5,
        "\"@type\": \"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\"",
    );
    yaml.line(5, "require_client_certificate: true");
    yaml.line(5, "# A resumed session would carry over what a former bundle said of the peer.");
    yaml.line(5, "disable_stateless_session_resumption: true");
    yaml.line(5, "disable_stateful_session_resumption: true");
    tls_context(yaml, &inbound.allowed_peers);
    let answer = quoted(&format!("answer of {}\n", config.node));
    let action = match inbound.application {
        Some(_) => route_to("application"),
        None => format!("direct_response: {{ status: 200, body: {{ inline_string: {answer} }} }}"),
    };
    http_filter(yaml, config, "inbound", &action);
}

fn outbound_listener(yaml: &mut Yaml, config: &EnvoyConfig, outbound: &Outbound) {
    let name = format!("outbound_{}", outbound.name);
    yaml.line(1, &format!("- name: {}", quoted(&name)));
    yaml.line(2, &format!("address: {}", address(outbound.listen)));
    yaml.line(2, "filter_chains:");
    yaml.line(2, "-");
    http_filter(yaml, config, &name, &route_to(&outbound.name));
}

/// The way to a cluster. Retries are off: a failed handshake must be seen.
fn route_to(cluster: &str) -> String {
    format!("route: {{ cluster: {}, retry_policy: {{ num_retries: 0 }} }}", quoted(cluster))
}

/// One HTTP connection manager with one route, which does `action`.
fn http_filter(yaml: &mut Yaml, config: &EnvoyConfig, name: &str, action: &str) {
    yaml.line(3, "filters:");
    yaml.line(3, "- name: \"envoy.filters.network.http_connection_manager\"");
    yaml.line(4, "typed_config:");
    yaml.line(5, "\"@type\": \"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\"");
    yaml.line(5, &format!("stat_prefix: {}", quoted(name)));
    yaml.line(5, "common_http_protocol_options:");
    yaml.line(6, &format!("max_connection_duration: {}", seconds(config.connection_age_max)));
    yaml.line(5, "http_filters:");
    yaml.line(5, "- name: \"envoy.filters.http.router\"");
    yaml.line(6, "typed_config:");
    yaml.line(
        7,
        "\"@type\": \"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\"",
    );
    yaml.line(5, "route_config:");
    yaml.line(6, &format!("name: {}", quoted(name)));
    yaml.line(6, "virtual_hosts:");
    yaml.line(6, &format!("- name: {}", quoted(name)));
    yaml.line(7, "domains: [\"*\"]");
    yaml.line(7, "routes:");
    yaml.line(7, "- match: { prefix: \"/\" }");
    yaml.line(8, action);
}

fn outbound_cluster(yaml: &mut Yaml, config: &EnvoyConfig, outbound: &Outbound) {
    yaml.line(1, &format!("- name: {}", quoted(&outbound.name)));
    endpoint(yaml, &outbound.name, outbound.peer);
    yaml.line(2, "typed_extension_protocol_options:");
    yaml.line(3, "\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\":");
    yaml.line(
        4,
        "\"@type\": \"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"",
    );
    yaml.line(4, "common_http_protocol_options:");
    yaml.line(5, &format!("max_connection_duration: {}", seconds(config.connection_age_max)));
    if outbound.new_connection_per_request {
        yaml.line(5, "max_requests_per_connection: 1");
    }
    yaml.line(4, "explicit_http_config: { http_protocol_options: {} }");
    yaml.line(2, "transport_socket:");
    yaml.line(3, "name: \"envoy.transport_sockets.tls\"");
    yaml.line(3, "typed_config:");
    yaml.line(
        5,
        "\"@type\": \"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\"",
    );
    yaml.line(5, "# No session is kept, so none is resumed.");
    yaml.line(5, "max_session_keys: 0");
    tls_context(yaml, &outbound.peer_identities);
}

/// Own leaf and trusted roots, both from the agent. Written at depth 5, for listeners and clusters alike.
fn tls_context(yaml: &mut Yaml, peers: &[SpiffeId]) {
    yaml.line(5, "common_tls_context:");
    // Without the second setting an Envoy that opens connections stops at TLS 1.2.
    yaml.line(
        6,
        "tls_params: { tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }",
    );
    yaml.line(6, "tls_certificate_sds_secret_configs:");
    sds_secret(yaml, "- ", "default");
    if peers.is_empty() {
        yaml.line(6, "validation_context_sds_secret_config:");
        sds_secret(yaml, "  ", "ROOTCA");
        return;
    }
    yaml.line(6, "combined_validation_context:");
    yaml.line(7, "default_validation_context:");
    yaml.line(8, "match_typed_subject_alt_names:");
    for peer in peers {
        yaml.line(
            8,
            &format!("- {{ san_type: URI, matcher: {{ exact: {} }} }}", quoted(peer.as_str())),
        );
    }
    yaml.line(7, "validation_context_sds_secret_config:");
    sds_secret(yaml, "    ", "ROOTCA");
}

/// One secret of the agent; `lead` is what stands before its first key, at depth 6.
fn sds_secret(yaml: &mut Yaml, lead: &str, name: &str) {
    let indent = " ".repeat(lead.len());
    yaml.line(6, &format!("{lead}name: {}", quoted(name)));
    yaml.line(6, &format!("{indent}sds_config:"));
    yaml.line(6, &format!("{indent}  resource_api_version: V3"));
    yaml.line(6, &format!("{indent}  api_config_source:"));
    yaml.line(6, &format!("{indent}    api_type: GRPC"));
    yaml.line(6, &format!("{indent}    transport_api_version: V3"));
    yaml.line(
        6,
        &format!(
            "{indent}    grpc_services: [{{ envoy_grpc: {{ cluster_name: {AGENT_CLUSTER} }} }}]"
        ),
    );
}

fn agent_cluster(yaml: &mut Yaml, config: &EnvoyConfig) {
    let socket = config.socket.display().to_string();
    yaml.line(1, &format!("- name: {AGENT_CLUSTER}"));
    yaml.line(2, "type: STATIC");
    yaml.line(2, "connect_timeout: 5s");
    yaml.line(2, "load_assignment:");
    yaml.line(3, &format!("cluster_name: {AGENT_CLUSTER}"));
    yaml.line(
        3,
        &format!(
            "endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ pipe: {{ path: {} }} }} }} }}] }}]",
            quoted(&socket)
        ),
    );
    yaml.line(2, "typed_extension_protocol_options:");
    yaml.line(3, "\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\":");
    yaml.line(
        4,
        "\"@type\": \"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"",
    );
    yaml.line(4, "explicit_http_config: { http2_protocol_options: {} }");
}

fn endpoint(yaml: &mut Yaml, name: &str, at: SocketAddr) {
    yaml.line(2, "type: STATIC");
    yaml.line(2, "connect_timeout: 5s");
    yaml.line(2, "load_assignment:");
    yaml.line(3, &format!("cluster_name: {}", quoted(name)));
    yaml.line(
        3,
        &format!(
            "endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {} }} }}] }}]",
            address(at)
        ),
    );
}

fn address(at: SocketAddr) -> String {
    format!(
        "{{ socket_address: {{ address: {}, port_value: {} }} }}",
        quoted(&at.ip().to_string()),
        at.port()
    )
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs().max(1))
}

/// A YAML string in double quotes; JSON's escapes are a part of YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> EnvoyConfig {
        let id =
            |name: &str| SpiffeId::parse(&format!("spiffe://example.org/ns/a/sa/{name}")).unwrap();
        EnvoyConfig {
            node: "cart \"1\"".to_owned(),
            socket: "/run/banyan/agent.sock".into(),
            admin: Some("127.0.0.1:9901".parse().unwrap()),
            inbound: Some(Inbound {
                listen: "127.0.0.1:8443".parse().unwrap(),
                application: Some("127.0.0.1:8080".parse().unwrap()),
                allowed_peers: vec![id("b"), id("c")],
            }),
            outbound: vec![Outbound {
                name: "stock".to_owned(),
                listen: "127.0.0.1:9000".parse().unwrap(),
                peer: "[::1]:8443".parse().unwrap(),
                peer_identities: Vec::new(),
                new_connection_per_request: true,
            }],
            connection_age_max: Duration::from_secs(3600),
        }
    }

    #[test]
    fn the_file_says_what_bounds_a_trust_that_is_gone() {
        let yaml = render(&config());
        for line in [
            "disable_stateless_session_resumption: true",
            "disable_stateful_session_resumption: true",
            "max_session_keys: 0",
            "max_requests_per_connection: 1",
            "require_client_certificate: true",
        ] {
            assert_eq!(yaml.matches(line).count(), 1, "{line} in\n{yaml}");
        }
        assert_eq!(yaml.matches("max_connection_duration: 3600s").count(), 3);
    }

    #[test]
    fn without_an_application_envoy_answers_by_itself() {
        let mut config = config();
        assert!(render(&config).contains("cluster: \"application\""));
        config.inbound.as_mut().unwrap().application = None;
        let yaml = render(&config);
        assert!(yaml.contains("direct_response") && !yaml.contains("\"application\""), "{yaml}");
    }

    #[test]
    fn identities_and_names_are_quoted() {
        let yaml = render(&config());
        assert!(yaml.contains("exact: \"spiffe://example.org/ns/a/sa/b\""), "{yaml}");
        assert!(yaml.contains("id: \"cart \\\"1\\\"\""), "{yaml}");
        assert!(yaml.contains("address: \"::1\", port_value: 8443"), "{yaml}");
    }

    #[test]
    fn indentation_is_even_and_no_tab_is_in_it() {
        for line in render(&config()).lines() {
            let indent = line.len() - line.trim_start().len();
            assert!(indent % 2 == 0 && !line.contains('\t'), "{line:?}");
        }
    }
}
