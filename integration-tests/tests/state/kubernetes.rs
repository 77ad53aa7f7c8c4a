//! A server whose store is the API of a real Kubernetes, with the rights that docs/stores.md gives and no other.

use integration_tests::faults::{CaDir, Door, Member};
use serde_json::json;
use stores_peers::{ApiServer, Token};

use crate::moving::rotates;
use crate::support::{LIMITS, verified};

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_over_the_api_of_kubernetes_rotates_and_goes_on_after_a_restart() -> anyhow::Result<()>
{
    let server = ApiServer::start().await?;
    server.add_namespace("banyan").await?;
    let verbs = ["get", "list", "watch", "create", "update", "delete"];
    let rules =
        json!([{ "apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": verbs }]);
    server.grant("banyan", Token::Ca, rules).await?;
    let kubeconfig = server.kubeconfig(server.address(), Token::Ca)?;
    let section = format!(
        "[store]\nengine = \"kubernetes\"\nnamespace = \"banyan\"\nkubeconfig = {kubeconfig:?}\n"
    );
    let ca_dir = CaDir::new(&format!("{LIMITS}{section}"))?;
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
