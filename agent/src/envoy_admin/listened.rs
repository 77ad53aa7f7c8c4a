//! Which listeners of an Envoy can be probed, and how each is knocked at. Pure but for one question: which addresses are this machine's.

use std::net::IpAddr;

use serde_json::Value;
use trust::{SpiffeId, TrustDomain};

use super::dump::{Address, BoundListener, Chain, Listener, Secret, SocketAddress, Tls};
use crate::config::AdminAddress;
use crate::probed::{Listens, Target};

/// Listeners of one Envoy that are probed at most.
const TARGETS_MAX: usize = 16;
/// Reasons that are told at most.
const REASONS_MAX: usize = 2;

/// Whose listeners are looked for.
pub(super) struct Whose<'a> {
    pub(super) identity: &'a SpiffeId,
    /// Whether the secret `default` is that identity's.
    pub(super) by_default: bool,
    pub(super) admin: &'a AdminAddress,
    /// Whether an address is one of this machine.
    pub(super) is_here: &'a dyn Fn(IpAddr) -> bool,
}

/// Finds the listeners that present a certificate of this agent and verify by its roots.
pub(super) fn find(configured: &[Listener], bound: &[BoundListener], whose: &Whose<'_>) -> Listens {
    let (mut targets, mut reasons) = (Vec::new(), Vec::new());
    for listener in configured {
        let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
        for chain in chains.filter(|chain| whose.presents(chain)) {
            match whose.target(listener, chain, configured, bound) {
                Ok(target) if targets.contains(&target) => {}
                Ok(target) => targets.push(target),
                Err(why) => {
                    let name = match listener.name.as_str() {
                        "" => "a listener without a name".to_owned(),
                        name => format!("listener `{name}`"),
                    };
                    reasons.push(format!("{name} {why}"));
                }
            }
        }
    }
    targets.truncate(TARGETS_MAX);
    reasons.dedup();
    let further = reasons.len().saturating_sub(REASONS_MAX);
    reasons.truncate(REASONS_MAX);
    let mut why_none = reasons.join("; ");
    if further > 0 {
        why_none.push_str(&format!("; and {further} more"));
    }
    match (targets.is_empty(), why_none.is_empty()) {
        (true, true) => Listens::nowhere(format!(
            "no listener of it presents a certificate of {}",
            whose.identity
        )),
        (true, false) => Listens::nowhere(why_none),
        (false, _) => Listens { targets, why_none: String::new(), is_told: true },
    }
}

impl Whose<'_> {
    /// Whether connections that go through a chain are shown the identity's certificate.
    fn presents(&self, chain: &Chain) -> bool {
        let secrets = tls(chain).and_then(|tls| tls.common_tls_context.as_ref());
        let secrets = secrets.map(|common| &common.tls_certificate_sds_secret_configs);
        let is_its = |secret: &Secret| {
            let named = secret.name == self.identity.as_str();
            secret.is_asked_for() && (named || self.by_default && secret.name == "default")
        };
        secrets.is_some_and(|secrets| secrets.iter().any(is_its))
    }

    /// How a chain is reached; an error says what stands in the way.
    fn target(
        &self,
        listener: &Listener,
        chain: &Chain,
        all: &[Listener],
        bound: &[BoundListener],
    ) -> Result<Target, String> {
        let tls = tls(chain).ok_or("has no TLS")?;
        if !tls.require_client_certificate {
            return Err("does not ask for certificates (require_client_certificate)".to_owned());
        }
        let roots = tls.common_tls_context.as_ref().and_then(|common| common.roots());
        if !roots.is_some_and(|secret| is_ours(secret, self.identity.trust_domain())) {
            return Err("has its roots from elsewhere, not from this agent".to_owned());
        }
        if listener.is_warming {
            return Err("is not in use yet (warming)".to_owned());
        }
        if listener.bind_to_port == Some(false) {
            return Err("has no port of its own (bind_to_port)".to_owned());
        }
        if listener.filter_chain_matcher.is_some() {
            return Err("chooses among its filter chains by a matcher".to_owned());
        }
        let proxied = |name: &str| name.ends_with("proxy_protocol");
        if listener.listener_filters.iter().any(|filter| proxied(&filter.name)) {
            return Err("expects the PROXY protocol first".to_owned());
        }
        let (address, ip) = self.address(listener, all, bound)?;
        let mut target = Target::at(address);
        for (criterion, value) in &chain.filter_chain_match {
            match criterion.as_str() {
                "server_names" => target.server_name = first(value).map(|name| asked_for(&name)),
                "application_protocols" => target.protocols = texts(value),
                "transport_protocol" if value == "tls" => {}
                "prefix_ranges" if ip.is_some_and(|ip| is_within(ip, value)) => {}
                "name" => {}
                other => return Err(format!("chooses the filter chain by {other}")),
            }
        }
        Ok(target)
    }

    /// Where a listener can be reached from here.
    fn address(
        &self,
        listener: &Listener,
        all: &[Listener],
        bound: &[BoundListener],
    ) -> Result<(String, Option<IpAddr>), String> {
        let addresses = bound_at(listener, all, bound)?;
        let mut why = None;
        for address in addresses {
            match self.reached(address, listener) {
                Ok(reached) => return Ok(reached),
                Err(one) => why = why.or(Some(one)),
            }
        }
        Err(why.unwrap_or_else(|| "is bound nowhere".to_owned()))
    }

    fn reached(
        &self,
        address: &Address,
        listener: &Listener,
    ) -> Result<(String, Option<IpAddr>), String> {
        if address.pipe.is_some() {
            return Err("is a Unix socket".to_owned());
        }
        let socket = address.socket_address.as_ref().ok_or("has no address of TCP")?;
        let configured = listener.address.as_ref().and_then(|at| at.socket_address.as_ref());
        let is_udp = |socket: &SocketAddress| socket.protocol == "UDP";
        let quic = listener.udp_listener_config.is_some() || configured.is_some_and(is_udp);
        if quic || is_udp(socket) {
            return Err("is of UDP (QUIC)".to_owned());
        }
        let ip: IpAddr = socket.address.parse().map_err(|_| "has no numeric address".to_owned())?;
        if socket.port_value == 0 {
            return Err("has no port yet".to_owned());
        }
        let mut host = bracketed(ip);
        if ip.is_unspecified() {
            let compat = configured.is_some_and(|socket| socket.ipv4_compat);
            host = self.beside_the_admin(ip.is_ipv6() && !compat);
        } else if !(self.is_here)(ip) && self.admin_host() != Some(&host) {
            return Err(format!("is at {ip}, which is no address of this machine"));
        }
        Ok((format!("{host}:{}", socket.port_value), host.trim_matches(['[', ']']).parse().ok()))
    }

    /// The host that a listener at all addresses is reached at: where its admin endpoint is.
    fn beside_the_admin(&self, only_v6: bool) -> String {
        let here = if only_v6 { "[::1]" } else { "127.0.0.1" };
        match self.admin_host() {
            Some("127.0.0.1" | "0.0.0.0" | "[::1]" | "[::]") | None => here.to_owned(),
            Some(host) => host.to_owned(),
        }
    }

    fn admin_host(&self) -> Option<&str> {
        match self.admin {
            AdminAddress::Tcp(address) => address.rsplit_once(':').map(|(host, _)| host),
            AdminAddress::Unix(_) => None,
        }
    }
}

/// The TLS of a chain, if it is TLS over TCP.
fn tls(chain: &Chain) -> Option<&Tls> {
    let tls = chain.transport_socket.as_ref()?.typed_config.as_ref()?;
    tls.kind.ends_with(".DownstreamTlsContext").then_some(tls)
}

/// Whether a secret is the roots that the agent serves.
fn is_ours(secret: &Secret, domain: &TrustDomain) -> bool {
    let of_domain = secret.name.strip_prefix("spiffe://") == Some(domain.as_str());
    secret.is_asked_for() && (secret.name == "ROOTCA" || secret.name == "ALL" || of_domain)
}

/// Where a listener is bound. One without a name has a random one there: it is told from others by its address.
fn bound_at<'a>(
    listener: &Listener,
    all: &[Listener],
    bound: &'a [BoundListener],
) -> Result<impl Iterator<Item = &'a Address>, String> {
    if !listener.name.is_empty() {
        let same = bound.iter().find(|one| one.name == listener.name);
        return same.map(BoundListener::addresses).ok_or("is not bound".to_owned());
    }
    let wanted = listener.address.as_ref().and_then(|at| at.socket_address.as_ref());
    let wanted = wanted.ok_or("has no address of TCP")?;
    let is_named = |one: &BoundListener| all.iter().any(|listener| listener.name == one.name);
    let is_it = |address: &Address| {
        address.socket_address.as_ref().is_some_and(|socket| {
            let port = wanted.port_value;
            socket.address == wanted.address && (port == 0 || socket.port_value == port)
        })
    };
    let mut fitting =
        bound.iter().filter(|one| !is_named(one) && one.addresses().next().is_some_and(is_it));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one.addresses()),
        (None, _) => Err("is not bound".to_owned()),
        (Some(_), Some(_)) => {
            Err("cannot be told from others without a name and a port: give it one".to_owned())
        }
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    all.map(str::to_owned).collect()
}

fn first(value: &Value) -> Option<String> {
    texts(value).into_iter().next()
}

/// A name that a pattern takes.
fn asked_for(pattern: &str) -> String {
    pattern.strip_prefix('*').map_or_else(|| pattern.to_owned(), |rest| format!("probe{rest}"))
}

/// Whether an address is in one of the ranges of a criterion.
fn is_within(ip: IpAddr, ranges: &Value) -> bool {
    let one = |range: &Value| {
        let prefix: IpAddr = range.get("address_prefix")?.as_str()?.parse().ok()?;
        let length = u32::try_from(range.get("prefix_len").map_or(Some(0), Value::as_u64)?).ok()?;
        let of = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
            IpAddr::V6(ip) => (u128::from(ip), 128),
        };
        let ((ip, bits), (prefix, other)) = (of(ip), of(prefix));
        let differ = (ip ^ prefix).checked_shr(128 - length.min(bits)).unwrap_or(0);
        Some(bits == other && differ == 0)
    };
    ranges.as_array().into_iter().flatten().any(|range| one(range) == Some(true))
}

#[cfg(test)]
mod tests;
