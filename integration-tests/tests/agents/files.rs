//! Files of the agent that others can read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use agent::StartError;
use integration_tests::mesh::{MeshCa, Subscriber, TestAgent};

use super::{WEB, mesh};

fn chmod(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_or_state_that_others_can_read_ends_the_start_with_the_command_that_helps()
-> anyhow::Result<()> {
    let (ca, mut agent) = mesh().await?;
    agent.stop().await;
    for (name, loose, strict) in [("state/agent.key", 0o640, 0o600), ("state", 0o750, 0o700)] {
        let path = agent.path(name);
        let before = std::fs::metadata(&path)?.len();
        chmod(&path, loose)?;
        let refused =
            agent.try_start().await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains(&format!("chmod {strict:04o} {}", path.display())), "{refused}");
        assert_eq!(
            std::fs::metadata(&path)?.permissions().mode() & 0o777,
            loose,
            "it is left as it was"
        );
        assert_eq!(std::fs::metadata(&path)?.len(), before);
        chmod(&path, strict)?;
    }
    agent.start().await?;
    agent.until("a member", |status| status.member.is_some() && status.connected).await?;
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_others_can_read_is_not_used_until_it_is_private() -> anyhow::Result<()> {
    let ca = MeshCa::start("", "").await?;
    let mut agent = TestAgent::of(ca.gate().address())?
        .with_token(&ca.token("host-1", &[WEB]).await?)?
        .with_own_workload(WEB);
    chmod(&agent.path("token"), 0o644)?;
    agent.start().await?;
    agent.until_it_says("chmod 0600").await?;
    assert!(ca.status().await?.agents.is_empty());
    chmod(&agent.path("token"), 0o600)?;
    agent.until("a member", |status| status.member.is_some()).await?;
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_on_the_same_state_is_refused_and_the_first_serves_on() -> anyhow::Result<()>
{
    let (ca, agent) = mesh().await?;
    assert!(matches!(agent.try_start().await, Err(StartError::Locked(_))));
    let mut roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    roots.applied().await?;
    ca.stop().await
}
