//! A living CA goes from its file to a real etcd and back, and stays the same CA.

use std::path::PathBuf;

use ca_server::{Config, HostDeps, Server};
use integration_tests::faults::{CaDir, Door, Durable, Member};
use proto::banyan::admin::v1::StartRotationRequest;

use crate::etcd::Etcd;
use crate::support::{LIMITS, rotations, until, verified};

/// The configuration as it is, and with this section behind it.
fn with(ca_dir: &CaDir, section: &str) -> anyhow::Result<PathBuf> {
    let path = ca_dir.beside("other.toml");
    let text = std::fs::read_to_string(ca_dir.config_path())?;
    std::fs::write(&path, format!("{text}\n{section}"))?;
    Ok(path)
}

async fn moved(from: &Config, to: &Config) -> Result<ca_state::Moved, String> {
    Server::move_state(from, to, &HostDeps::system()).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_moves_to_etcd_and_back_with_a_rotation_on_each_side() -> anyhow::Result<()> {
    let (ca_dir, etcd) = (CaDir::new(LIMITS)?, Etcd::start().await?);
    let running = ca_dir.start().await?;
    let mut released = vec![Member::join(&Door::of(&running)?, "agent-1").await?.own_leaf()];
    let (here, there) = (ca_dir.config()?, Config::load(&with(&ca_dir, &etcd.section())?)?);
    let said = moved(&here, &there).await.unwrap_err();
    assert!(said.contains("in use by"), "a server runs: {said}");
    let roots = verified(&running).await?.roots;
    CaDir::stop(running).await?;

    let report = moved(&here, &there).await.map_err(anyhow::Error::msg)?;
    assert!(report.keys["journal"] > 2 && report.keys["root-keys"] == 2, "{report:?}");
    let said = ca_dir.start_once().await?.unwrap_err().to_string();
    assert!(
        said.contains("it was moved to etcd at") && said.contains("/banyan/example.org"),
        "{said}"
    );

    let running = Box::pin(Server::start(there.clone(), HostDeps::system())).await?;
    assert_eq!(
        verified(&running).await?.roots.keys().collect::<Vec<_>>(),
        roots.keys().collect::<Vec<_>>()
    );
    rotates(&running, "in-etcd").await?;
    let mut member = Member::join(&Door::of(&running)?, "agent-2").await?;
    member.issue().await?;
    CaDir::stop(running).await?;

    moved(&there, &here).await.map_err(anyhow::Error::msg)?;
    let said = Box::pin(Server::start(there, HostDeps::system())).await.unwrap_err().to_string();
    assert!(said.contains("state.redb holds the state of a CA, but [store] names etcd"), "{said}");
    let running = ca_dir.start().await?;
    let door = Door::of(&running)?;
    released.push(Member::join(&door, "agent-3").await?.own_leaf());
    rotates(&running, "back-again").await?;
    assert_eq!(verified(&running).await?.roots.len(), 3, "one root more for each rotation");
    released.push(Member::join(&Door::of(&running)?, "agent-4").await?.own_leaf());
    CaDir::stop(running).await?;
    Durable::read(&ca_dir.data()).await?.covers(&released[1..])
}

pub(crate) async fn rotates(running: &ca_server::Running, id: &str) -> anyhow::Result<()> {
    let request = StartRotationRequest { request_id: id.to_owned(), ..Default::default() };
    rotations(running).start_rotation(request).await?;
    let over = |rotation: &proto::banyan::admin::v1::Rotation| {
        rotation.phase == "steady" && rotation.done.iter().any(|done| done == id)
    };
    until(running, id, over).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_in_more_than_the_store_is_not_moved() -> anyhow::Result<()> {
    let ca_dir = CaDir::new(LIMITS)?;
    let here = ca_dir.config()?;
    let said = moved(&here, &here).await.unwrap_err();
    assert!(said.contains("both files name") && said.contains("state.redb"), "{said}");
    let etcd = "[store]\nengine = \"etcd\"\nendpoints = [\"http://127.0.0.1:1\"]\n";
    for (from, to, words) in [
        ("\"example.org\"", "\"example.com\"", "trust domains differ"),
        ("\"data\"", "\"elsewhere\"", "data directories differ"),
    ] {
        let path = with(&ca_dir, etcd)?;
        std::fs::write(&path, std::fs::read_to_string(&path)?.replace(from, to))?;
        let said = moved(&here, &Config::load(&path)?).await.unwrap_err();
        assert!(said.contains(words), "{said}");
    }
    assert!(!ca_dir.data().join("state.redb").exists());
    Ok(())
}
