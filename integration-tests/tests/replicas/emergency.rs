//! What is said at one server holds at all: a ban, a revoked leaf, a root that was stolen.

use anyhow::{Context as _, ensure};
use integration_tests::mesh::{
    Subscriber, TestAgent, certificates, eventually, serial as serial_of,
};
use integration_tests::replicas::{Plan, Server, Trio};
use tokio::time::Instant;
use trust::{Certificate, Serial};

use super::ROTATION_MAX;

const WORD: [&str; 4] = ["--by", "ann", "--reason", "seen elsewhere"];
const WEB: &str = "spiffe://example.org/app/web";

async fn done(server: &Server, arguments: &[&str]) -> anyhow::Result<String> {
    let (done, said) = server.banyan(&[arguments, &WORD].concat()).await?;
    ensure!(done, "{arguments:?} at {}: {said}", server.name());
    Ok(said)
}

/// The server that has the row of a leaf, which is the one that issued it.
async fn issuer(trio: &Trio, serial: Serial) -> anyhow::Result<usize> {
    for index in 0..3 {
        let (_, said) = trio.at(index)?.banyan(&["leaf", "list", "--identity", WEB]).await?;
        if said.contains(&serial.to_string()) {
            return Ok(index);
        }
    }
    anyhow::bail!("no server has a row of {serial}")
}

pub(crate) async fn who_is_banned_and_what_is_revoked_at_one_server_is_so_at_each(
    plan: Plan,
) -> anyhow::Result<()> {
    let trio = Trio::start(&plan).await?;
    let ways: Vec<_> = trio.servers.iter().map(Server::address).collect();
    let token = trio.token("host-web", WEB).await?;
    let mut agent =
        TestAgent::of_several(&ways)?.with_token(&token)?.with_own_workload(WEB).joined().await?;
    let mut roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    let mut leaf = Subscriber::open(&agent.socket(), "default").await?;
    roots.applied().await?;
    let first = serial_of(&leaf.applied().await?)?;

    // Banned at the one, revoked where its row is, and seen at each.
    done(trio.at(2)?, &["ban", "add", "--identity", WEB]).await?;
    for server in &trio.servers {
        eventually("each server knows of the ban", async || {
            server.banyan(&["ban", "list"]).await.is_ok_and(|(_, said)| said.contains(WEB))
        })
        .await?;
    }
    let has = issuer(&trio, first).await?;
    let elsewhere = trio.at((has + 1) % 3)?;
    let (revoked, said) = elsewhere
        .banyan(&[["leaf", "revoke", &first.to_string()].as_slice(), &WORD].concat())
        .await?;
    ensure!(!revoked && said.contains("at the server that issued it"), "{said}");
    done(trio.at(has)?, &["leaf", "revoke", &first.to_string()]).await?;
    let answer = leaf.next().await??;
    let shown = certificates(&answer)?;
    let nobody = Certificate::parse(shown.first().context("a certificate is shown")?)?;
    ensure!(nobody.spiffe_id().is_err(), "it is a certificate that names nobody");
    leaf.ack(&answer).await?;

    // It is so after a restart too, at whichever server it asks then.
    agent.stop().await;
    agent.start().await?;
    let mut roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    roots.applied().await?;
    let mut leaf = Subscriber::open(&agent.socket(), "default").await?;
    let told = agent.until("it is banned at that server too", |status| {
        let error = status.workloads.first().and_then(|web| web.last_error.as_ref());
        error.is_some_and(|error| error.contains("banned identity"))
    });
    told.await?;

    let lift = ["ban", "remove", "--identity", WEB];
    done(trio.at((has + 2) % 3)?, &lift).await?;
    let answer = leaf.next().await??;
    ensure!(serial_of(&answer)? != first, "it has a new leaf");
    leaf.ack(&answer).await?;
    agent.stop().await;
    trio.judged().await.map(drop)
}

pub(crate) async fn a_stolen_root_goes_at_each_server_and_nobody_behind_an_agent_notices(
    plan: Plan,
) -> anyhow::Result<()> {
    let mut trio = Trio::start(&plan).await?;
    let since = Instant::now();
    let root = trio.rotation().await.context("no server answers")?.from_root;
    let root: String = root.iter().map(|byte| format!("{byte:02x}")).collect();
    // The one that does not lead, and another one is killed on the way.
    done(trio.at(1)?, &["root", "distrust", &root, "--request-id", "stolen"]).await?;
    for server in &trio.servers {
        server.until_it_says("is distrusted by ann").await?;
    }
    trio.phase("draining").await?;
    trio.server(0)?.kill().await?;
    trio.tend()?;
    trio.over("stolen", since, ROTATION_MAX).await?;
    trio.judged().await.map(drop)
}
