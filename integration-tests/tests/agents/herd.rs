//! Many agents at once: a change of trust brings all of them to the CA anew, and not at the same moment.

use std::time::Duration;

use futures::StreamExt as _;
use integration_tests::mesh::{MeshCa, TestAgent};
use tokio::time::Instant;

const AGENTS: usize = 200;
/// The CA wants them over `AGENTS` divided by this, in seconds.
const PER_SECOND: usize = 20;
const SPREAD: Duration = Duration::from_secs((AGENTS / PER_SECOND) as u64);
/// Agents that join at a time.
const AT_ONCE: usize = 16;
/// Longest wait for all of them, on a machine that is busy.
const ALL: Duration = Duration::from_secs(120);

async fn agent(ca: &MeshCa, number: usize) -> anyhow::Result<TestAgent> {
    let token = ca.token(&format!("host-{number}"), &[super::WEB]).await?;
    TestAgent::of(ca.gate().address())?.with_token(&token)?.joined().await
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_come_back_after_a_change_of_trust_over_the_time_that_the_ca_said()
-> anyhow::Result<()> {
    let ca =
        MeshCa::start("", &format!("[agents]\nreconnects_per_second = {PER_SECOND}\n")).await?;
    let joining = (0..AGENTS).map(|number| agent(&ca, number));
    let joined: Vec<_> = futures::stream::iter(joining).buffer_unordered(AT_ONCE).collect().await;
    let agents: Vec<TestAgent> = joined.into_iter().collect::<anyhow::Result<_>>()?;
    // Whoever joined first was told of few: each hears of all with the next bundle.
    let before = ca.gate().arrivals().len();
    let began = Instant::now();
    ca.rotate_in_mode("change", "manual").await?;
    let came = async {
        loop {
            let arrivals = ca.gate().arrivals();
            if arrivals.len() >= before + AGENTS {
                return arrivals;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let arrivals = tokio::time::timeout(ALL, came).await?;
    let after: Vec<Duration> =
        arrivals.iter().skip(before).take(AGENTS).map(|came| came.duration_since(began)).collect();
    let within = |part: u32| after.iter().filter(|came| **came < SPREAD * part / 10).count();
    // Uniform would be 20 of 100 in each fifth; without what the CA says all come within two seconds.
    assert!(within(2) < AGENTS * 2 / 5, "{} of {AGENTS} within a fifth of {SPREAD:?}", within(2));
    assert!(
        within(6) < AGENTS * 9 / 10,
        "{} of {AGENTS} within three fifths of {SPREAD:?}",
        within(6)
    );
    for agent in &agents {
        agent
            .until("it has the bundle, on a stream", |status| {
                status.sequence == 2 && status.connected
            })
            .await?;
    }
    drop(agents);
    ca.stop().await
}
