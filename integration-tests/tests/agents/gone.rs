//! Leaves whose keys are gone end: at an orderly stop by the agent's word, after a crash when it is asked.

use integration_tests::mesh::{MeshCa, TestAgent, eventually};
use trust::Serial;

const WARM: &str = "spiffe://example.org/warm";

async fn prewarmed(ca: &MeshCa) -> anyhow::Result<(TestAgent, Serial)> {
    let token = ca.token("host-1", &[WARM]).await?;
    let agent = TestAgent::of(ca.gate().address())?
        .with_token(&token)?
        .with_prewarmed(4_242, WARM)
        .joined()
        .await?;
    let serial = warm_serial(&agent).await?;
    Ok((agent, serial))
}

async fn warm_serial(agent: &TestAgent) -> anyhow::Result<Serial> {
    let at_hand =
        |status: &agent::Status| status.workloads.iter().any(|workload| workload.serial.is_some());
    let status = agent.until("a leaf is at hand", at_hand).await?;
    let text =
        status.workloads.iter().find_map(|workload| workload.serial.clone()).unwrap_or_default();
    let serial = Serial::from_bytes(&u128::from_str_radix(&text, 16)?.to_be_bytes());
    serial.ok_or_else(|| anyhow::anyhow!("no serial: {text}"))
}

async fn has_ended(ca: &MeshCa, serial: Serial) -> anyhow::Result<()> {
    eventually("its row has ended", async || {
        ca.rows().is_ok_and(|rows| rows.ended.contains(&serial))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stops_in_order_gives_up_what_nobody_holds() -> anyhow::Result<()> {
    let ca = MeshCa::start("", "").await?;
    let (mut agent, serial) = prewarmed(&ca).await?;
    agent.stop().await;
    has_ended(&ca, serial).await?;
    agent.start().await?;
    let next = warm_serial(&agent).await?;
    assert_ne!(next, serial);
    assert!(!ca.rows()?.ended.contains(&next));
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_an_agent_is_asked_about_what_it_lost_and_no_rotation_waits_for_it()
-> anyhow::Result<()> {
    let ca = MeshCa::start("", "[rotation]\nsettle = \"1s\"\nwithdrawal_max = \"5s\"\n").await?;
    let (mut agent, serial) = prewarmed(&ca).await?;
    // Until then it cannot tell leaves of its own from those of holders before it.
    eventually("its account has begun", async || {
        let account = std::fs::read_to_string(agent.path("state/holders.json"));
        account.is_ok_and(|text| text.contains("\"silent_until\": 0"))
    })
    .await?;
    agent.crash();
    assert!(!ca.rows()?.ended.contains(&serial), "nobody said anything");
    agent.start().await?;
    has_ended(&ca, serial).await?;
    ca.rotate("one").await?;
    let over = |rotation: &proto::banyan::admin::v1::Rotation| rotation.phase == "steady";
    ca.until_rotation("nobody waits for a leaf of a day", std::time::Duration::from_secs(90), over)
        .await?;
    ca.stop().await
}
