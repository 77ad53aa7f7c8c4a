//! What an Envoy says of its listeners: as it is configured, and where they are bound.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

/// Where listeners are bound.
pub(super) const BOUND: &str = "/listeners?format=json";
/// How those of its file, and those that it was sent, are configured.
pub(super) const CONFIGURED: [&str; 2] =
    ["/config_dump?resource=static_listeners", "/config_dump?resource=dynamic_listeners"];

#[derive(Debug, Default, Deserialize)]
pub(super) struct Bound {
    #[serde(default)]
    pub(super) listener_statuses: Vec<BoundListener>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BoundListener {
    /// One that its configuration gives no name has a random one.
    #[serde(default)]
    pub(super) name: String,
    local_address: Option<Address>,
    #[serde(default)]
    additional_local_addresses: Vec<Address>,
}

impl BoundListener {
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.local_address.iter().chain(&self.additional_local_addresses)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Address {
    pub(super) socket_address: Option<SocketAddress>,
    pub(super) pipe: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SocketAddress {
    #[serde(default)]
    pub(super) protocol: String,
    #[serde(default)]
    pub(super) address: String,
    #[serde(default)]
    pub(super) port_value: u16,
    #[serde(default)]
    pub(super) ipv4_compat: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Dump {
    #[serde(default)]
    configs: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    /// Of its file.
    listener: Option<Listener>,
    /// That it was sent, and uses.
    active_state: Option<State>,
    /// That it was sent, and does not use yet.
    warming_state: Option<State>,
}

#[derive(Debug, Deserialize)]
struct State {
    listener: Option<Listener>,
}

/// A listener as it is configured.
#[derive(Debug, Deserialize)]
pub(super) struct Listener {
    #[serde(default)]
    pub(super) name: String,
    pub(super) address: Option<Address>,
    #[serde(default)]
    pub(super) filter_chains: Vec<Chain>,
    pub(super) default_filter_chain: Option<Chain>,
    /// What chooses among the chains in the place of their own criteria.
    pub(super) filter_chain_matcher: Option<IgnoredAny>,
    #[serde(default)]
    pub(super) listener_filters: Vec<Filter>,
    pub(super) bind_to_port: Option<bool>,
    pub(super) udp_listener_config: Option<IgnoredAny>,
    /// It was sent, and is not used yet.
    #[serde(skip)]
    pub(super) is_warming: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Filter {
    #[serde(default)]
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Chain {
    /// What a connection must be like.
    #[serde(default)]
    pub(super) filter_chain_match: BTreeMap<String, Value>,
    pub(super) transport_socket: Option<TransportSocket>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TransportSocket {
    pub(super) typed_config: Option<Tls>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tls {
    #[serde(rename = "@type", default)]
    pub(super) kind: String,
    pub(super) common_tls_context: Option<Common>,
    #[serde(default)]
    pub(super) require_client_certificate: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Common {
    #[serde(default)]
    pub(super) tls_certificate_sds_secret_configs: Vec<Secret>,
    validation_context_sds_secret_config: Option<Secret>,
    combined_validation_context: Option<Combined>,
}

impl Common {
    /// The secret with the roots.
    pub(super) fn roots(&self) -> Option<&Secret> {
        let combined = self.combined_validation_context.as_ref();
        let combined = combined.and_then(|both| both.validation_context_sds_secret_config.as_ref());
        self.validation_context_sds_secret_config.as_ref().or(combined)
    }
}

#[derive(Debug, Deserialize)]
struct Combined {
    validation_context_sds_secret_config: Option<Secret>,
}

/// A secret by name.
#[derive(Debug, Deserialize)]
pub(super) struct Secret {
    #[serde(default)]
    pub(super) name: String,
    sds_config: Option<Source>,
}

impl Secret {
    /// Whether it is asked for over gRPC, as an agent is.
    pub(super) fn is_asked_for(&self) -> bool {
        let api = self.sds_config.as_ref().and_then(|source| source.api_config_source.as_ref());
        api.is_some_and(|api| api.api_type == "GRPC")
    }
}

#[derive(Debug, Deserialize)]
struct Source {
    api_config_source: Option<Api>,
}

#[derive(Debug, Deserialize)]
struct Api {
    #[serde(default)]
    api_type: String,
}

/// Reads where listeners are bound.
pub(super) fn bound(text: &str) -> Result<Vec<BoundListener>, String> {
    read::<Bound>(text).map(|bound| bound.listener_statuses)
}

/// Reads how listeners are configured. One that is about to be changed is as it is used.
pub(super) fn configured(text: &str) -> Result<Vec<Listener>, String> {
    let of = |entry: Entry| {
        let used = entry.listener.or(entry.active_state.and_then(|state| state.listener));
        let warming = entry.warming_state.and_then(|state| state.listener);
        used.or(warming.map(|listener| Listener { is_warming: true, ..listener }))
    };
    Ok(read::<Dump>(text)?.configs.into_iter().filter_map(of).collect())
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("its answer about its listeners is not understood: {error}"))
}
