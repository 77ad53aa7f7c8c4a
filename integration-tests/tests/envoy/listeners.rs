//! Where Envoys listen, as they say themselves: found, followed and probed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use agent::Status;
use anyhow::Context as _;
use integration_tests::mesh::{BareEnvoy, MeshCa, SOON, TestAgent, admin_channel, eventually};
use proto::banyan::admin::v1::agent_admin_service_client::AgentAdminServiceClient;
use proto::banyan::admin::v1::{AgentListener, ListAgentsRequest};

use super::SERVER;

/// Probes in each rotation, and gates that open soon.
const PROBED: &str = "[rotation]\nsettle = \"1s\"\nprobe = \"always\"\n";

/// A listener with mutual TLS by the agent's secrets, at a port of the system's choice. It says back what it hears.
fn listener(name: &str, address: &str, criteria: &str, asks: bool) -> String {
    let sds = |name: &str| {
        format!(
            "{{ name: {name}, sds_config: {{ resource_api_version: V3, api_config_source: {{ api_type: GRPC, \
             transport_api_version: V3, grpc_services: [{{ envoy_grpc: {{ cluster_name: agent }} }}] }} }} }}"
        )
    };
    format!(
        "- \"@type\": type.googleapis.com/envoy.config.listener.v3.Listener\n  name: {name}\n  address: {address}\n  \
         listener_filters: [{{ name: envoy.filters.listener.tls_inspector, typed_config: {{ \"@type\": \
         type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector }} }}]\n  filter_chains:\n  \
         - filter_chain_match: {{ {criteria} }}\n    transport_socket:\n      name: envoy.transport_sockets.tls\n      typed_config:\n        \
         \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n        \
         require_client_certificate: {asks}\n        common_tls_context:\n          tls_certificate_sds_secret_configs: [{}]\n          \
         validation_context_sds_secret_config: {}\n    filters:\n    - name: envoy.filters.network.echo\n      \
         typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo }}\n",
        sds("default"),
        sds("ROOTCA")
    )
}

/// 127.0.0.1 and a port of the system's choice.
const ANY_PORT: &str = "{ socket_address: { address: 127.0.0.1, port_value: 0 } }";

/// An Envoy that takes its listeners from a file, which it watches.
struct Listening {
    envoy: BareEnvoy,
    file: PathBuf,
}

impl Listening {
    fn start(agent: &TestAgent, admin: &str, listeners: &[String]) -> anyhow::Result<Self> {
        let file = agent.path("listeners.yaml");
        write(&file, listeners)?;
        let (lds, socket) = (file.display(), agent.socket());
        let yaml = format!(
            "node: {{ id: \"listening\", cluster: \"listening\" }}\nadmin: {{ address: {admin} }}\n\
             dynamic_resources: {{ lds_config: {{ resource_api_version: V3, path_config_source: {{ path: \"{lds}\" }} }} }}\n\
             static_resources:\n  clusters:\n  - name: agent\n    type: STATIC\n    typed_extension_protocol_options:\n      \
             envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
             \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        \
             explicit_http_config: {{ http2_protocol_options: {{}} }}\n    load_assignment: {{ cluster_name: agent, endpoints: [{{ \
             lb_endpoints: [{{ endpoint: {{ address: {{ pipe: {{ path: \"{}\" }} }} }} }}] }}] }}\n",
            socket.display()
        );
        Ok(Self { envoy: BareEnvoy::start("listening", &agent.path(""), &yaml)?, file })
    }
}

/// The listeners of an Envoy, which sees the file moved.
fn write(file: &Path, listeners: &[String]) -> anyhow::Result<()> {
    let fresh = file.with_extension("fresh");
    let yaml = match listeners.is_empty() {
        true => "resources: []\n".to_owned(),
        false => format!("resources:\n{}", listeners.concat()),
    };
    std::fs::write(&fresh, yaml)?;
    Ok(std::fs::rename(fresh, file)?)
}

/// A CA, and an agent that asks an Envoy at this admin endpoint, started.
async fn mesh(admin: impl FnOnce(&TestAgent) -> String) -> anyhow::Result<(MeshCa, TestAgent)> {
    let ca = MeshCa::start("", PROBED).await?;
    let token = ca.token("server", &[SERVER]).await?;
    let agent = TestAgent::of(ca.gate().address())?.with_patience("6s").with_token(&token)?;
    let mut agent = agent.with_own_workload(SERVER);
    let admin = admin(&agent);
    agent.reads_counters_at(&admin);
    Ok((ca, agent.joined().await?))
}

async fn told(ca: &MeshCa) -> anyhow::Result<Vec<AgentListener>> {
    let mut operator = AgentAdminServiceClient::new(admin_channel(&ca.running().admin_socket));
    let agents = operator.list_agents(ListAgentsRequest::default()).await?.into_inner().agents;
    Ok(agents.into_iter().flat_map(|agent| agent.listeners).collect())
}

/// Waits until the agent knows exactly one listener, and tells its address.
async fn address(agent: &TestAgent, is: impl Fn(&str) -> bool + Sync) -> anyhow::Result<String> {
    let one = |status: &Status| match &status.workloads.first()?.listeners[..] {
        [one] => one.address.clone().filter(|address| is(address)),
        _ => None,
    };
    let status = agent.until("one listener is known", |status| one(status).is_some()).await?;
    one(&status).context("it is gone again")
}

async fn until_it_rests_on(ca: &MeshCa, words: &str) -> anyhow::Result<()> {
    let rests = |one: &proto::banyan::admin::v1::Rotation| {
        let gate = one.gate.as_ref();
        gate.is_some_and(|gate| gate.rests_on.iter().any(|text| text == words))
    };
    ca.until_rotation(words, SOON, rests).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_at_a_port_of_the_systems_choice_behind_a_server_name_is_found_and_observed()
-> anyhow::Result<()> {
    let socket = |agent: &TestAgent| format!("unix:{}", agent.path("admin.sock").display());
    let (ca, mut agent) = mesh(socket).await?;
    let admin = format!("{{ pipe: {{ path: \"{}\" }} }}", agent.path("admin.sock").display());
    let unix = format!("{{ pipe: {{ path: \"{}\" }} }}", agent.path("in.sock").display());
    let listeners = [
        listener("named", ANY_PORT, "server_names: [\"*.mesh.example.org\"]", true),
        listener("open", ANY_PORT, "", false),
        listener("unix", &unix, "", true),
    ];
    let mut envoy = Listening::start(&agent, &admin, &listeners)?;
    let suffix = " (server name probe.mesh.example.org)";
    let first = address(&agent, |address| address.ends_with(suffix)).await?;
    let known = async || {
        told(&ca).await.is_ok_and(|all| {
            matches!(&all[..], [one] if one.address == first && one.learnt_from == socket(&agent))
        })
    };
    eventually("the CA is told", known).await?;

    ca.rotate_in_mode("one", "manual").await?;
    until_it_rests_on(&ca, "handshake-observed: 1").await?;

    // Another one takes its place, at another port.
    envoy.envoy.kill().await?;
    let port: SocketAddr = first.trim_end_matches(suffix).parse()?;
    let _taken = std::net::TcpListener::bind(port)?;
    envoy = Listening::start(&agent, &admin, &listeners)?;
    address(&agent, |address| address.ends_with(suffix) && address != first).await?;

    // The admin endpoint is away: what was known is kept, and it is said that nobody answers.
    envoy.envoy.kill().await?;
    agent.until_it_says("counters of Envoy not read").await?;
    address(&agent, |address| address.ends_with(suffix)).await?;
    agent.stop().await;
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_without_a_listener_that_can_be_probed_is_told_and_one_that_comes_and_goes_is_seen()
-> anyhow::Result<()> {
    let at = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (ca, mut agent) = mesh(|_| at.to_string()).await?;
    let admin =
        format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {} }} }}", at.port());
    let open = listener("open", ANY_PORT, "", false);
    let envoy = Listening::start(&agent, &admin, std::slice::from_ref(&open))?;
    let said = format!(
        "no listener to be probed: the Envoy at {at} has none for {SERVER} that can be probed: listener `open` does not ask for \
         certificates"
    );
    agent.until_it_says(&said).await?;
    agent.until("its holder has the bundle", |status| status.holders.len() == 1).await?;
    let known = async || {
        told(&ca).await.is_ok_and(|all| {
            matches!(&all[..], [one] if one.address.is_empty() && one.why_none.contains("does not ask"))
        })
    };
    eventually("the CA is told", known).await?;
    ca.rotate_in_mode("one", "manual").await?;
    until_it_rests_on(&ca, "applied (its listener cannot be probed): 1").await?;

    let anywhere = "{ socket_address: { address: 0.0.0.0, port_value: 0 } }";
    write(&envoy.file, &[open.clone(), listener("asks", anywhere, "", true)])?;
    address(&agent, |address| address.starts_with("127.0.0.1:")).await?;
    until_it_rests_on(&ca, "handshake-observed: 1").await?;
    agent.until("all is well", |status| status.conditions.is_empty()).await?;

    write(&envoy.file, &[open])?;
    agent.until_it_says(&said).await?;
    agent.stop().await;
    ca.stop().await
}
