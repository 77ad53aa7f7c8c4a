//! Backups by command: of a running server and of a store, restored elsewhere, in the middle of a rotation, and without keys.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use ca_server::{Config, HostDeps, Running, Server};
use integration_tests::faults::{CaDir, Door, Durable, Member};
use integration_tests::mesh::write_private;
use proto::banyan::admin::v1::{DecideRotationRequest, StartRotationRequest, Verb};
use rotation::Phase;
use serde_json::Value;

use crate::etcd::Etcd;
use crate::support::{LIMITS, rotations, until, verified};

const BANYAN: &str = env!("CARGO_BIN_EXE_banyan_under_test");

pub(crate) async fn banyan(ca_dir: &CaDir, words: &[&str]) -> anyhow::Result<Output> {
    let mut command = tokio::process::Command::new(BANYAN);
    command.args(words).current_dir(ca_dir.directory()).env_remove("BANYAN_ADMIN_SOCKET");
    Ok(command.kill_on_drop(true).output().await?)
}

/// What it says as JSON.
pub(crate) async fn done(ca_dir: &CaDir, words: &[&str]) -> anyhow::Result<Value> {
    let said = banyan(ca_dir, &[words, &["--json"]].concat()).await?;
    anyhow::ensure!(said.status.success(), "{words:?}: {}", String::from_utf8_lossy(&said.stderr));
    Ok(serde_json::from_slice(&said.stdout)?)
}

/// What it says when it fails with this code.
pub(crate) async fn refused(ca_dir: &CaDir, words: &[&str], code: i32) -> anyhow::Result<String> {
    let said = banyan(ca_dir, words).await?;
    let text = String::from_utf8(said.stderr)?;
    assert_eq!(said.status.code(), Some(code), "{words:?}: {text}");
    Ok(text)
}

/// The configuration with this section behind it.
fn with(ca_dir: &CaDir, section: &str) -> anyhow::Result<PathBuf> {
    let path = ca_dir.beside("etcd.toml");
    let text = std::fs::read_to_string(ca_dir.config_path())?;
    std::fs::write(&path, format!("{text}\n{section}"))?;
    Ok(path)
}

/// The file of the state is lost; everything else of the directory is there.
fn loses_its_state(ca_dir: &CaDir) -> anyhow::Result<()> {
    let state = ca_dir.data().join("state.redb");
    let n = std::fs::read_dir(ca_dir.directory())?.count();
    Ok(std::fs::rename(&state, ca_dir.beside(&format!("lost-{n}")))?)
}

async fn over(running: &Running, id: &str) -> anyhow::Result<()> {
    let ended = |rotation: &proto::banyan::admin::v1::Rotation| {
        rotation.phase == "steady" && rotation.done.iter().any(|done| done == id)
    };
    until(running, id, ended).await.map(drop)
}

async fn start(config: &Path) -> anyhow::Result<Running> {
    Ok(Box::pin(Server::start(Config::load(config)?, HostDeps::system())).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_from_a_file_to_etcd_and_back_beside_ledgers_that_are_newer()
-> anyhow::Result<()> {
    let (ca_dir, etcd) = (CaDir::new(LIMITS)?, Etcd::start().await?);
    let running = ca_dir.start().await?;
    let roots = verified(&running).await?.roots;
    let made = done(&ca_dir, &["state", "backup", "one", "--config", "ca.toml"]).await?;
    assert!(made["from"] == "the running server" && made["with_keys"] == true, "{made}");
    let mode = std::fs::metadata(ca_dir.beside("one"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is as secret as the state");
    let said = refused(&ca_dir, &["state", "backup", "one", "--config", "ca.toml"], 4).await?;
    assert!(said.contains("one exists") && said.contains("--force"), "{said}");
    let mut member = Member::join(&Door::of(&running)?, "after-the-backup").await?;
    let released = vec![member.own_leaf(), member.issue().await?];
    let said = refused(&ca_dir, &["state", "restore", "one", "--config", "ca.toml"], 1).await?;
    assert!(said.contains("in use by"), "a server runs: {said}");
    CaDir::stop(running).await?;

    let seen = done(&ca_dir, &["state", "verify", "one", "--config", "ca.toml"]).await?;
    assert!(seen["keys"][0]["opens"] == true && seen["roots"][0]["state"] == "active", "{seen}");
    write_private(&ca_dir.beside("wrong"), "another passphrase")?;
    let said =
        refused(&ca_dir, &["state", "verify", "one", "--passphrase-file", "wrong"], 1).await?;
    assert!(said.contains("do not open") && said.contains("passphrase"), "{said}");

    let there = with(&ca_dir, &etcd.section())?;
    let restore = ["state", "restore", "one", "--config", "etcd.toml"];
    let said = refused(&ca_dir, &restore, 1).await?;
    assert!(said.contains("state.redb holds the state of a CA"), "{said}");
    loses_its_state(&ca_dir)?;
    let text = std::fs::read_to_string(ca_dir.beside("etcd.toml"))?;
    let passphrase = std::fs::read(ca_dir.beside("passphrase"))?;
    assert!(text.contains("passphrase"), "{text}");
    write_private(&ca_dir.beside("passphrase"), "another passphrase")?;
    let said = refused(&ca_dir, &restore, 4).await?;
    assert!(said.contains("nothing was restored") && said.contains("--unopened"), "{said}");
    let unopened = [&restore[..], &["--unopened"]].concat();
    done(&ca_dir, &unopened).await?;
    write_private(&ca_dir.beside("passphrase"), std::str::from_utf8(&passphrase)?)?;
    let said = refused(&ca_dir, &restore, 4).await?;
    let word = said.split("--replace ").nth(1).unwrap_or_default();
    let word: String = word.chars().take_while(char::is_ascii_alphanumeric).collect();
    let restored = done(&ca_dir, &[&restore[..], &["--replace", &word]].concat()).await?;
    assert_eq!(restored["backup"], made["backup"]);
    let said = refused(&ca_dir, &restore, 4).await?;
    assert!(said.contains("at generation") && said.contains("--replace "), "{said}");

    let running = start(&there).await?;
    let record = verified(&running).await?;
    assert!(record.segments.keys().any(|id| id.as_str().starts_with("lost-g")), "{record:?}");
    assert_eq!(record.roots.keys().collect::<Vec<_>>(), roots.keys().collect::<Vec<_>>());
    let request = StartRotationRequest { request_id: "next".to_owned(), ..Default::default() };
    rotations(&running).start_rotation(request).await?;
    over(&running, "next").await?;
    Member::join(&Door::of(&running)?, "agent-2").await?.issue().await?;
    let made = done(&ca_dir, &["state", "backup", "two", "--config", "etcd.toml"]).await?;
    CaDir::stop(running).await?;
    // The store is read where no server answers.
    let again =
        done(&ca_dir, &["state", "backup", "two", "--force", "--config", "etcd.toml"]).await?;
    assert!(again["from"].as_str().unwrap_or_default().contains("etcd at"), "{again}");
    assert!(again["generation"].as_u64() >= made["generation"].as_u64(), "{again}");

    done(&ca_dir, &["state", "restore", "two", "--config", "ca.toml"]).await?;
    let running = ca_dir.start().await?;
    assert_eq!(verified(&running).await?.roots.len(), 2, "one root more by the rotation");
    Member::join(&Door::of(&running)?, "agent-3").await?.issue().await?;
    CaDir::stop(running).await?;
    let rows = Durable::read(&ca_dir.data()).await?;
    for leaf in &released {
        let serial = leaf.serial().unwrap();
        assert!(rows.has(&serial), "the ledger lost {serial}, which was released after the backup");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_from_the_middle_of_a_rotation_ends_it_and_takes_no_root_out_that_signed_since()
-> anyhow::Result<()> {
    let ca_dir = CaDir::new(LIMITS)?;
    let running = ca_dir.start().await?;
    let request = StartRotationRequest {
        request_id: "r".to_owned(),
        mode: "manual".to_owned(),
        ..Default::default()
    };
    rotations(&running).start_rotation(request).await?;
    until(&running, "distributing", |rotation| rotation.phase == "distributing").await?;
    done(&ca_dir, &["state", "backup", "middle", "--config", "ca.toml"]).await?;
    activated(&running, "before").await?;
    until(&running, "draining", |rotation| rotation.phase == "draining").await?;
    let mut member = Member::join(&Door::of(&running)?, "under-the-new-root").await?;
    member.issue().await?;
    CaDir::stop(running).await?;
    loses_its_state(&ca_dir)?;

    done(&ca_dir, &["state", "restore", "middle", "--config", "ca.toml"]).await?;
    let running = ca_dir.start().await?;
    let record = verified(&running).await?;
    assert!(matches!(record.phase, Phase::Distributing(_)), "{:?}", record.phase);
    let abort = decides("abort", Verb::Abort);
    let told = rotations(&running).decide_rotation(abort).await.unwrap_err();
    assert!(told.message().contains("may have signed after the backup"), "{told}");
    activated(&running, "after").await?;
    over(&running, "r").await?;
    verified(&running).await?;
    CaDir::stop(running).await
}

fn decides(id: &str, verb: Verb) -> DecideRotationRequest {
    let (request_id, by, reason) = (id.to_owned(), "ada".to_owned(), "a test".to_owned());
    DecideRotationRequest { request_id, verb: verb.into(), by, reason, ..Default::default() }
}

/// Lets the new root sign as soon as its gate is open.
async fn activated(running: &Running, id: &str) -> anyhow::Result<()> {
    let activate = async {
        loop {
            match rotations(running).decide_rotation(decides(id, Verb::Activate)).await {
                Ok(_) => return,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            }
        }
    };
    Ok(tokio::time::timeout(crate::support::ROTATION_MAX, activate).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_keys_goes_on_beside_the_servers_own_and_leads_to_a_new_root()
-> anyhow::Result<()> {
    let ca_dir = CaDir::new(LIMITS)?;
    CaDir::stop(ca_dir.start().await?).await?;
    let made =
        done(&ca_dir, &["state", "backup", "one", "--without-keys", "--config", "ca.toml"]).await?;
    assert!(made["with_keys"] == false && made["counts"]["root-keys"].is_null(), "{made}");
    loses_its_state(&ca_dir)?;
    let said = banyan(&ca_dir, &["state", "restore", "one", "--config", "ca.toml"]).await?;
    let said = String::from_utf8(said.stdout)?;
    assert!(said.contains("keys of roots are not in") && said.contains("rotate start"), "{said}");
    let running = ca_dir.start().await?;
    Member::join(&Door::of(&running)?, "agent").await?.issue().await?;
    let request = StartRotationRequest { request_id: "away".to_owned(), ..Default::default() };
    rotations(&running).start_rotation(request).await?;
    over(&running, "away").await?;
    CaDir::stop(running).await?;

    // A server that lost its own keys too cannot go on, and says so.
    loses_its_state(&ca_dir)?;
    std::fs::remove_dir_all(ca_dir.data())?;
    done(&ca_dir, &["state", "restore", "one", "--config", "ca.toml"]).await?;
    let said = ca_dir.start_once().await?.unwrap_err().to_string();
    assert!(said.contains("no issuer") && said.contains("key"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_the_configuration_looks_into_the_shared_store() -> anyhow::Result<()> {
    let (ca_dir, etcd) = (CaDir::new(LIMITS)?, Etcd::start().await?);
    let check = ["config", "check", "etcd.toml"];
    let there = with(&ca_dir, &etcd.section())?;
    assert!(banyan(&ca_dir, &check).await?.status.success(), "empty, and nothing ran here");
    CaDir::stop(start(&there).await?).await?;
    assert!(banyan(&ca_dir, &check).await?.status.success());
    let text = std::fs::read_to_string(&there)?;
    let prefix = "prefix = \"/banyan/example.org\"\n";
    std::fs::write(
        &there,
        format!("{}{prefix}", text.replace("\"example.org\"", "\"other.test\"")),
    )?;
    let said = refused(&ca_dir, &check, 5).await?;
    assert!(said.contains("trust domain example.org") && said.contains("other.test"), "{said}");
    std::fs::write(&there, format!("{text}prefix = \"/elsewhere\"\n"))?;
    let said = refused(&ca_dir, &check, 5).await?;
    assert!(said.contains("it holds no CA") && said.contains("keys is there"), "{said}");
    drop(etcd);
    let said = refused(&ca_dir, &check, 5).await?;
    assert!(said.contains("a server would wait for it"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verb_moves_a_state_to_etcd_and_back() -> anyhow::Result<()> {
    let (ca_dir, etcd) = (CaDir::new(LIMITS)?, Etcd::start().await?);
    CaDir::stop(ca_dir.start().await?).await?;
    with(&ca_dir, &etcd.section())?;
    let moved =
        done(&ca_dir, &["state", "move", "--config", "ca.toml", "--to", "etcd.toml"]).await?;
    assert_eq!(moved["keys"]["root-keys"], 2, "{moved}");
    let said =
        refused(&ca_dir, &["state", "move", "--config", "ca.toml", "--to", "ca.toml"], 1).await?;
    assert!(said.contains("both files name"), "{said}");
    let said = refused(&ca_dir, &["state", "backup", "gone", "--config", "ca.toml"], 1).await?;
    assert!(said.contains("it was moved to etcd at"), "{said}");
    let back =
        done(&ca_dir, &["state", "move", "--config", "etcd.toml", "--to", "ca.toml"]).await?;
    assert_eq!(back["ca"], moved["ca"]);
    CaDir::stop(ca_dir.start().await?).await
}
