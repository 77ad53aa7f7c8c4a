//! Three servers as the chart has them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use integration_tests::cluster::{Chart, Cluster, Pod};
use integration_tests::mesh::admin_channel;
use integration_tests::support::eventually;
use proto::banyan::admin::v1::rotation_service_client::RotationServiceClient;
use proto::banyan::admin::v1::{GetRotationRequest, Rotation, StartRotationRequest};
use proto::banyan::downstream::v1::downstream_admin_service_client::DownstreamAdminServiceClient;
use proto::banyan::downstream::v1::{AddDownstreamRequest, RemoveDownstreamRequest};
use serde_json::Value;
use stores_peers::Asked;
use tonic::transport::Channel;

use super::{NAMESPACE, cluster};

const ACCOUNT: &str = "system:serviceaccount:banyan-system:banyan";
pub(crate) const SERVERS: u8 = 3;

pub(crate) async fn three_servers_of_the_chart_rotate_with_exactly_its_rights_and_one_is_replaced_meanwhile(
    name: &'static str,
) -> anyhow::Result<()> {
    let Some(mut cluster) = cluster(name, SERVERS + 1).await? else { return Ok(()) };
    let chart = Chart {
        files: ["ci/alone.yaml", "ci/short-lives.yaml"].map(str::to_owned).into(),
        set: Vec::new(),
    };
    let rendered = chart.render(NAMESPACE).await?;
    cluster.kubectl(&["apply", "--validate=strict", "-f", "-"], &rendered).await?;

    let mut servers = started(&mut cluster, SERVERS).await?;
    let mut rotations = clients(&servers)?;
    let request = StartRotationRequest { request_id: "first".to_owned(), ..Default::default() };
    let lead = rotations.first_mut().context("no server")?;
    lead.start_rotation(request).await?;
    // A node is drained: its Pod stops in order, and another comes in its place on another node, with the same volume.
    let mut gone = servers.pop().context("no server")?;
    gone.container("ca")?.stop().await?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}", gone.name());
    cluster.api.ask("DELETE", &path, None).await?;
    let mut again = cluster.start_member(NAMESPACE, "banyan", SERVERS - 1).await?;
    again.ready(15014, "/readyz").await?;
    servers.push(again);
    let lead = lead.clone();
    eventually("the rotation is over", || {
        let mut lead = lead.clone();
        async move {
            rotation(&mut lead).await.is_some_and(|rotation| rotation.last_ending == "completed")
        }
    })
    .await?;
    rights_are_exact(&cluster, &rendered, &servers).await
}

/// Starts so many at once, as the set does.
pub(crate) async fn started(cluster: &mut Cluster, count: u8) -> anyhow::Result<Vec<Pod>> {
    let addresses: Vec<IpAddr> = (0..count).map(|end| cluster.address(end)).collect();
    for (number, address) in (0..count).zip(&addresses) {
        let name = format!("banyan-{number}.banyan-replicas.{NAMESPACE}.svc");
        cluster.name(&name, vec![*address]);
    }
    let mut servers = Vec::new();
    for number in 0..count {
        servers.push(cluster.start_member(NAMESPACE, "banyan", number).await?);
    }
    for server in &mut servers {
        server.ready(15014, "/readyz").await?;
    }
    Ok(servers)
}

/// What is secret, and deleted in the end: the row of a CA that was downstream.
async fn a_downstream_ca_comes_and_goes(servers: &[Pod]) -> anyhow::Result<()> {
    let server = servers.first().context("no server")?;
    let mut admin =
        DownstreamAdminServiceClient::new(admin_channel(&server.path("run", "admin.sock")?));
    let name = "east".to_owned();
    admin.add_downstream(AddDownstreamRequest { name: name.clone(), ..Default::default() }).await?;
    admin.remove_downstream(RemoveDownstreamRequest { name, ..Default::default() }).await?;
    Ok(())
}

pub(crate) fn clients(servers: &[Pod]) -> anyhow::Result<Vec<RotationServiceClient<Channel>>> {
    let channels = servers.iter().map(|server| {
        Ok(RotationServiceClient::new(admin_channel(&server.path("run", "admin.sock")?)))
    });
    channels.collect()
}

pub(crate) async fn rotation(client: &mut RotationServiceClient<Channel>) -> Option<Rotation> {
    Some(client.get_rotation(GetRotationRequest::default()).await.ok()?.into_inner())
}

/// Nothing that the servers asked for was forbidden, and each right of the chart was used, or is so soon.
pub(crate) async fn rights_are_exact(
    cluster: &Cluster,
    rendered: &str,
    servers: &[Pod],
) -> anyhow::Result<()> {
    a_downstream_ca_comes_and_goes(servers).await?;
    rights_are_used(cluster, rendered).await
}

/// The same for some of what helm rendered: each right of that alone.
pub(crate) async fn rights_are_used(cluster: &Cluster, rendered: &str) -> anyhow::Result<()> {
    rights_are_used_by(ACCOUNT, cluster, rendered).await
}

/// The same for another account of the chart.
pub(crate) async fn rights_are_used_by(
    account: &str,
    cluster: &Cluster,
    rendered: &str,
) -> anyhow::Result<()> {
    let arguments = ["create", "--dry-run=client", "-f", "-", "-o", "json"];
    let objects = cluster.kubectl(&arguments, rendered).await?;
    let objects = serde_json::Deserializer::from_str(&objects).into_iter::<Value>();
    let objects: Vec<Value> = objects.collect::<Result<_, _>>()?;
    // To sign is checked, and not asked: the family `kubernetes` shows what is without it.
    let given = objects.iter().flat_map(rights).filter(|right| right.2 != "sign");
    let given: BTreeSet<_> = given.collect();
    for right in &given {
        ensure!([&right.0, &right.1, &right.2].iter().all(|part| *part != "*"), "{right:?}");
    }
    let unused = || -> anyhow::Result<BTreeSet<Right>> {
        let mut used = BTreeSet::new();
        for asked in requests_of(account, cluster)? {
            // To apply what is not there yet is to create it.
            if asked.verb == "patch" && asked.code == 201 {
                let verb = "create".to_owned();
                used.insert((asked.group.clone(), asked.resource.clone(), verb));
            }
            used.insert((asked.group, asked.resource, asked.verb));
        }
        Ok(given.difference(&used).cloned().collect())
    };
    // What a root that is over leaves behind is removed after the rotation.
    let all_used = eventually("every right is used", || {
        let is_done = unused().is_ok_and(|unused| unused.is_empty());
        async move { is_done }
    });
    let all_used = all_used.await;
    let unused = unused()?;
    all_used.with_context(|| format!("rights that nobody used: {unused:?}"))?;
    nothing_was_forbidden_to(account, cluster)
}

/// No right was missing.
pub(crate) fn nothing_was_forbidden(cluster: &Cluster) -> anyhow::Result<()> {
    nothing_was_forbidden_to(ACCOUNT, cluster)
}

fn nothing_was_forbidden_to(account: &str, cluster: &Cluster) -> anyhow::Result<()> {
    let forbidden: BTreeSet<_> =
        requests_of(account, cluster)?.into_iter().filter(|asked| asked.code == 403).collect();
    ensure!(forbidden.is_empty(), "forbidden: {forbidden:?}");
    Ok(())
}

fn requests_of(account: &str, cluster: &Cluster) -> anyhow::Result<Vec<Asked>> {
    let requests = cluster.api.requests()?.into_iter();
    Ok(requests.filter(|asked| asked.user == account).collect())
}

/// Group, resource, verb.
type Right = (String, String, String);

/// Each right of a role.
fn rights(object: &Value) -> Vec<Right> {
    let texts = |value: &Value| -> Vec<String> {
        let texts = value.as_array().into_iter().flatten();
        texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let mut rights = Vec::new();
    for rule in object["rules"].as_array().into_iter().flatten() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                let verbs = texts(&rule["verbs"]).into_iter();
                rights.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    rights
}
