//! The second net at several servers: one certificate, whoever asked for it.

use std::time::Duration;

use anyhow::ensure;
use integration_tests::mesh::{eventually, tls_channel, until_rotation};
use integration_tests::replicas::{Plan, Server, Trio};
use proto::banyan::admin::v1::{DecideRotationRequest, ListRootsRequest, Rotation, Verb};
use tokio::time::Instant;

use super::ROTATION_MAX;

/// What a server says that sends it.
const SENT: &str = "more in each handshake";

/// What a server says of it once it sends it.
async fn said(server: &Server) -> anyhow::Result<String> {
    let sends = |rotation: &Rotation| rotation.second_net.iter().any(|said| said.contains(SENT));
    let most = Duration::from_secs(30);
    let rotation = until_rotation(server.rotations(), "it is sent", most, sends).await?;
    Ok(rotation.second_net.join("; "))
}

async fn decide(server: &Server, id: &str, verb: Verb) -> anyhow::Result<()> {
    let request = DecideRotationRequest {
        request_id: id.to_owned(),
        verb: verb.into(),
        ..Default::default()
    };
    server.rotations().decide_rotation(request).await?;
    Ok(())
}

/// Who trusts the old root alone gets a connection to each server.
async fn accepted(trio: &Trio, old: &[Vec<u8>]) -> anyhow::Result<()> {
    for server in &trio.servers {
        let connects = async || {
            let versions = &[&rustls::version::TLS13];
            tls_channel(server.address(), old, None, versions).await.is_ok()
        };
        eventually("a client with the old root alone connects", connects).await?;
    }
    Ok(())
}

pub(crate) async fn each_server_sends_the_same_cross_certificate_also_one_that_was_killed(
    plan: Plan,
) -> anyhow::Result<()> {
    let plan = Plan { clients: 1, rotation: "cross_sign = true\n".to_owned(), ..plan };
    let mut trio = Trio::start(&plan).await?;
    let roots = trio.at(0)?.admin().list_roots(ListRootsRequest::default()).await?.into_inner();
    let old: Vec<_> = roots.roots.into_iter().map(|root| root.der).collect();
    let since = Instant::now();
    trio.rotate(1, "one").await?;
    trio.phase("draining").await?;
    decide(trio.at(2)?, "hold", Verb::Hold).await?;
    let first = said(trio.at(0)?).await?;
    for server in &trio.servers {
        ensure!(said(server).await? == first, "{} sends another one", server.name());
    }
    accepted(&trio, &old).await?;
    trio.server(1)?.kill().await?;
    trio.server(1)?.start()?;
    trio.ready(1).await?;
    ensure!(said(trio.at(1)?).await? == first, "another one after a kill");
    accepted(&trio, &old).await?;
    decide(trio.at(2)?, "go-on", Verb::Resume).await?;
    trio.over("one", since, ROTATION_MAX * 2).await?;
    trio.judged().await.map(drop)
}
