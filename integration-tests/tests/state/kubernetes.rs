//! A server whose store is the API of a real Kubernetes, with the rights that docs/stores.md gives and no other.

use integration_tests::faults::{CaDir, Door, Member};
use serde_json::json;
use stores_peers::{ApiServer, Token};

use crate::backup::{done, refused};
use crate::moving::rotates;
use crate::support::{LIMITS, verified};

/// A namespace of a cluster, and a directory whose CA keeps its state there.
async fn in_a_namespace(server: &ApiServer) -> anyhow::Result<CaDir> {
    server.add_namespace("banyan").await?;
    let verbs = ["get", "list", "watch", "create", "update", "delete"];
    let rules =
        json!([{ "apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": verbs }]);
    server.grant("banyan", Token::Ca, rules).await?;
    let kubeconfig = server.kubeconfig(server.address(), Token::Ca)?;
    let section = format!(
        "[store]\nengine = \"kubernetes\"\nnamespace = \"banyan\"\nkubeconfig = {kubeconfig:?}\n"
    );
    CaDir::new(&format!("{LIMITS}{section}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_over_the_api_of_kubernetes_is_verified_and_restored_in_its_place()
-> anyhow::Result<()> {
    let server = ApiServer::start().await?;
    let ca_dir = in_a_namespace(&server).await?;
    let running = ca_dir.start().await?;
    Member::join(&Door::of(&running)?, "agent-1").await?.issue().await?;
    rotates(&running, "before-the-backup").await?;
    let made = done(&ca_dir, &["state", "backup", "one", "--config", "ca.toml"]).await?;
    let seen = done(&ca_dir, &["state", "verify", "one", "--config", "ca.toml"]).await?;
    assert!(seen["backup"] == made["backup"] && seen["keys"][0]["opens"] == true, "{seen}");
    Member::join(&Door::of(&running)?, "after-the-backup").await?.issue().await?;
    let signs = verified(&running).await?.signing_root();
    CaDir::stop(running).await?;

    // Where no server answers the cluster is read.
    let two = done(&ca_dir, &["state", "backup", "two", "--config", "ca.toml"]).await?;
    assert!(two["generation"].as_u64() >= made["generation"].as_u64(), "{two}");
    let restore = ["state", "restore", "one", "--config", "ca.toml"];
    let said = refused(&ca_dir, &restore, 4).await?;
    let word = said.split("--replace ").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    let restored = done(&ca_dir, &[&restore[..], &["--replace", word]].concat()).await?;
    assert_eq!(restored["backup"], made["backup"]);

    let running = ca_dir.start().await?;
    let record = verified(&running).await?;
    assert!(record.segments.keys().any(|id| id.as_str().starts_with("lost-g")), "{record:?}");
    assert_eq!(record.signing_root(), signs);
    Member::join(&Door::of(&running)?, "agent-3").await?.issue().await?;
    rotates(&running, "after-the-restore").await?;
    CaDir::stop(running).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_over_the_api_of_kubernetes_rotates_and_goes_on_after_a_restart() -> anyhow::Result<()>
{
    let server = ApiServer::start().await?;
    let ca_dir = in_a_namespace(&server).await?;
    let mut roots = Vec::new();
    for (start, agent) in ["agent-1", "agent-2"].into_iter().enumerate() {
        let running = ca_dir.start().await?;
        Member::join(&Door::of(&running)?, agent).await?.issue().await?;
        rotates(&running, &format!("after-start-{start}")).await?;
        roots.push(verified(&running).await?.signing_root());
        CaDir::stop(running).await?;
        assert!(!ca_dir.data().join("state.redb").exists(), "the state is elsewhere");
    }
    assert!(roots.iter().all(Option::is_some) && roots[0] != roots[1], "{roots:?}");
    Ok(())
}
