//! Which store a server takes, and which it refuses.

use std::sync::Arc;
use std::time::Duration;

use ca_server::HostDeps;
use integration_tests::faults::{CaDir, Door, Member};
use stores::SharedStore as _;
use stores::fake::FakeStore;

use crate::support::{LIMITS, Over};

/// A store on this machine that nobody serves; each test puts another in its place.
const NOWHERE: &str = "[store]\nengine = \"etcd\"\nendpoints = [\"http://127.0.0.1:1\"]\n";

fn elsewhere(domain: &str) -> anyhow::Result<CaDir> {
    let ca_dir = CaDir::new(&format!("{LIMITS}{NOWHERE}prefix = \"/banyan/one\"\n"))?;
    let text = std::fs::read_to_string(ca_dir.config_path())?.replace("example.org", domain);
    std::fs::write(ca_dir.config_path(), text)?;
    Ok(ca_dir)
}

async fn refused(ca_dir: &CaDir, store: &FakeStore) -> anyhow::Result<String> {
    let over = Over::new(Arc::new(store.clone()));
    let started = ca_dir.start_embedded(HostDeps::system(), &over).await?;
    Ok(started.map(drop).unwrap_err().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_at_the_start_is_waited_for() -> anyhow::Result<()> {
    let (ca_dir, store) = (elsewhere("example.org")?, FakeStore::new());
    store.fail_reads(true);
    let over = Over::new(Arc::new(store.clone()));
    let starting = ca_dir.start_embedded(HostDeps::system(), &over);
    tokio::pin!(starting);
    let early = tokio::time::timeout(Duration::from_secs(2), &mut starting).await;
    assert!(early.is_err(), "it neither starts nor gives up");
    store.fail_reads(false);
    let running = starting.await??;
    let door = Door::of(&running)?;
    Member::join(&door, "agent").await?.issue().await?;
    CaDir::stop(running).await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_trust_domain_on_the_same_prefix_is_refused_by_name() -> anyhow::Result<()> {
    let (ours, theirs, store) =
        (elsewhere("example.org")?, elsewhere("other.test")?, FakeStore::new());
    let over = Over::new(Arc::new(store.clone()));
    CaDir::stop(ours.start_embedded(HostDeps::system(), &over).await??).await?;
    let said = refused(&theirs, &store).await?;
    for named in ["prefix /banyan/one", "trust domain example.org", "configured for other.test"] {
        assert!(said.contains(named), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_whose_state_is_elsewhere_makes_no_new_ca_there_or_here() -> anyhow::Result<()>
{
    let (ca_dir, store) = (elsewhere("example.org")?, FakeStore::new());
    let over = Over::new(Arc::new(store.clone()));
    CaDir::stop(ca_dir.start_embedded(HostDeps::system(), &over).await??).await?;
    let empty = FakeStore::new();
    let said = refused(&ca_dir, &empty).await?;
    assert!(said.contains("holds no CA") && said.contains("data/keys"), "{said}");
    let key = stores::spaces::META.key("trust-domain")?;
    assert_eq!(empty.get(&key).await?, None, "nothing was made");

    let text = std::fs::read_to_string(ca_dir.config_path())?.replace("\"etcd\"", "\"redb\"");
    let without: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("endpoints") && !line.starts_with("prefix"))
        .collect();
    std::fs::write(ca_dir.config_path(), without.join("\n"))?;
    let said = ca_dir.start_once().await?.unwrap_err().to_string();
    assert!(said.contains("state.redb is missing") && said.contains("data/keys"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_in_the_directory_is_not_left_for_another_place() -> anyhow::Result<()> {
    let (ca_dir, there) = (CaDir::new(LIMITS)?, elsewhere("example.org")?);
    CaDir::stop(ca_dir.start().await?).await?;
    CaDir::copy(&ca_dir.data(), &there.data())?;
    let said = refused(&there, &FakeStore::new()).await?;
    assert!(
        said.contains("state.redb holds the state of a CA") && said.contains("[store]"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_edited_is_refused_by_name() -> anyhow::Result<()> {
    let (ca_dir, store) = (elsewhere("example.org")?, FakeStore::new());
    let over = Over::new(Arc::new(store.clone()));
    CaDir::stop(ca_dir.start_embedded(HostDeps::system(), &over).await??).await?;
    let key = stores::spaces::RECORD.key("record")?;
    let mut there = store.get(&key).await?.unwrap();
    let last = there.value.len() - 9;
    there.value[last] ^= 1;
    store.put(&key, &there.value, &there.version).await?;
    let said = refused(&ca_dir, &store).await?;
    assert!(said.contains("space record") && said.contains("restore a backup"), "{said}");
    Ok(())
}
