//! Ambient: ztunnels of two nodes ask servers of the chart for the identities of the Pods there, and learn roots from the answers
//! alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use host::SystemClock;
use integration_tests::cluster::{Chart, Cluster, Pod};
use integration_tests::mesh::{
    FakeZtunnel, Member, Received, Traffic, ZtunnelFiles, admin_channel, until_rotation,
};
use integration_tests::support::eventually;
use proto::banyan::admin::v1::StartRotationRequest;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use stores_peers::PodPlan;
use tonic::Code;
use trust::Clock as _;

use super::istio::{ISTIO_SYSTEM, Values, bundle, trusted_roots};
use super::servers::{SERVERS, started};
use super::{NAMESPACE, cluster};

/// Node, and accounts of the Pods on it.
const NODES: [(&str, &[&str]); 2] = [("east", &["cart", "till"]), ("west", &["web", "cart"])];
/// Two gates, each of which waits for a life of what was issued before it.
const ROTATION_MAX: Duration = Duration::from_secs(180);

fn identity(account: &str) -> String {
    format!("spiffe://cluster.local/ns/shop/sa/{account}")
}

pub(crate) async fn ztunnels_with_exact_habits_talk_through_a_whole_rotation_and_get_what_is_on_their_node_alone(
    name: &'static str,
) -> anyhow::Result<()> {
    let Some(mut cluster) = cluster(name, SERVERS).await? else { return Ok(()) };
    let values = Values::write()?;
    let chart = Chart { files: values.files("ci/istio.yaml"), set: Vec::new() };
    let rendered = chart.render(NAMESPACE).await?;
    cluster.kubectl(&["apply", "--validate=strict", "-f", "-"], &rendered).await?;
    // The servers come to a cluster in which they may not list Pods yet.
    let binding = format!("{NAMESPACE}-banyan-pods");
    cluster.kubectl(&["delete", "clusterrolebinding", &binding], "").await?;
    let servers = started(&mut cluster, SERVERS).await?;
    cluster.add_namespace("shop", serde_json::json!({})).await?;
    cluster.add_namespace(ISTIO_SYSTEM, serde_json::json!({})).await?;
    cluster.add_account(ISTIO_SYSTEM, "ztunnel").await?;
    for account in ["cart", "till", "web"] {
        cluster.add_account("shop", account).await?;
    }
    bundle(&cluster, ISTIO_SYSTEM).await?;
    let (received, files) = (Received::default(), tempfile::tempdir()?);
    let mut ztunnels = Vec::new();
    for (node, accounts) in NODES {
        let files = node_files(&cluster, &servers, files.path().join(node), node).await?;
        let ztunnel = FakeZtunnel::of_node(node, files, &received)?;
        for account in accounts {
            let plan =
                PodPlan { namespace: "shop", name: &format!("{account}-{node}"), account, node };
            cluster.api.add_pod(plan).await?;
        }
        ztunnels.push(ztunnel);
    }
    let east = ztunnels.first().context("no ztunnel")?;
    let refused = east.ask(&identity("cart")).await.err().context("the Pods are not known yet")?;
    ensure!(refused.code() == Code::Unavailable, "{refused:?}");
    cluster.kubectl(&["apply", "--validate=strict", "-f", "-"], &rendered).await?;
    eventually("the Pods are known", async || east.ask(&identity("cart")).await.is_ok()).await?;
    let refused = east.ask(&identity("web")).await.err().context("it is on another node")?;
    ensure!(refused.code() == Code::PermissionDenied, "{refused:?}");

    let mut members = Vec::new();
    for ((_, accounts), ztunnel) in NODES.iter().zip(&mut ztunnels) {
        members
            .extend(accounts.iter().map(|account| Member::Guest(ztunnel.add(&identity(account)))));
    }
    eventually("each has a certificate", async || {
        members.iter().all(|member| member.holding().leaf().is_some())
    })
    .await?;
    let traffic = Traffic::among(&members);
    let socket = servers.first().context("no server")?.path("run", "admin.sock")?;
    let mut rotations = RotationServiceClient::new(admin_channel(&socket));
    let former = received.all().len();
    let began = SystemClock.uptime();
    let request = StartRotationRequest { request_id: "first".to_owned(), ..Default::default() };
    rotations.start_rotation(request).await?;
    let over = until_rotation(rotations, "the rotation is over", ROTATION_MAX, |rotation| {
        rotation.last_ending == "completed"
    });
    let kept_up = keep_files(&cluster, files.path());
    let lasted = tokio::select! {
        over = over => over.map(|_| SystemClock.uptime() - began)?,
        failed = kept_up => return failed.context("files of the nodes"),
    };
    // Who renews learns of the bundle without the former root.
    let now = trusted_roots(&cluster, ISTIO_SYSTEM).await?;
    ensure!(now.len() == 1, "{} roots are published in the end", now.len());
    eventually("each trusts the new root alone", async || {
        members.iter().all(|member| member.holding().trusted() == now)
    })
    .await?;
    let met = traffic.handshakes() + 24;
    eventually("all have met once more", async || traffic.handshakes() >= met).await?;
    let talk = traffic.stop().await?;
    ensure!(talk.failed.is_empty(), "failed: {:#?}", talk.failed.first());
    for ztunnel in &ztunnels {
        ensure!(ztunnel.refused().is_empty(), "{:?}", ztunnel.refused());
    }
    println!(
        "figures of {name}: handshakes {}, failed {}, certificates {}, rotation {} s",
        talk.handshakes,
        talk.failed.len(),
        received.all().len() - former,
        lasted.as_secs(),
    );
    Ok(())
}

/// A ztunnel's Pod on a node, and what a kubelet makes for it.
async fn node_files(
    cluster: &Cluster,
    servers: &[Pod],
    folder: PathBuf,
    node: &str,
) -> anyhow::Result<ZtunnelFiles> {
    cluster.api.add_node(node).await?;
    let name = format!("ztunnel-{node}");
    let plan = PodPlan { namespace: ISTIO_SYSTEM, name: &name, account: "ztunnel", node };
    let pod = cluster.api.add_pod(plan).await?;
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("token"), cluster.api.token_of(&pod, "istio-ca").await?)?;
    write_roots(cluster, &folder).await?;
    Ok(ZtunnelFiles {
        ca: servers.iter().map(|server| SocketAddr::new(server.address(), 15012)).collect(),
        ca_name: format!("banyan.{NAMESPACE}.svc"),
        roots: folder.join("root-cert.pem"),
        token: folder.join("token"),
    })
}

async fn write_roots(cluster: &Cluster, folder: &std::path::Path) -> anyhow::Result<()> {
    let path = format!("/api/v1/namespaces/{ISTIO_SYSTEM}/configmaps/istio-ca-root-cert");
    let object = cluster.get(&path).await?;
    let pem = object["data"]["root-cert.pem"].as_str().context("no bundle")?;
    let fresh = folder.join("fresh");
    std::fs::write(&fresh, pem)?;
    Ok(std::fs::rename(fresh, folder.join("root-cert.pem"))?)
}

/// Keeps the files of the nodes as a kubelet does; ends with what is in its way.
async fn keep_files(cluster: &Cluster, folder: &std::path::Path) -> anyhow::Result<()> {
    loop {
        for (node, _) in NODES {
            write_roots(cluster, &folder.join(node)).await?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
