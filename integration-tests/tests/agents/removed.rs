//! An operator removes or bans an agent that runs, and what its node needs the day after.

use integration_tests::mesh::admin_channel;
use proto::banyan::admin::v1::RuleAgentsRequest;
use proto::banyan::admin::v1::agent_admin_service_client::AgentAdminServiceClient;

use super::{WEB, mesh};

fn about_host() -> RuleAgentsRequest {
    let (name, reason) = ("host-1".to_owned(), "reinstalled".to_owned());
    RuleAgentsRequest { name, reason, ..RuleAgentsRequest::default() }
}

fn says(status: &agent::Status, condition: &str) -> bool {
    status.conditions.iter().any(|text| text.starts_with(condition))
}

fn is_well(status: &agent::Status) -> bool {
    status.connected && status.conditions.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_removed_is_a_member_again_with_a_new_token_and_nothing_else()
-> anyhow::Result<()> {
    let (ca, mut agent) = mesh().await?;
    let mut operator = AgentAdminServiceClient::new(admin_channel(&ca.running().admin_socket));
    // While it runs: the token that it joined with a moment ago is no way back.
    operator.remove_agents(about_host()).await?;
    let told = agent.until("it says so", |status| says(status, "not a member")).await?;
    assert!(!says(&told, "CA away"), "{:?}", told.conditions);
    let told = told.conditions.join(" ");
    assert!(told.contains("give the agent a new join token"), "{told}");
    assert!(!told.contains("permission"), "the words of gRPC are nobody's: {told}");
    agent.write_token(&ca.token("host-1", &[WEB]).await?)?;
    agent.until("a member again", is_well).await?;
    // While it is stopped.
    operator.remove_agents(about_host()).await?;
    agent.stop().await;
    agent.write_token(&ca.token("host-1", &[WEB]).await?)?;
    agent.start().await?;
    agent.until("a member again after a restart", is_well).await?;
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_ban_is_lifted_is_back_before_long() -> anyhow::Result<()> {
    let (ca, agent) = mesh().await?;
    let mut operator = AgentAdminServiceClient::new(admin_channel(&ca.running().admin_socket));
    operator.ban_agents(about_host()).await?;
    let told = agent.until("it says so", |status| says(status, "banned: ")).await?;
    assert!(told.conditions.join(" ").contains("banyan agent unban"), "{:?}", told.conditions);
    operator.unban_agents(about_host()).await?;
    let again = agent.until("served again", is_well);
    tokio::time::timeout(std::time::Duration::from_secs(30), again).await??;
    ca.stop().await
}
