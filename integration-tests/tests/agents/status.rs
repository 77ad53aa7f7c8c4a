//! `banyan agent status`, asked on the node.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use integration_tests::mesh::{Subscriber, TestAgent};
use serde_json::Value;
use tokio::process::Command;

use super::{WEB, mesh};

const BANYAN: &str = env!("CARGO_BIN_EXE_banyan_under_test");
/// A user that owns nothing.
const NOBODY: u32 = 65_534;

fn asking(agent: &TestAgent, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").args(["agent", "status", "--json", "--socket"]).arg(agent.socket());
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn asked(agent: &TestAgent) -> anyhow::Result<(Option<i32>, Value)> {
    let output = asking(agent, BANYAN).output().await?;
    Ok((output.status.code(), serde_json::from_slice(&output.stdout)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_tells_its_administrator_of_its_ca_its_bundle_and_who_holds_what()
-> anyhow::Result<()> {
    let (ca, agent) = mesh().await?;
    let (code, said) = asked(&agent).await?;
    assert_eq!((code, &said["connected"]), (Some(0), &Value::Bool(true)), "{said}");
    assert_eq!(said["sequence"], 1);
    assert_eq!(said["bundle_digest"].as_str().map(str::len), Some(64), "{said}");
    assert!(said["not_after"].is_string() && said["connection_since"].is_string(), "{said}");
    assert_eq!(said["workloads"][0]["serial"], Value::Null, "nobody asked for one: {said}");

    // Somebody who takes a leaf, and has acknowledged the bundle, is a holder.
    let mut roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
    let mut leaf = Subscriber::open(&agent.socket(), "default").await?;
    roots.applied().await?;
    leaf.applied().await?;
    let holds =
        |status: &agent::Status| status.holders.iter().any(|holder| holder.applied == Some(1));
    agent.until("the holder has acknowledged", holds).await?;
    let (_, said) = asked(&agent).await?;
    assert_eq!(said["workloads"][0]["id"], WEB);
    assert_eq!(said["holders"][0]["acknowledged"], 1, "{said}");
    assert_eq!(said["holders"][0]["serials"][0], said["workloads"][0]["serial"], "{said}");
    assert_eq!(said["waits"].as_array().map(Vec::len), Some(0), "{said}");

    // The CA goes away: since when, and that this is wrong.
    ca.gate().set_open(false);
    agent
        .until("the CA is away", |status| !status.connected && !status.conditions.is_empty())
        .await?;
    let (code, said) = asked(&agent).await?;
    assert_eq!((code, &said["connected"]), (Some(1), &Value::Bool(false)), "{said}");
    assert!(
        said["conditions"][0].as_str().is_some_and(|text| text.starts_with("CA away")),
        "{said}"
    );
    ca.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_is_refused_with_the_reason_and_an_agent_that_is_gone_is_unreachable()
-> anyhow::Result<()> {
    let (ca, mut agent) = mesh().await?;
    if rustix::process::geteuid().is_root() {
        let program = agent.path("asker");
        std::fs::copy(BANYAN, &program)?;
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        let mut stranger = asking(&agent, &program.display().to_string());
        let output = stranger.uid(NOBODY).output().await?;
        let told: Value = serde_json::from_slice(&output.stderr)?;
        assert_eq!(
            (output.status.code(), &told["error"]["code"]),
            (Some(4), &Value::from("refused")),
            "{told}"
        );
        let message = told["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("user 65534 may not ask"), "{told}");
        assert!(output.stdout.is_empty());
    }
    agent.stop().await;
    let output = asking(&agent, BANYAN).output().await?;
    let told: Value = serde_json::from_slice(&output.stderr)?;
    assert_eq!(
        (output.status.code(), &told["error"]["code"]),
        (Some(3), &Value::from("unreachable")),
        "{told}"
    );
    ca.stop().await
}
