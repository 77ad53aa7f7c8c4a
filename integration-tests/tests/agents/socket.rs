//! Who is served at the socket.

use std::os::unix::fs::PermissionsExt as _;

use integration_tests::mesh::{MeshCa, Subscriber, TestAgent, certificates, run};
use tokio::process::Command;

use super::WEB;

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_another_user_is_denied_every_secret_and_causes_no_leaf() -> anyhow::Result<()>
{
    let ca = MeshCa::start("", "").await?;
    let own = rustix::process::geteuid();
    // Only root can start a process as another user. Without root the workload is another user's instead.
    let (owner, caller) =
        if own.is_root() { (0, NOBODY) } else { (own.as_raw() + 1, own.as_raw()) };
    let agent = TestAgent::of(ca.gate().address())?
        .with_token(&ca.token("host-1", &[WEB]).await?)?
        .with_workload(owner, WEB)
        .joined()
        .await?;
    let before = ca.status().await?;

    let program = agent.path("stranger");
    std::fs::copy(env!("CARGO_BIN_EXE_sds_untrusted"), &program)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let names = ["default", "ROOTCA", "ALL", WEB, "spiffe://example.org"];
    let mut untrusted = Command::new(&program);
    untrusted.current_dir("/").arg(agent.socket()).args(names).uid(caller);
    let (succeeded, said) = run(&mut untrusted).await?;
    assert!(succeeded, "{said}");
    let expected: Vec<String> =
        names.iter().map(|name| format!("{name}: PermissionDenied")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);

    let status = agent.status()?;
    assert!(status.holders.is_empty() && status.workloads[0].serial.is_none(), "{status:#?}");
    assert_eq!(ca.status().await?.issued_total, before.issued_total);
    assert!(ca.rows()?.of(WEB).is_empty());

    if own.is_root() {
        // The same socket serves the user that the workload belongs to.
        let mut roots = Subscriber::open(&agent.socket(), "ROOTCA").await?;
        let mut leaf = Subscriber::open(&agent.socket(), "default").await?;
        roots.applied().await?;
        assert!(!certificates(&leaf.applied().await?)?.is_empty());
    }
    ca.stop().await
}
