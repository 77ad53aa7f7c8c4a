//! `banyan keys rewrap`: a CA under a new passphrase, and an attempt that breaks off.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use ca_server::{HostDeps, RewrapOrders, Server};
use host::{Fault, FaultDisk, How, Operation};
use integration_tests::faults::{CaDir, eventually};
use integration_tests::mesh::write_private;
use serde_json::Value;

use super::BANYAN;
use super::issuer::{active, asked};

const NEW: &str = "an entirely new passphrase";

async fn banyan(directory: &Path, words: &[&str]) -> anyhow::Result<Output> {
    let mut command = tokio::process::Command::new(BANYAN);
    Ok(command.args(words).current_dir(directory).kill_on_drop(true).output().await?)
}

/// Runs it, and answers with what it says on standard error.
async fn refused(directory: &Path, words: &[&str], code: i32) -> anyhow::Result<String> {
    let said = banyan(directory, words).await?;
    let text = String::from_utf8(said.stderr)?;
    assert_eq!(said.status.code(), Some(code), "{text}");
    Ok(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_passphrase_of_a_ca_is_changed_by_command_and_everything_goes_on() -> anyhow::Result<()>
{
    let ca_dir = CaDir::new("")?;
    let directory = ca_dir.directory();
    let next = ca_dir.beside("next");
    write_private(&next, NEW)?;
    write_private(&ca_dir.beside("short"), "short")?;
    let rewrap = ["keys", "rewrap", "--config", "ca.toml", "--to", "next"];
    let running = ca_dir.start().await?;
    let before = active(&running).await?;
    let told = refused(directory, &rewrap, 4).await?;
    assert!(told.contains("in use by process"), "{told}");
    running.shutdown(Duration::from_secs(1)).await;

    let told =
        refused(directory, &["keys", "rewrap", "--config", "ca.toml", "--to", "short"], 4).await?;
    assert!(told.contains("short") && told.contains("new passphrase"), "{told}");
    let told = refused(directory, &[&rewrap[..], &["--from", "next"]].concat(), 4).await?;
    assert!(told.contains("the passphrase in next does not open"), "{told}");

    let done = banyan(directory, &[&rewrap[..], &["--json"]].concat()).await?;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done: Value = serde_json::from_slice(&done.stdout)?;
    let moved: Vec<u64> = done["stores"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|store| store["moved"].as_u64())
        .collect();
    assert_eq!(moved, [1, 1], "the root's key, which servers share, and the issuer's: {done}");
    let again = banyan(directory, &rewrap).await?;
    let again = String::from_utf8(again.stdout)?;
    assert!(again.contains("0 keys put under the new passphrase, 1 under it before"), "{again}");
    assert!(again.contains("passphrase_file = \"next\" into [keys]"), "{again}");

    let old = ca_dir.start().await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(old.contains("the passphrase does not open the key store"), "{old}");
    write_private(&ca_dir.beside("passphrase"), NEW)?;
    let running = ca_dir.start().await?;
    assert_eq!(active(&running).await?, before, "the same root, and the same issuer");
    // The root's key signs.
    let said = asked(&running, &["issuer", "renew"]).await?;
    assert_eq!(said, Some(0));
    let renewed = || async {
        active(&running).await.is_ok_and(|now| now.0 == before.0 && now.1.id != before.1.id)
    };
    eventually("another issuer signs", renewed).await?;
    running.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_passphrase_that_broke_off_is_told_and_ended_by_the_same_command()
-> anyhow::Result<()> {
    let ca_dir = CaDir::new("")?;
    let next = ca_dir.beside("next");
    write_private(&next, NEW)?;
    ca_dir.start().await?.shutdown(Duration::from_secs(1)).await;
    let disk = FaultDisk::default();
    disk.plan(Fault::next(Operation::Replace, How::DiesAfter).on("store.json"));
    let deps = HostDeps { disk: Arc::new(disk), ..HostDeps::system() };
    let orders = RewrapOrders { new: next, former: None, authority: None };
    let config = ca_dir.config()?;
    let broke_off = Server::rewrap(&config, &deps, &orders).await.unwrap_err().to_string();
    assert!(broke_off.contains("run this again with the same two"), "{broke_off}");

    let told = refused(ca_dir.directory(), &["config", "check", "ca.toml"], 5).await?;
    assert!(told.contains("banyan keys rewrap") && told.contains("data/keys"), "{told}");
    let told = ca_dir.start().await.err().map(|error| error.to_string()).unwrap_or_default();
    // Which of the two stores is looked at first does not matter.
    assert!(told.contains("passphrase"), "{told}");
    let ended =
        banyan(ca_dir.directory(), &["keys", "rewrap", "--config", "ca.toml", "--to", "next"])
            .await?;
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    write_private(&ca_dir.beside("passphrase"), NEW)?;
    ca_dir.start().await?.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
