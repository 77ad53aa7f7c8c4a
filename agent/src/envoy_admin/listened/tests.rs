use super::super::dump::{bound, configured};
use super::*;

const TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const QUIC: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport";

fn secret(name: &str) -> String {
    format!(
        r#"{{"name": "{name}", "sds_config": {{"api_config_source": {{"api_type": "GRPC"}}, "resource_api_version": "V3"}}}}"#
    )
}

fn secrets(certificate: &str, roots: &str) -> String {
    format!(
        r#""tls_certificate_sds_secret_configs": [{}], "combined_validation_context": {{"validation_context_sds_secret_config": {}}}"#,
        secret(certificate),
        secret(roots)
    )
}

/// A filter chain that verifies by the agent's secrets, with criteria.
fn chain(criteria: &str) -> String {
    socket(criteria, TLS, &secrets("default", "ROOTCA"), ", \"require_client_certificate\": true")
}

fn socket(criteria: &str, kind: &str, secrets: &str, more: &str) -> String {
    format!(
        r#"{{"filter_chain_match": {{{criteria}}}, "filters": [{{"name": "x"}}], "transport_socket": {{"name": "y",
           "typed_config": {{"@type": "{kind}", "common_tls_context": {{{secrets}}}{more}}}}}}}"#
    )
}

/// A listener of a file, at 127.0.0.1 and a port of the system's choice.
fn listener(name: &str, chains: &[String], more: &str) -> String {
    let chains = chains.join(",");
    format!(
        r#"{{"listener": {{"name": "{name}", "address": {{"socket_address": {{"address": "127.0.0.1", "port_value": 0}}}},
           "filter_chains": [{chains}]{more}}}}}"#
    )
}

fn status(name: &str, address: &str, port: u16) -> String {
    format!(
        r#"{{"name": "{name}", "local_address": {{"socket_address": {{"address": "{address}", "port_value": {port}}}}}}}"#
    )
}

fn found_at(admin: &str, listeners: &[String], statuses: &[String]) -> Listens {
    let identity = SpiffeId::parse("spiffe://example.org/ns/shop/sa/cart").unwrap();
    let dump = format!(r#"{{"configs": [{}]}}"#, listeners.join(","));
    let statuses = format!(r#"{{"listener_statuses": [{}]}}"#, statuses.join(","));
    let whose = Whose {
        identity: &identity,
        by_default: true,
        admin: &AdminAddress::Tcp(admin.to_owned()),
        is_here: &|ip| ip.is_loopback() || ip.to_string() == "10.0.0.5",
    };
    find(&configured(&dump).unwrap(), &bound(&statuses).unwrap(), &whose)
}

fn found(listeners: &[String], statuses: &[String]) -> Listens {
    found_at("127.0.0.1:9901", listeners, statuses)
}

fn targets(listens: &Listens) -> Vec<String> {
    listens.targets.iter().map(ToString::to_string).collect()
}

#[test]
fn a_listener_with_the_agents_secrets_is_found_at_the_port_that_it_got() {
    let dump = [listener("in", &[chain("")], ""), listener("plain", &["{}".to_owned()], "")];
    let bound = [status("plain", "127.0.0.1", 1), status("in", "127.0.0.1", 40_001)];
    let listens = found(&dump, &bound);
    assert_eq!(targets(&listens), ["127.0.0.1:40001"]);
    assert_eq!(listens.targets[0], Target::at("127.0.0.1:40001".to_owned()));
}

#[test]
fn what_chooses_by_name_or_protocol_is_asked_for_it() {
    let chains = [
        chain(r#""server_names": ["*.shop.example.org", "x"], "transport_protocol": "tls""#),
        chain(r#""application_protocols": ["istio", "h2"]"#),
        chain(r#""prefix_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]"#),
        chain(r#""destination_port": 15006"#),
        chain(r#""prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]"#),
    ];
    let listens = found(&[listener("in", &chains, "")], &[status("in", "127.0.0.1", 7)]);
    let all: Vec<_> = listens
        .targets
        .iter()
        .map(|target| (target.server_name.as_deref(), target.protocols.join(" ")))
        .collect();
    assert_eq!(
        all,
        [
            (Some("probe.shop.example.org"), String::new()),
            (None, "istio h2".to_owned()),
            (None, String::new())
        ]
    );
}

#[test]
fn why_a_listener_cannot_be_probed_is_said() {
    let ours = secrets("default", "ROOTCA");
    let asks = ", \"require_client_certificate\": true";
    let from_file = ours.replace(
        r#""api_config_source": {"api_type": "GRPC"}"#,
        r#""path_config_source": {"path": "/x"}"#,
    );
    let chains = |criteria: &str| vec![chain(criteria)];
    for (chains, more, why) in [
        (vec![socket("", TLS, &ours, "")], "", "does not ask for certificates"),
        (
            vec![socket("", TLS, &secrets("default", "other"), asks)],
            "",
            "has its roots from elsewhere",
        ),
        (
            vec![socket("", TLS, &secrets("default", "spiffe://other.org"), asks)],
            "",
            "has its roots from elsewhere",
        ),
        (
            vec![socket("", TLS, &secrets("theirs", "ROOTCA"), asks)],
            "",
            "presents a certificate of spiffe://example.org/ns/shop/sa/cart",
        ),
        (vec![socket("", TLS, &from_file, asks)], "", "presents a certificate of"),
        (vec![socket("", QUIC, &ours, asks)], "", "presents a certificate of"),
        (chains(""), r#", "udp_listener_config": {}"#, "is of UDP (QUIC)"),
        (chains(""), r#", "bind_to_port": false"#, "has no port of its own"),
        (chains(""), r#", "filter_chain_matcher": {}"#, "by a matcher"),
        (
            chains(""),
            r#", "listener_filters": [{"name": "envoy.filters.listener.proxy_protocol"}]"#,
            "the PROXY protocol",
        ),
        (chains(r#""source_type": "EXTERNAL""#), "", "chooses the filter chain by source_type"),
        (Vec::new(), "", "presents a certificate of"),
    ] {
        let listens = found(&[listener("in", &chains, more)], &[status("in", "127.0.0.1", 7)]);
        assert!(listens.targets.is_empty() && listens.is_told, "{why}");
        assert!(listens.why_none.contains(why), "{why}: {}", listens.why_none);
    }
    let pipe = r#"{"name": "in", "local_address": {"pipe": {"path": "/run/x.sock"}}}"#.to_owned();
    for (bound, why) in [
        (pipe, "listener `in` is a Unix socket"),
        (status("in", "127.0.0.1", 0), "has no port yet"),
        (status("in", "10.0.0.6", 7), "is at 10.0.0.6, which is no address of this machine"),
        (status("out", "127.0.0.1", 7), "is not bound"),
        (r#"{"name": "in"}"#.to_owned(), "is bound nowhere"),
        (r#"{"name": "in", "local_address": {"socket_address": {"address": "shop", "port_value": 1}}}"#.to_owned(), "no numeric address"),
    ] {
        let listens = found(&[listener("in", &[chain("")], "")], &[bound]);
        assert!(listens.targets.is_empty() && listens.why_none.contains(why), "{why}: {}", listens.why_none);
    }
}

#[test]
fn a_listener_at_all_addresses_is_reached_where_its_admin_endpoint_is() {
    let at = |admin: &str, address: &str, more: &str| {
        let one = listener("in", &[chain("")], "");
        let one = one.replace(r#""port_value": 0"#, &format!(r#""port_value": 0{more}"#));
        targets(&found_at(admin, &[one], &[status("in", address, 7)]))
    };
    for (admin, address, more, reached) in [
        ("127.0.0.1:9901", "0.0.0.0", "", "127.0.0.1:7"),
        ("127.0.0.1:9901", "::", "", "[::1]:7"),
        ("127.0.0.1:9901", "::", r#", "ipv4_compat": true"#, "127.0.0.1:7"),
        ("[::1]:9901", "::", "", "[::1]:7"),
        ("localhost:9901", "0.0.0.0", "", "localhost:7"),
        ("10.0.0.9:9901", "0.0.0.0", "", "10.0.0.9:7"),
        ("10.0.0.9:9901", "10.0.0.9", "", "10.0.0.9:7"),
        ("127.0.0.1:9901", "10.0.0.5", "", "10.0.0.5:7"),
        ("127.0.0.1:9901", "::1", "", "[::1]:7"),
    ] {
        assert_eq!(at(admin, address, more), [reached], "{admin} {address}");
    }
}

#[test]
fn one_without_a_name_is_known_by_its_address_unless_another_has_the_same() {
    let one = || listener("", &[chain("")], "");
    let random = |port| status("ba3a77c1-5b79", "127.0.0.1", port);
    let named = (listener("plain", &["{}".to_owned()], ""), status("plain", "127.0.0.1", 1));
    let listens = found(&[one(), named.0], &[named.1, random(7)]);
    assert_eq!(targets(&listens), ["127.0.0.1:7"]);
    let listens = found(&[one(), one()], &[random(7), random(8)]);
    assert!(listens.why_none.contains("give it one"), "{}", listens.why_none);
    let fixed = one().replace(r#""port_value": 0"#, r#""port_value": 8"#);
    assert_eq!(targets(&found(&[fixed], &[random(7), random(8)])), ["127.0.0.1:8"]);
}

#[test]
fn one_that_was_sent_and_is_not_in_use_yet_is_said_to_be_warming() {
    let inner = listener("in", &[chain("")], "");
    let warming = format!(r#"{{"name": "in", "warming_state": {inner}}}"#);
    let listens = found(&[warming], &[]);
    assert!(listens.why_none.contains("is not in use yet (warming)"), "{}", listens.why_none);
    let active = format!(r#"{{"name": "in", "active_state": {inner}, "warming_state": {inner}}}"#);
    assert_eq!(targets(&found(&[active], &[status("in", "127.0.0.1", 7)])), ["127.0.0.1:7"]);
    let gone = format!(r#"{{"name": "in", "draining_state": {inner}}}"#);
    assert!(found(&[gone], &[]).targets.is_empty());
}

#[test]
fn of_many_listeners_a_bounded_number_is_probed_and_a_bounded_number_of_reasons_told() {
    let names: Vec<String> = (0..100).map(|number| format!("in-{number}")).collect();
    let dump: Vec<_> = names.iter().map(|name| listener(name, &[chain("")], "")).collect();
    let bound: Vec<_> =
        (1..).zip(&names).map(|(port, name)| status(name, "127.0.0.1", port)).collect();
    assert_eq!(found(&dump, &bound).targets.len(), TARGETS_MAX);
    let listens = found(&dump, &[]);
    assert_eq!(
        listens.why_none,
        "listener `in-0` is not bound; listener `in-1` is not bound; and 98 more"
    );
}

#[test]
fn an_answer_that_is_something_else_is_refused_with_the_reason() {
    for text in [
        "",
        "no json",
        r#"{"configs": 7}"#,
        r#"{"configs": [{"listener": {"filter_chains": {}}}]}"#,
    ] {
        let said = configured(text).unwrap_err();
        assert!(said.contains("not understood"), "{said}");
    }
    let deep = "[".repeat(100_000);
    assert!(configured(&format!(r#"{{"configs": {deep}"#)).is_err());
    assert!(bound(r#"{"listener_statuses": [{"local_address": {"socket_address": {"port_value": 70000}}}]}"#).is_err());
    assert!(configured("{}").unwrap().is_empty(), "an Envoy without listeners");
}
