//! A CA at several addresses: they are cut, freeze and return, and send agents away.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use integration_tests::mesh::{
    Gate, LiveMesh, MeshCa, MeshPlan, TestAgent, eventually, tls_channel,
};
use proto::banyan::agent::v1::GetBundleRequest;
use proto::banyan::agent::v1::agent_service_client::AgentServiceClient;
use tokio::time::Instant;

/// Lives of leaves in seconds: everybody renews under each fault.
const LIFE: u64 = 12;
const ROUNDS: usize = 12;
const AGENTS: usize = 60;
const AT_ONCE: usize = 16;
/// A way that froze is noticed within 20 s, and one more attempt may take 5; the rest is for a machine that is busy.
const FROZEN: Duration = Duration::from_secs(35);

#[tokio::test(flavor = "multi_thread")]
async fn members_shake_hands_while_the_addresses_of_their_ca_die_and_return() -> anyhow::Result<()>
{
    let plan = MeshPlan { life: LIFE, agents: 4, further_ways: 2, ..MeshPlan::default() };
    let mesh = LiveMesh::of(&plan, &()).await?;
    mesh.ca.rotate("among-faults").await?;
    let mut times = Vec::new();
    for way in mesh.ways().collect::<Vec<_>>().into_iter().cycle().take(ROUNDS) {
        let address = way.address().to_string();
        let mut there = Vec::new();
        for agent in &mesh.agents {
            agent.until("connected", |status| status.connected).await?;
            if agent.in_use()?.as_deref() == Some(&address) {
                there.push(agent);
            }
        }
        let began = Instant::now();
        way.set_open(false);
        let gone = there.iter().map(|agent| async {
            agent.until_away_from(way.address()).await.map(|_| began.elapsed())
        });
        for time in join_all(gone).await {
            times.push(time?);
        }
        way.set_open(true);
    }
    mesh.over("among-faults").await?;
    mesh.all_meet().await?;
    let talk = mesh.stop().await?;
    times.sort_unstable();
    let at = |part: usize| times.get((times.len().saturating_sub(1)) * part / 100).copied();
    println!("{} failovers: p50 {:?}, p99 {:?}", times.len(), at(50), at(99));
    println!("{} handshakes, {} failed", talk.handshakes, talk.failed.len());
    assert!(times.len() >= ROUNDS / 3, "agents were at the addresses that died: {}", times.len());
    assert!(talk.failed.is_empty(), "{:#?}", talk.failed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_freezes_is_left_within_half_a_minute_although_nobody_asks_for_anything()
-> anyhow::Result<()> {
    let ca = MeshCa::start("", "").await?;
    let second = Gate::before(ca.running().grpc_addr).await?;
    let token = ca.token("host-1", &[super::WEB]).await?;
    let ways = [ca.gate().address(), second.address()];
    let agent = TestAgent::of_several(&ways)?.with_token(&token)?.joined().await?;
    let in_use = agent.in_use()?;
    let frozen = if in_use == Some(second.address().to_string()) { &second } else { ca.gate() };
    let began = Instant::now();
    frozen.stall();
    let status = agent.until_away_from(frozen.address()).await?;
    println!("left after {:?}", began.elapsed());
    assert!(began.elapsed() < FROZEN, "{:?}", began.elapsed());
    let left = status.ca_addresses.iter().find(|row| !row.in_use);
    assert!(left.is_some_and(|row| row.left_because.is_some()), "{status:#?}");
    ca.stop().await
}

/// How many agents are at each way.
fn spread(agents: &[TestAgent], ways: &[&Gate]) -> anyhow::Result<Vec<usize>> {
    let mut counts = vec![0; ways.len()];
    for agent in agents {
        let in_use = agent.in_use()?;
        for (count, way) in counts.iter_mut().zip(ways) {
            *count += usize::from(in_use == Some(way.address().to_string()));
        }
    }
    Ok(counts)
}

async fn all_connected(agents: &[TestAgent], sequence: u64) -> anyhow::Result<()> {
    for agent in agents {
        let is_there = |status: &agent::Status| status.connected && status.sequence == sequence;
        agent.until("connected, with the bundle", is_there).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_returns_meets_no_herd() -> anyhow::Result<()> {
    let ca = MeshCa::start("", "").await?;
    let (second, third) =
        (Gate::before(ca.running().grpc_addr).await?, Gate::before(ca.running().grpc_addr).await?);
    let ways = [ca.gate(), &second, &third];
    let addresses = ways.map(Gate::address);
    let joining = (0..AGENTS).map(|number| {
        let ca = &ca;
        async move {
            let token = ca.token(&format!("host-{number}"), &[super::WEB]).await?;
            TestAgent::of_several(&addresses)?.with_token(&token)?.joined().await
        }
    });
    let joined: Vec<_> = futures::stream::iter(joining).buffer_unordered(AT_ONCE).collect().await;
    let agents: Vec<TestAgent> = joined.into_iter().collect::<anyhow::Result<_>>()?;
    let first = spread(&agents, &ways)?;
    // Each has 20 of 60 in the mean; fewer than 7 at one of them has a chance of about one in 30,000.
    assert!(first.iter().all(|count| *count >= 7), "at the start: {first:?}");
    ca.gate().set_open(false);
    for agent in &agents {
        agent.until_away_from(ca.gate().address()).await?;
    }
    let without = spread(&agents, &ways)?;
    assert_eq!(without[0], 0, "{without:?}");
    assert!(without[1] > first[1] && without[2] > first[2], "{first:?}, then {without:?}");
    ca.gate().set_open(true);
    // Everybody connects anew, and has no reason to go elsewhere.
    ca.rotate_in_mode("change", "manual").await?;
    all_connected(&agents, 2).await?;
    println!("{first:?}, without the first {without:?}, and so with it");
    assert_eq!(spread(&agents, &ways)?, without);
    assert_eq!(ca.gate().passing(), 0);
    drop(agents);
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drains_sends_agents_elsewhere_and_ends_other_connections_and_serves_who_stays()
-> anyhow::Result<()> {
    let ca = MeshCa::start("", "").await?;
    let second = Gate::before(ca.running().grpc_addr).await?;
    let (alone, csr_clients) =
        (Gate::before(ca.running().grpc_addr).await?, Gate::before(ca.running().grpc_addr).await?);
    let token = async |name: &str| ca.token(name, &[super::WEB]).await;
    let ways = [ca.gate().address(), second.address()];
    let agent = TestAgent::of_several(&ways)?.with_token(&token("host-1").await?)?.joined().await?;
    let stays =
        TestAgent::of(alone.address())?.with_token(&token("host-2").await?)?.joined().await?;
    let roots: Vec<_> =
        ca.running().bundle().roots().iter().map(|root| root.der().to_vec()).collect();
    let channel =
        tls_channel(csr_clients.address(), &roots, None, &[&rustls::version::TLS13]).await?;
    let mut client = AgentServiceClient::new(channel);
    client.get_bundle(GetBundleRequest::default()).await?;
    assert_eq!(csr_clients.passing(), 1);
    let from = agent.in_use()?;
    let from = if from == Some(second.address().to_string()) { &second } else { ca.gate() };

    ca.running().drain(Duration::from_millis(200));
    agent.until_away_from(from.address()).await?;
    eventually("the former connection ends", || async { from.passing() == 0 }).await?;
    eventually("GOAWAY ends the other", || async { csr_clients.passing() == 0 }).await?;
    client.get_bundle(GetBundleRequest::default()).await?;
    assert!(csr_clients.arrivals().len() >= 2, "the next call came over a new connection");
    // It is the same server behind both addresses, so the agent is asked again; there is nowhere else to go.
    ca.rotate_in_mode("change", "manual").await?;
    for agent in [&agent, &stays] {
        agent.until("the bundle", |status| status.sequence == 2 && status.connected).await?;
    }
    assert_eq!(alone.passing(), 1, "with one address it stays");
    ca.stop().await
}
