//! The CA is away, until and beyond the life of leaves; the clock is the test's.

use std::sync::Arc;
use std::time::Duration;

use agent::Status;
use integration_tests::mesh::{MeshCa, Subscriber, TestAgent, certificates};
use trust::{ManualClock, Timestamp};

use super::WEB;

const HOUR: Duration = Duration::from_secs(3_600);

struct Absence {
    clock: Arc<ManualClock>,
    ca: MeshCa,
    agent: TestAgent,
    roots: Subscriber,
    leaf: Subscriber,
}

/// Waits for something while seconds pass on the test's clock: pauses between attempts are counted on it.
async fn while_time_passes<T>(clock: &ManualClock, wanted: impl Future<Output = T>) -> T {
    let passing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            clock.advance(Duration::from_secs(1));
        }
    };
    tokio::select! {
        found = wanted => found,
        () = passing => unreachable!("time passes for ever"),
    }
}

/// A mesh with leaves of one hour (the agent's own has a day), whose workload has roots and a leaf.
async fn served() -> anyhow::Result<(Absence, String)> {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
    let ca = MeshCa::start_with("", "", &[], Arc::clone(&clock) as _).await?;
    let agent = TestAgent::of(ca.gate().address())?
        .with_clock(Arc::clone(&clock) as _)
        .with_token(&ca.token("host-1", &[WEB]).await?)?
        .with_leaf_ttl("1h")
        .with_own_workload(WEB)
        .joined()
        .await?;
    let mut roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    let mut leaf = Subscriber::open(&agent.socket(), "default").await?;
    roots.applied().await?;
    let version = leaf.applied().await?.version_info;
    Ok((Absence { clock, ca, agent, roots, leaf }, version))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_leaf_is_served_until_it_expires_then_withheld_and_a_new_one_comes_with_the_ca()
-> anyhow::Result<()> {
    let (bench, first) = served().await?;
    let Absence { clock, ca, agent, mut roots, mut leaf } = bench;
    ca.gate().set_open(false);
    clock.advance(HOUR * 9 / 10);
    agent
        .until("the failed renewal is told", |status| status.workloads[0].last_error.is_some())
        .await?;
    agent.until_it_says("CA away").await?;
    let mut late = Subscriber::open(&agent.socket(), "default").await?;
    assert_eq!(
        late.applied().await?.version_info,
        first,
        "the last good leaf, to a new stream too"
    );

    clock.advance(HOUR / 10 + Duration::from_secs(1));
    agent.until("the expired leaf is gone", |status| status.workloads[0].serial.is_none()).await?;
    let mut later = Subscriber::open(&agent.socket(), "default").await?;
    assert!(later.is_quiet().await, "an expired leaf is given to nobody");
    let mut more_roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    assert_eq!(
        certificates(&more_roots.applied().await?)?.len(),
        1,
        "the roots are never taken away"
    );
    assert!(roots.is_quiet().await, "and nothing is said to those who have them");

    ca.gate().set_open(true);
    let renewed = while_time_passes(&clock, leaf.applied()).await?;
    assert_ne!(renewed.version_info, first, "without an operator");
    let well =
        |status: &Status| status.conditions.is_empty() && status.workloads[0].last_error.is_none();
    agent.until("all is well", well).await?;
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_own_certificate_expired_meanwhile_is_back_with_its_registered_key()
-> anyhow::Result<()> {
    let (bench, first) = served().await?;
    let Absence { clock, ca, agent, roots: _roots, mut leaf } = bench;
    ca.gate().set_open(false);
    clock.advance(HOUR * 25);
    agent.until("its certificate is gone", |status| status.member.is_none()).await?;
    ca.gate().set_open(true);
    agent.until("a member again", |status| status.member.is_some() && status.connected).await?;
    assert_ne!(while_time_passes(&clock, leaf.applied()).await?.version_info, first);
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_away_longer_than_it_may_asks_for_a_token_and_is_back_with_one()
-> anyhow::Result<()> {
    let (bench, first) = served().await?;
    let Absence { clock, ca, agent, roots: _roots, mut leaf } = bench;
    ca.gate().set_open(false);
    clock.advance(HOUR * 24 * 32);
    agent.until("its certificate is gone", |status| status.member.is_none()).await?;
    ca.gate().set_open(true);
    agent.until_it_says("banyan token create").await?;
    assert!(leaf.is_quiet().await);

    agent.write_token(&ca.token("host-1", &[WEB]).await?)?;
    agent.until("a member again", |status| status.member.is_some() && status.connected).await?;
    assert_ne!(while_time_passes(&clock, leaf.applied()).await?.version_info, first);
    ca.stop().await
}
